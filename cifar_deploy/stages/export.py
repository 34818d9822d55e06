"""Trained networks -> artifacts, each validated against its network on every runtime that is here."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, machine, registry, trust
from cifar_deploy.core.errors import Corrupt, DeployError, Unavailable, WrongOutput
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome, failure_of
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, Checkpoint, Data, Job, Misreading, Parity
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.store import CHECKPOINT, Store, as_artifact, floor_name
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.stages import prepare, train
from cifar_deploy.workers import export as worker

log = logging.getLogger(__name__)


def export(
    store: Store,
    names: Sequence[str] = (),
    formats: Sequence[str] | None = None,
    *,
    input: Literal["float32", "uint8"] = "float32",
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Artifact]]:
    """Each training in each format, through the parity gate. A failure is an Artifact that holds its reason."""
    checkpoints = [train.checkpoint(store, name) for name in names or train.names(store)]
    wanted = [FORMATS.given(format) for format in formats or FORMATS if format != CHECKPOINT]
    if input == "uint8":
        wanted = [FORMATS.of_pixels(format) for format in wanted]
    pairs = [(checkpoint, format) for checkpoint in checkpoints for format in wanted]
    with files.scratch() as references:
        for done, (checkpoint, format) in enumerate(pairs):
            name = checkpoint.training.name
            if on_progress:
                on_progress(Progress(done=done, total=len(pairs), message=f"{name} {format}"))
            yield _export(store, checkpoint, format, again, references / f"{name}.npy")


def _export(store: Store, checkpoint: Checkpoint, format: str, again: bool, logits: Path) -> Outcome[Artifact]:
    """One of them; `logits` is where the network's own are, or will be for its other formats."""
    plugin = FORMATS[format]
    interpreter = registry.interpreter_for(plugin.requires, plugin.environment)
    versions = machine.versions([*plugin.requires, "numpy"], interpreter.path)
    if not again and (existing := _still_good(store, checkpoint, format, versions)):
        return Outcome(value=existing, reused=True)
    folder = store.artifact_folder(checkpoint.training.name, format)
    artifact = Artifact(
        checkpoint=checkpoint,
        format=format,
        files=(),
        parity=(),
        failure=None,
        versions=versions,
        seconds=0.0,
        commit=machine.commit(),
        finished=machine.now(),
    )
    with files.staging(folder) as staged:
        try:
            images = prepare.images_for(checkpoint)
            stand_in = prepare.stand_in_of(images, checkpoint)
            reference = worker.Reference(images=images, stand_in=stand_in, logits=logits)
            written = Worker(interpreter=interpreter).call(
                worker.write,
                checkpoint=checkpoint,
                format=format,
                root=store.root,
                reference=reference,
                staged=staged,
            )
            artifact = dataclasses.replace(
                artifact, files=written.files, seconds=written.seconds, choices=written.choices
            )
            artifact = _gated(artifact, reference, staged)
        except DeployError as error:
            with files.naming(folder):
                for part in staged.iterdir():
                    files.ask_for_room(part)
            artifact = dataclasses.replace(artifact, files=(), failure=failure_of(error))
        # What cannot be made today is no reason to lose what was made before.
        if not (artifact.failure and _is_whole(store, checkpoint, format)):
            store.save_artifact(artifact, staged)
    if plugin.is_program:
        for file in artifact.files:
            trust.remember(file.sha256)
    return Outcome(value=artifact, reused=False)


def _gated(artifact: Artifact, reference: worker.Reference, staged: Path) -> Artifact:
    """The artifact with what the gate found, through every backend that can be asked here.

    A backend whose device is not here is passed over, and the artifact says why. Raises WrongOutput if all that answer do
    so otherwise than the network, and the last error if none of them answers.
    """
    found, misread, failed = [], [], None
    unvalidated = {}
    for backend in readers(artifact.format):
        plugin = BACKENDS[backend]
        if registry.obstacle(plugin.requires, plugin.programs, plugin.environment):
            continue
        device_of(backend)
        try:
            parity = Worker(interpreter=registry.interpreter_for(plugin.requires, plugin.environment)).call(
                worker.check,
                artifact=artifact,
                backend=backend,
                reference=reference,
                staged=staged,
            )
            if reason := gate(parity, artifact.format):
                raise WrongOutput(f"{artifact.name} {artifact.format}: {reason}")
            found.append(parity)
        except Unavailable as error:
            unvalidated[backend] = str(error)
        except WrongOutput as error:
            versions = versions_of(backend)
            misread.append(Misreading(backend=backend, versions=versions, reason=str(error)))
        except DeployError as error:
            failed = error
    if misread and not found:
        raise WrongOutput(misread[0].reason)
    if failed and not found:
        raise failed
    return dataclasses.replace(artifact, parity=tuple(found), misread=tuple(misread), unvalidated=unvalidated)


def _is_whole(store: Store, checkpoint: Checkpoint, format: str) -> bool:
    """Whether an earlier export of these weights is there, by whatever versions."""
    with contextlib.suppress(Corrupt):
        existing = store.artifact(checkpoint.training.name, format)
        if existing and not existing.failure and existing.checkpoint.weights == checkpoint.weights:
            store.verified(existing)
            return True
    return False


def _still_good(store: Store, checkpoint: Checkpoint, format: str, versions: dict[str, str]) -> Artifact | None:
    """An earlier export of the same weights by the same versions, if its files are whole."""
    try:
        existing = store.artifact(checkpoint.training.name, format)
        if not existing or existing.failure or existing.versions != versions:
            return None
        if existing.checkpoint.weights != checkpoint.weights or is_for_other_processor(existing):
            return None
        if any(parity.stand_in for parity in existing.parity) and prepare.find(checkpoint.training.data.fingerprint):
            return None  # checked on other images; now the network's own are here
        if any(_can_check(backend) for backend in readers(format) if backend in existing.unvalidated):
            return None  # its device was not here then
        store.verified(existing)
    except Corrupt:
        return None
    if FORMATS[format].is_program and not all(trust.knows(file.sha256) for file in existing.files):
        return None  # somebody else's: it would not be run
    return existing


def _can_check(backend: str) -> bool:
    plugin = BACKENDS[backend]
    device_of(backend)
    return Worker(interpreter=interpreter_for(plugin.requires, plugin.environment)).call(worker.can_check, backend)


def gate(parity: Parity, format: str) -> str | None:
    """Why an artifact does not pass, or None if it does."""
    plugin = FORMATS[format]
    allowed = plugin.tolerance * max(1.0, parity.largest_logit)
    if parity.largest_difference > allowed or parity.agreement < plugin.agreement:
        return (
            f"through {parity.backend} its logits differ from the network's by up to {parity.largest_difference:.3g} "
            f"({format} allows {allowed:.3g}), and {parity.agreement:.1%} of {parity.images} labels agree "
            f"(it needs {plugin.agreement:.0%})"
        )
    return None


def readers(format: str, backends: Iterable[str] | None = None) -> list[str]:
    """The backends that read a format: those that say so, and those that the format names itself."""
    base = FORMATS.base(format)
    named = [BACKENDS.given(name) for name in FORMATS[format].read_by]  # by the format's own code, which is trusted
    names = dict.fromkeys([*BACKENDS, *named]) if backends is None else backends
    return [name for name in names if base in BACKENDS[name].reads or name in named]


def device_of(backend: str) -> str:
    """The device on which its output is validated, which workers may import from now on: trusted code names it."""
    return DEVICES.given(BACKENDS[backend].validated_on)


def versions_of(backend: str) -> dict[str, str]:
    """Of the packages that a job on it depends on, where it runs."""
    plugin = BACKENDS[backend]
    return machine.versions([*plugin.requires, "numpy"], interpreter_for(plugin.requires, plugin.environment).path)


def is_for_other_processor(artifact: Artifact) -> bool:
    """Whether it is for a processor that is not this one."""
    return "processor" in artifact.choices and artifact.choices["processor"] != machine.machine().chip


def floors(store: Store, timed: Iterable[Job]) -> list[Job]:
    """For each runtime and way of running it, a job with the network that does next to nothing; exported if need be."""
    trust.give([worker.FLOOR_NETWORK])  # though only records name it
    artifacts: dict[tuple[str, str], Artifact | None] = {}
    jobs: dict[str, Job] = {}
    for timed_job in timed:
        data, format = timed_job.artifact.checkpoint.training.data, timed_job.artifact.format
        if (data.fingerprint, format) not in artifacts:
            artifacts[data.fingerprint, format] = _floor(store, data, format)
        if artifact := artifacts[data.fingerprint, format]:
            job = dataclasses.replace(timed_job, artifact=artifact)
            jobs[job.key] = job
    return list(jobs.values())


def _floor(store: Store, data: Data, format: str) -> Artifact | None:
    """None if this format cannot hold it: then the report has no floor for it."""
    name = floor_name(data)
    try:
        checkpoint = _whole_floor(store, name) or Worker().call(worker.floor, data, store.root, name)
        if format == CHECKPOINT:
            return as_artifact(checkpoint)
        with files.scratch() as folder:
            artifact = _export(store, checkpoint, format, False, folder / "reference.npy").value
    except DeployError as error:
        log.warning("no floor for %s: %s", format, error)
        return None
    return None if artifact.failure else artifact


def _whole_floor(store: Store, name: str) -> Checkpoint | None:
    """None if it is not there, or damaged: it is made again then."""
    with contextlib.suppress(Corrupt):
        if checkpoint := store.checkpoint(name):
            store.verified(as_artifact(checkpoint))
            return checkpoint
    return None

"""Trained networks -> artifacts, each validated against its network on every runtime that is here."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, machine, packs, trust, untrusted
from cifar_deploy.core.errors import Corrupt, DeployError, Unavailable, WrongOutput
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome, failure_of
from cifar_deploy.core.progress import OnProgress, Progress, within
from cifar_deploy.core.records import (
    Artifact,
    Baseline,
    Data,
    File,
    ImageType,
    Job,
    Mismatch,
    Parity,
    Trained,
)
from cifar_deploy.core.registry import Requirements, interpreter_for, lack_of
from cifar_deploy.core.store import CHECKPOINT, WEIGHTS, Store, as_artifact
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import CALIBRATION, FORMATS, format_of, given
from cifar_deploy.stages import app, prepare, train
from cifar_deploy.workers import export as worker
from cifar_deploy.workers.prepare import Calibration, prepare_calibration

log = logging.getLogger(__name__)


def export(
    store: Store,
    names: Sequence[str] = (),
    formats: Sequence[str] | None = None,
    *,
    input: ImageType = "float32",
    calibration_data: Path | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Artifact]]:
    """Each training in each format, validated. A failure is an Artifact that holds its reason.

    A format's name may say its input, as `onnx-uint8`; `input` is that of all formats. INT8 formats are calibrated on the
    images below `calibration_data`, a directory or a .zip, or on the training images.
    """
    if calibration_data:
        untrusted.check_named(calibration_data, "give a folder or .zip of images", "--calibration-data")
    origins = [Trained(checkpoint=train.checkpoint(store, name)) for name in names or train.names(store)]
    wanted = [given(format) for format in formats or FORMATS if format != CHECKPOINT]
    pairs = [(origin, format, named) for origin in origins for format, named in wanted]
    with files.temporary_folder() as references:
        calibrations: dict[str, Calibration] = {}  # by the data set whose preprocessing they went through
        for done, (origin, format, named) in enumerate(pairs):
            artifact = _wanted(origin, format, "uint8" if "uint8" in (input, named) else "float32")
            shown = Progress(done=done, total=len(pairs), message=artifact.title)
            if on_progress:
                on_progress(shown)
            calibration = None
            if calibration_data and format_of(artifact).precision == "int8":
                fingerprint = origin.data.fingerprint
                if fingerprint not in calibrations:
                    calibrations[fingerprint] = Worker(
                        what=f"images of {calibration_data}", on_progress=on_progress
                    ).call(
                        prepare_calibration,
                        calibration_data.absolute(),
                        origin.data,
                        references / f"calibration-{fingerprint}.npy",
                    )
                calibration = calibrations[fingerprint]
            yield _export(
                store, artifact, force, references / f"{origin.name}.npy", calibration, within(shown, on_progress)
            )


def _wanted(origin: Trained | Baseline, format: str, input: ImageType) -> Artifact:
    """What is to be exported, without its files."""
    plugin = FORMATS[format]
    return Artifact(
        origin=origin,
        format=format,
        input=input,
        files=(),
        parity=(),
        failure=None,
        versions=_versions(plugin),
        seconds=0.0,
        commit=machine.commit(),
        finished=machine.now(),
    )


def _export(
    store: Store,
    wanted: Artifact,
    force: bool,
    logits: Path,
    calibration: Calibration | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome[Artifact]:
    """One of them; `logits` is where the network's own are, or will be for its other formats."""
    if calibration:
        given = {"calibration_data": calibration.source, CALIBRATION: calibration.sha256[:16]}
        wanted = dataclasses.replace(wanted, choices=given)
    plugin, artifact = format_of(wanted), wanted
    assert wanted.data
    if not force and (existing := _still_good(store, wanted)):
        app.write(store, existing)  # which earlier versions did not
        return Outcome(value=existing, reused=True)
    with files.staging(store.folder_of(wanted)) as staged:
        try:
            images = prepare.images_for(wanted.data)
            stand_in = prepare.stand_in_of(images, wanted.data)
            reference = worker.Reference(
                images=images,
                stand_in=stand_in,
                logits=logits,
                calibration=calibration.pixels if calibration else None,
            )
            written = Worker(what="export", interpreter=interpreter_for(plugin), on_progress=on_progress).call(
                worker.write, wanted=wanted, root=store.root, reference=reference, staged=staged
            )
            artifact = dataclasses.replace(
                wanted,
                files=written.files,
                seconds=written.seconds,
                choices={**wanted.choices, **written.choices},
            )
            artifact = validated(artifact, reference, staged, on_progress=on_progress)
        except DeployError as error:
            with files.errors_named(store.folder_of(wanted)):
                for part in staged.iterdir():
                    files.raise_if_full(part)
            artifact = dataclasses.replace(artifact, files=(), failure=failure_of(error))
        # What cannot be made today is no reason to lose what was made before.
        if not (artifact.failure and _is_whole(store, wanted)):
            store.save_artifact(artifact, staged)
            app.write(store, artifact)
    if plugin.is_program:
        for file in artifact.files:
            trust.remember(file.sha256)
    return Outcome(value=artifact, reused=False)


def validated(
    artifact: Artifact,
    reference: worker.Reference,
    staged: Path,
    backends: Iterable[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Artifact:
    """The artifact with what the validation found, through every backend (of `backends`) that can be asked here.

    A backend whose device is not here is passed over, and the artifact says why. Raises WrongOutput if all that answer do
    so otherwise than the network, and the last error if none of them answers.
    """
    found, mismatches = [], []
    failed: DeployError | None = None
    unvalidated: dict[str, str] = {}
    for backend in readers(str(artifact.format), backends):
        plugin = BACKENDS[backend]
        if lack_of(plugin):
            continue
        device_of(backend)
        try:
            parity = Worker(
                what=f"validation on {backend}", interpreter=interpreter_for(plugin), on_progress=on_progress
            ).call(
                worker.check,
                artifact=artifact,
                backend=backend,
                reference=reference,
                staged=staged,
            )
            if reason := why_invalid(parity, artifact):
                raise WrongOutput(f"{artifact.title}: {reason}")
            found.append(parity)
        except Unavailable as error:
            if _can_check(backend):
                failed = error
            else:
                unvalidated[backend] = str(error)
        except WrongOutput as error:
            versions = versions_of(backend)
            mismatches.append(Mismatch(backend=backend, versions=versions, reason=str(error)))
        except DeployError as error:
            failed = error
    if mismatches and not found:
        raise WrongOutput(mismatches[0].reason)
    if failed and not found:
        raise failed
    return dataclasses.replace(artifact, parity=tuple(found), mismatches=tuple(mismatches), unvalidated=unvalidated)


def _is_whole(store: Store, wanted: Artifact) -> bool:
    """Whether an earlier export of these weights is there, by whatever versions."""
    with contextlib.suppress(Corrupt):
        existing = store.earlier(wanted)
        if existing and not existing.failure and existing.weights_sha256 == wanted.weights_sha256:
            store.verified(existing)
            return True
    return False


def _still_good(store: Store, wanted: Artifact) -> Artifact | None:
    """An earlier export of the same weights by the same versions, if its files are whole."""
    assert wanted.data
    try:
        existing = store.earlier(wanted)
        if not existing or existing.failure or existing.versions != wanted.versions:
            return None
        if existing.weights_sha256 != wanted.weights_sha256 or is_for_other_processor(existing):
            return None
        # Without training images there is nothing else that it could have been calibrated on.
        other = existing.choices.get(CALIBRATION) != wanted.choices.get(CALIBRATION)
        if other and (CALIBRATION in wanted.choices or wanted.data.train_images):
            return None
        if any(parity.stand_in for parity in existing.parity) and prepare.find(wanted.data.fingerprint):
            return None  # checked on other images; now the network's own are here
        if any(_can_check(backend) for backend in readers(str(wanted.format)) if backend in existing.unvalidated):
            return None  # its device was not here then
        store.verified(existing)
    except Corrupt:
        return None
    if format_of(wanted).is_program and not all(trust.knows(file.sha256) for file in existing.files):
        return None  # somebody else's: it would not be run
    return existing


def _can_check(backend: str) -> bool:
    """Whether the device is here on which the output of this backend is validated."""
    plugin = BACKENDS[backend]
    device_of(backend)
    with contextlib.suppress(DeployError):
        return Worker(what=f"device of {backend}", interpreter=interpreter_for(plugin)).call(worker.can_check, backend)
    return False


def why_invalid(parity: Parity, artifact: Artifact) -> str | None:
    """Why an artifact does not pass, or None if it does."""
    plugin = format_of(artifact)
    allowed = plugin.tolerance * max(1.0, parity.largest_logit)
    if parity.largest_difference > allowed or parity.agreement < plugin.agreement:
        return (
            f"through {parity.backend} its logits differ from the network's by up to {parity.largest_difference:.3g} "
            f"({artifact.variant} allows {allowed:.3g}), and {parity.agreement:.1%} of {parity.images} labels agree "
            f"(it needs {plugin.agreement:.0%})"
        )
    return None


def readers(format: str, backends: Iterable[str] | None = None) -> list[str]:
    """The backends that read a format: those that say so, and those that the format names itself."""
    named = [BACKENDS.given(name) for name in FORMATS[format].read_by]  # by the format's own code, which is trusted
    names = dict.fromkeys([*BACKENDS, *named]) if backends is None else backends
    return [name for name in names if format in BACKENDS[name].reads or name in named]


def device_of(backend: str) -> str:
    """The device on which its output is validated, which workers may import from now on: trusted code names it."""
    return DEVICES.given(BACKENDS[backend].validated_on)


def versions_of(backend: str) -> dict[str, str]:
    """Of the packages that a job on it depends on, where it runs."""
    return _versions(BACKENDS[backend])


def _versions(plugin: Requirements) -> dict[str, str]:
    return machine.versions([*plugin.requires, "numpy"], interpreter_for(plugin).path)


def is_for_other_processor(artifact: Artifact) -> bool:
    """Whether it is for a processor that is not this one."""
    return "processor" in artifact.choices and artifact.choices["processor"] != machine.machine().chip


def baselines(store: Store, timed: Iterable[Job]) -> list[Job]:
    """For each runtime and way of running it, a job with the no-op network; exported if need be."""
    artifacts: dict[tuple[str, str], Artifact | None] = {}
    jobs: dict[str, Job] = {}
    for of_network in timed:
        artifact = of_network.artifact
        if not artifact.data:
            continue
        place = artifact.data.fingerprint, artifact.variant
        if place not in artifacts:
            artifacts[place] = baseline(store, artifact.data, str(artifact.format), artifact.input)
        if no_op := artifacts[place]:
            job = dataclasses.replace(of_network, artifact=no_op)
            jobs[job.key] = job
    return list(jobs.values())


def baseline(store: Store, data: Data, format: str, input: ImageType) -> Artifact | None:
    """The no-op network in a format; None if this cannot hold it: then the report has no runtime overhead for it."""
    trust.give([worker.NO_OP])  # though only records name it
    if packs.here():
        return _packed_baseline(store, data, format, input)
    try:
        weights = _no_op(store, data)
        if format == CHECKPOINT:
            return weights
        assert isinstance(weights.origin, Baseline)
        with files.temporary_folder() as folder:
            artifact = _export(store, _wanted(weights.origin, format, input), False, folder / "reference.npy").value
    except DeployError as error:
        log.warning("no runtime overhead for %s: %s", format, error)
        return None
    return None if artifact.failure else artifact


def _packed_baseline(store: Store, data: Data, format: str, input: ImageType) -> Artifact | None:
    """On a device nothing is exported."""
    nothing = File(name=WEIGHTS, bytes=0, sha256="")
    wanted = _wanted(Baseline(network=worker.NO_OP, data=data, weights=nothing), format, input)
    with contextlib.suppress(Corrupt):
        packed = store.earlier(wanted)
        if packed and not packed.failure:
            store.verified(packed)
            return packed
    return None


def _no_op(store: Store, data: Data) -> Artifact:
    """The no-op network's weights as an artifact: found whole, or made."""
    nothing = File(name=WEIGHTS, bytes=0, sha256="")
    wanted = as_artifact(Baseline(network=worker.NO_OP, data=data, weights=nothing))
    with contextlib.suppress(Corrupt):
        existing = store.earlier(wanted)
        # The folder may be somebody else's: what lies there must be the no-op network, for these very data.
        if (
            existing
            and isinstance(existing.origin, Baseline)
            and dataclasses.replace(existing.origin, weights=nothing) == wanted.origin
        ):
            store.verified(existing)
            return existing
    with files.staging(store.folder_of(wanted)) as staged:
        weights = Worker(what="no-op model").call(worker.write_no_op, data, staged)
        made = as_artifact(Baseline(network=worker.NO_OP, data=data, weights=weights))
        store.save_artifact(made, staged)
    return made

"""The road in one screen: each stage in a process of its own, its outcome stored before it is returned.

This is the Python API too. Everything takes the same shape: a stage returns what it made, and whether it was already
there. Nothing here imports torch.

    from cifar_deploy import pipeline

    data = pipeline.prepare("digits")
    with pipeline.Store("runs/notebook") as store:
        pipeline.train(store, data, "resnet8")
        for exported in pipeline.export(store, ["resnet8"]): ...
        for measured in pipeline.evaluate(store, pipeline.plan(store, ["resnet8"])): ...
        table, paths = pipeline.report(store)
"""

import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, isolate, machine, registry, trust
from cifar_deploy.core.errors import Corrupt, DeployError, Unavailable, UnknownName, UsageError, WrongOutput
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, Checkpoint, Failure, Job, Parity, Reading, Recipe, Result, Training
from cifar_deploy.core.store import CHECKPOINT, Store, as_artifact, check_name
from cifar_deploy.core.table import Table
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, Copied
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages import evaluate as evaluate_stage
from cifar_deploy.stages import export as export_stage
from cifar_deploy.stages import plan as plan_stage
from cifar_deploy.stages import prepare as prepare_stage
from cifar_deploy.stages import report as report_stage
from cifar_deploy.stages.catalogue import Entry
from cifar_deploy.stages.plan import Conditions, Planned
from cifar_deploy.stages.prepare import Prepared

__all__ = [
    "Conditions",
    "Outcome",
    "Planned",
    "Prepared",
    "Store",
    "catalogue",
    "evaluate",
    "export",
    "plan",
    "prepare",
    "report",
    "train",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What a stage made, or found: `reused` if it was there and is still good."""

    value: T
    reused: bool


def prepare(
    dataset: str = "cifar10", data_dir: Path | None = None, *, on_progress: OnProgress | None = None
) -> Prepared:
    """A data set, decoded into the user's cache or found there, and verified by its fingerprint."""
    DATASETS.check(dataset)
    data_dir = data_dir.absolute() if data_dir else None
    return isolate.call(
        "cifar_deploy.stages.prepare:prepare", Prepared, on_progress=on_progress, dataset=dataset, data_dir=data_dir
    )


def train(
    store: Store,
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    device: str = "auto",
    threads: int | None = None,
    limit_test: int | None = None,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome[Checkpoint]:
    """Train a network, go on with a training that was interrupted, or return the one that is finished.

    Raises UsageError if the name belongs to a training that differs in network, data or recipe, unless `again`.
    """
    NETWORKS.check(network)
    if device != "auto":
        DEVICES.check(device)
    training = Training(
        name=check_name(name or network.replace(":", "-")), network=network, recipe=recipe, data=prepared.data
    )
    finished = store.checkpoint(training.name)
    begun = finished.training if finished else store.unfinished(training.name)
    if again:
        shutil.rmtree(store.training_folder(training.name), ignore_errors=True)
    elif begun and (difference := begun.difference(training)):
        raise UsageError(
            f"{training.name}: exists already with {difference}; give another --name, or --again to replace it"
        )
    elif finished:
        store.verified(as_artifact(finished))
        return Outcome(value=finished, reused=True)
    threads = threads or machine.allowed_threads()
    checkpoint = isolate.call(
        "cifar_deploy.stages.train:train",
        Checkpoint,
        pool_threads=threads,
        on_progress=on_progress,
        training=training,
        root=store.root,
        data_folder=prepared.folder,
        device=device,
        threads=threads,
        limit_test=limit_test,
    )
    return Outcome(value=checkpoint, reused=False)


def export(
    store: Store,
    names: Sequence[str] = (),
    formats: Sequence[str] | None = None,
    *,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Artifact]]:
    """Each training in each format, through the parity gate. A failure is an Artifact that holds its reason."""
    checkpoints = [_checkpoint(store, name) for name in names or _all_names(store)]
    wanted = [FORMATS.check(format) for format in formats or FORMATS if format != CHECKPOINT]
    pairs = [(checkpoint, format) for checkpoint in checkpoints for format in wanted]
    for done, (checkpoint, format) in enumerate(pairs):
        if on_progress:
            on_progress(Progress(done=done, total=len(pairs), message=f"{checkpoint.training.name} {format}"))
        yield _export(store, checkpoint, format, again)


def _export(store: Store, checkpoint: Checkpoint, format: str, again: bool) -> Outcome[Artifact]:
    versions = machine.versions([*FORMATS[format].requires, "numpy"])
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
    with files.staging(folder) as box:
        staged = box / "files"
        staged.mkdir()
        try:
            artifact = _written(store, artifact, staged)
            artifact = _gated(store, artifact, staged)
        except DeployError as error:
            with files.naming(folder):
                for part in staged.iterdir():
                    files.ask_for_room(part)
            artifact = dataclasses.replace(artifact, files=(), failure=_failure(error))
        # What cannot be made here today is no reason to lose what was made before.
        if not (artifact.failure and artifact.failure.kind == "unavailable" and store.artifact(artifact.name, format)):
            store.save_artifact(artifact, staged)
    if FORMATS[format].is_program:
        for file in artifact.files:
            trust.remember(file.sha256)
    return Outcome(value=artifact, reused=False)


def _written(store: Store, artifact: Artifact, staged: Path) -> Artifact:
    written = isolate.call(
        "cifar_deploy.stages.export:write",
        export_stage.Written,
        checkpoint=artifact.checkpoint,
        format=artifact.format,
        root=store.root,
        data_folder=_data_folder(artifact.checkpoint),
        staged=staged,
    )
    return dataclasses.replace(artifact, files=written.files, seconds=written.seconds)


def _gated(store: Store, artifact: Artifact, staged: Path) -> Artifact:
    """The artifact with what the gate found, through every backend that can be asked here.

    Raises WrongOutput if one of them answers otherwise than the network, and the last error if none of them answers.
    """
    found, failed = [], None
    for backend in plan_stage.readers(artifact.format):
        if registry.missing(BACKENDS[backend].requires):
            continue
        try:
            parity = isolate.call(
                "cifar_deploy.stages.export:check",
                Parity,
                artifact=artifact,
                backend=backend,
                data_folder=_data_folder(artifact.checkpoint),
                staged=staged,
            )
        except DeployError as error:
            failed = error
            continue
        if reason := export_stage.gate(parity, artifact.format):
            raise WrongOutput(f"{artifact.name} {artifact.format}: {reason}")
        found.append(parity)
    if failed and not found:
        raise failed
    return dataclasses.replace(artifact, parity=tuple(found))


def _still_good(store: Store, checkpoint: Checkpoint, format: str, versions: dict[str, str]) -> Artifact | None:
    """An earlier export of the same weights by the same versions, if its files are whole."""
    try:
        existing = store.artifact(checkpoint.training.name, format)
        if not existing or existing.failure or existing.versions != versions:
            return None
        if existing.checkpoint.weights != checkpoint.weights:
            return None
        store.verified(existing)
    except Corrupt:
        return None
    return existing


def plan(
    store: Store,
    names: Sequence[str] = (),
    *,
    formats: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    metrics: Sequence[str] | None = None,
    conditions: Conditions = Conditions(),
) -> list[Planned]:
    """What `evaluate` will measure: every artifact of the trainings on every backend that reads it.

    Raises UnknownName or UsageError for a name that is nothing here.
    """
    check_names(formats=formats, backends=backends, devices=devices, metrics=metrics)
    artifacts = []
    for name in names or _all_names(store):
        weights = _checkpoint(store, name).weights
        for artifact in store.artifacts(name):
            # An export of weights that were since replaced would be compared with the wrong network.
            if artifact.checkpoint.weights == weights and artifact.format in (formats or [artifact.format]):
                artifacts.append(artifact)
    for format in formats or ():
        if not any(artifact.format == format for artifact in artifacts):
            raise UsageError(
                f"--format: no {format} of {', '.join(names or _all_names(store))} is exported; run `cifar-deploy export`"
            )
    return plan_stage.plan(artifacts, backends, devices, metrics or list(METRICS), conditions)


def evaluate(
    store: Store,
    planned: Iterable[Planned],
    *,
    again: bool = False,
    trusted: bool = False,
    timeout_s: float = isolate.TIMEOUT_S,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Result]]:
    """Each job's result, measured now and stored before it is returned, or found from before."""
    known = {result.job.key: result for result in store.results()}
    for item in planned:
        earlier = known.get(item.job.key)
        if earlier and not again and _still_valid(store, earlier, item):
            yield Outcome(value=earlier, reused=True)
            continue
        result = _measured(store, item, trusted, timeout_s, on_progress)
        store.append(result)
        yield Outcome(value=result, reused=False)


def _still_valid(store: Store, earlier: Result, item: Planned) -> bool:
    """A reading whose samples are there; of the failures, only that which would be the same again."""
    if earlier.reading:
        return earlier.reading.raw is None or store.raw_path(earlier.reading.raw).exists()
    return earlier.failure == item.failure


def _measured(store: Store, item: Planned, trusted: bool, timeout_s: float, on_progress: OnProgress | None) -> Result:
    started, begun = machine.now(), time.monotonic()
    reading: Reading | None = None
    failure = item.failure
    if not failure:
        try:
            reading = _read(store, item, started, trusted, timeout_s, on_progress)
        except DeployError as error:
            failure = _failure(error)
    return Result(
        job=item.job,
        reading=reading,
        failure=failure,
        started=started,
        seconds=time.monotonic() - begun,
        commit=machine.commit(),
    )


def _read(
    store: Store, item: Planned, started: str, trusted: bool, timeout_s: float, on_progress: OnProgress | None
) -> Reading:
    job = item.job
    if not is_measured(job):
        return evaluate_stage.copy(job)
    return isolate.call(
        "cifar_deploy.stages.evaluate:measure",
        Reading,
        pool_threads=job.threads,
        timeout_s=timeout_s,
        on_progress=on_progress,
        job=job,
        root=store.root,
        data_folder=_data_folder(job.artifact.checkpoint),
        raw_name=f"{job.key}-{started.replace(':', '').replace('+0000', 'Z')}",
        trusted=trusted,
    )


def report(store: Store) -> tuple[Table, list[Path]]:
    """The table of the results so far, and the files that it was written to."""
    table = report_stage.build(store.results())
    paths = []
    for name in REPORTS:
        path = store.reports / f"report.{REPORTS[name].suffix}"
        files.write_text(path, REPORTS[name].render(table))
        paths.append(path)
    return table, paths


def catalogue() -> list[Entry]:
    """Every plugin there is, and what it lacks here."""
    return isolate.call("cifar_deploy.stages.catalogue:catalogue", list[Entry])


def check_names(
    networks: Iterable[str] | None = None,
    formats: Iterable[str] | None = None,
    backends: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> None:
    """Raises UnknownName for the first name that is none, before any work is done."""
    for registry_, names in (
        (NETWORKS, networks),
        (FORMATS, formats),
        (BACKENDS, backends),
        (DEVICES, devices),
        (METRICS, metrics),
    ):
        for name in names or ():
            registry_.check(name)


def is_measured(job: Job) -> bool:
    """Whether a job needs a process of its own, rather than a look into a record."""
    return not isinstance(METRICS[job.metric], Copied)


def _all_names(store: Store) -> list[str]:
    names = store.names()
    if not names:
        raise UsageError(
            f"{store.exported}: no trained network; run `cifar-deploy train-all` first, or give another --out"
        )
    # The default networks first, in their order, as everywhere.
    return sorted(names, key=lambda name: (name not in DEFAULT_NETWORKS, name))


def _checkpoint(store: Store, name: str) -> Checkpoint:
    checkpoint = store.checkpoint(check_name(name))
    if not checkpoint:
        raise UnknownName.among("trained network", name, store.names() or ["none yet: run `cifar-deploy train`"])
    return checkpoint


def _data_folder(checkpoint: Checkpoint) -> Path:
    data = checkpoint.training.data
    folder = prepare_stage.find(data.fingerprint)
    if not folder:
        raise Unavailable(
            f"{checkpoint.training.name}: its data set ({data.source}) is not in the cache; "
            f"run `cifar-deploy data --dataset {data.dataset}`, with --data-dir where it needs one"
        )
    return folder


def _failure(error: DeployError) -> Failure:
    return Failure(kind=error.kind, reason=str(error), log=getattr(error, "log", ""))

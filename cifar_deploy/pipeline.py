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

import contextlib
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from cifar_deploy.adoption import adopt
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import environment, files, isolate, machine, ranks, registry, trust, untrusted
from cifar_deploy.core.defaults import CHECKPOINT_EVERY_S
from cifar_deploy.core.environment import Made
from cifar_deploy.core.errors import Corrupt, DeployError, UnknownName, UsageError, WrongOutput
from cifar_deploy.core.machine import Isa
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import (
    Artifact,
    Checkpoint,
    Data,
    Job,
    Misreading,
    Parity,
    Recipe,
    Result,
    Training,
)
from cifar_deploy.core.store import (
    CHECKPOINT,
    Samples,
    Store,
    as_artifact,
    check_name,
    floor_name,
    grouped,
    read_lines,
)
from cifar_deploy.core.table import Table
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.evaluation import Evaluation, Outcome, failure_of
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, default_metrics
from cifar_deploy.metrics.summary import Cell, Raw, is_timed
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages import compare as compare_stage
from cifar_deploy.stages import export as export_stage
from cifar_deploy.stages import plan as plan_stage
from cifar_deploy.stages import prepare as prepare_stage
from cifar_deploy.stages import report as report_stage
from cifar_deploy.stages import results as results_stage
from cifar_deploy.stages.adopt import Shape
from cifar_deploy.stages.catalogue import Entry
from cifar_deploy.stages.compare import Pair
from cifar_deploy.stages.plan import Conditions, Planned
from cifar_deploy.stages.prepare import Prepared
from cifar_deploy.stages.rounds import Rigour

__all__ = [
    "Conditions",
    "Outcome",
    "Pair",
    "Planned",
    "Prepared",
    "Rigour",
    "Shape",
    "Store",
    "adopt",
    "catalogue",
    "compare",
    "equip",
    "evaluate",
    "export",
    "follow",
    "obstacles",
    "plan",
    "prepare",
    "report",
    "train",
]

log = logging.getLogger(__name__)

# pip says nothing while it downloads a file, however large.
_INSTALL_TIMEOUT_S = 3600.0


def equip(name: str, *, again: bool = False, on_progress: OnProgress | None = None) -> Outcome[Made]:
    """An interpreter of its own for packages that cannot live with the others, made now or found from before.

    Raises DeployError, in pip's words, if they cannot be installed; then what was there before is still there.
    """
    wanted = ENVIRONMENTS[ENVIRONMENTS.given(name)]
    with environment.locked():
        if not again and not wanted.obstacle() and (made := wanted.made()):
            return Outcome(value=made, reused=True)
        with files.staging(wanted.folder) as box:
            made = isolate.call(
                "cifar_deploy.stages.equip:install",
                Made,
                timeout_s=_INSTALL_TIMEOUT_S,
                on_progress=on_progress,
                wanted=wanted,
                folder=box / "new",
            )
            os.sync()  # thousands of files shall be on the disk before their folder's name says that they are whole
            if wanted.folder.exists():
                wanted.folder.rename(box / "old")
            (box / "new").rename(wanted.folder)
    return Outcome(value=made, reused=False)


def prepare(
    dataset: str = "cifar10", data_dir: Path | None = None, *, on_progress: OnProgress | None = None
) -> Prepared:
    """A data set, decoded into the user's cache or found there, and verified by its fingerprint."""
    DATASETS.given(dataset)
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
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome[Checkpoint]:
    """Train a network, go on with a training that was interrupted, or return the one that is finished.

    One that was begun with `again` and interrupted goes on without it. The state is saved after each epoch, and within
    one every `checkpoint_every_s`.

    Raises UsageError if the name belongs to a training that differs in network, data or recipe, unless `again`.
    Under torchrun this is for the first rank; the others `follow`.
    """
    if device != "auto":
        DEVICES.given(device)
    training = training_of(store, prepared, network, name=name, recipe=recipe, again=again)
    finished = _finished(store, training.name, again)
    unfinished = None if again else store.unfinished(training.name)
    if not unfinished:
        files.discard(store.training_folder(training.name))
    if finished and not again and not _is_same(unfinished, training):
        store.verified(as_artifact(finished))
        if ranks.count() > 1:
            isolate.call("cifar_deploy.stages.train:dismiss", type(None), device=device)
        return Outcome(value=finished, reused=True)
    threads = threads or ranks.threads()
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
        checkpoint_every_s=checkpoint_every_s,
    )
    return Outcome(value=checkpoint, reused=False)


def follow(
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Train along with the first rank, under torchrun; it alone reads and writes an output folder."""
    threads = threads or ranks.threads()
    isolate.call(
        "cifar_deploy.stages.train:follow",
        type(None),
        pool_threads=threads,
        training=_training(prepared, network, name, recipe),
        data_folder=prepared.folder,
        device=device,
        threads=threads,
    )


def training_of(
    store: Store,
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    again: bool = False,
) -> Training:
    """What `train` would train. Raises UsageError where it would, before anything is done."""
    training = _training(prepared, network, name, recipe)
    if again:
        return training
    finished = _finished(store, training.name, again)
    there = [one for one in (store.unfinished(training.name), finished and finished.training) if one]
    if there and not any(_is_same(one, training) for one in there):
        raise UsageError(
            f"{training.name}: exists already with {there[0].difference(training)}; "
            "give another --name, or --again to replace it"
        )
    return training


def _finished(store: Store, name: str, again: bool) -> Checkpoint | None:
    """A damaged record raises Corrupt, unless the network is trained again, or was begun to be."""
    try:
        return store.checkpoint(name)
    except Corrupt:
        if again or store.unfinished(name):
            return None
        raise


def _is_same(there: Training | None, wanted: Training) -> bool:
    return there is not None and there.difference(wanted) is None


def _training(prepared: Prepared, network: str, name: str | None, recipe: Recipe) -> Training:
    NETWORKS.given(network)
    ranks.check_batch(recipe.batch_size)
    return Training(
        name=check_name(name or network.replace(":", "-")), network=network, recipe=recipe, data=prepared.data
    )


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
    checkpoints = [_checkpoint(store, name) for name in names or _all_names(store)]
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
            images = prepare_stage.images_for(checkpoint)
            stand_in = prepare_stage.stand_in_of(images, checkpoint)
            reference = export_stage.Reference(images=images, stand_in=stand_in, logits=logits)
            written = isolate.call(
                "cifar_deploy.stages.export:write",
                export_stage.Written,
                started_with=interpreter,
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


def _gated(artifact: Artifact, reference: export_stage.Reference, staged: Path) -> Artifact:
    """The artifact with what the gate found, through every backend that can be asked here.

    Raises WrongOutput if all that answer do so otherwise than the network, and the last error if none of them answers.
    """
    found, misread, failed = [], [], None
    for backend in plan_stage.readers(artifact.format):
        plugin = BACKENDS[backend]
        if registry.obstacle(plugin.requires, plugin.programs, plugin.environment):
            continue
        try:
            parity = isolate.call(
                "cifar_deploy.stages.export:check",
                Parity,
                started_with=registry.interpreter_for(plugin.requires, plugin.environment),
                artifact=artifact,
                backend=backend,
                reference=reference,
                staged=staged,
            )
            if reason := export_stage.gate(parity, artifact.format):
                raise WrongOutput(f"{artifact.name} {artifact.format}: {reason}")
            found.append(parity)
        except WrongOutput as error:
            versions = plan_stage.versions_of(backend)
            misread.append(Misreading(backend=backend, versions=versions, reason=str(error)))
        except DeployError as error:
            failed = error
    if misread and not found:
        raise WrongOutput(misread[0].reason)
    if failed and not found:
        raise failed
    return dataclasses.replace(artifact, parity=tuple(found), misread=tuple(misread))


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
        if existing.checkpoint.weights != checkpoint.weights or plan_stage.is_made_elsewhere(existing):
            return None
        if any(parity.stand_in for parity in existing.parity) and prepare_stage.find(
            checkpoint.training.data.fingerprint
        ):
            return None  # checked on other images; now the network's own are here
        store.verified(existing)
    except Corrupt:
        return None
    if FORMATS[format].is_program and not all(trust.knows(file.sha256) for file in existing.files):
        return None  # somebody else's: it would not be run
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
    for artifact in artifacts:
        for stray in store.strays(artifact):
            path = store.artifact_folder(artifact.name, artifact.format) / stray
            warnings.warn(f"{path}: belongs to no export; it is neither counted nor opened")
    for format in formats or ():
        if not any(artifact.format == format for artifact in artifacts):
            raise UsageError(
                f"--format: no {format} of {', '.join(names or _all_names(store))} is exported; run `cifar-deploy export`"
            )
    return plan_stage.plan(artifacts, backends, devices, metrics or default_metrics(), conditions)


def evaluate(
    store: Store,
    planned: Iterable[Planned],
    *,
    rigour: Rigour = Rigour(),
    controls: bool = True,
    floors: bool = True,
    verify_memory: bool = False,
    isa: Sequence[Isa] = (),
    sustain_s: float | None = None,
    again: bool = False,
    trusted: bool = False,
    timeout_s: float = isolate.TIMEOUT_S,
    on_progress: OnProgress | None = None,
) -> Iterator[Outcome[Result]]:
    """Each job's result, measured now or found from before; every block is stored as it ends.

    First what is measured once, in the order of the plan; then the timed jobs, in rounds (see stages.rounds), their
    results at the end of the last one. `floors` adds, for each runtime, a network that does next to nothing, `controls`
    a second visit to one cell of each metric. `verify_memory` runs every memory job again under limits around its peak;
    `isa` classifies again with every 8-bit artifact under older instructions; `sustain_s` keeps the timed jobs under load
    for so long instead of measuring them in rounds. Raises DeployError if the budget is too small for one round.
    """
    planned = list(planned)
    timed = [item for item in planned if is_timed(item.job) and not item.failure]
    once = [item for item in planned if item not in timed]
    if verify_memory and not any(item.job.metric == "memory" for item in planned):
        raise UsageError("--verify-memory: memory is not among the metrics; add --metric memory")
    if sustain_s is not None and not timed:
        raise UsageError("--sustain: nothing that is timed is among the metrics; add --metric latency or throughput")
    if isa:
        once += plan_stage.under_isa(once, isa)
    evaluation = Evaluation(store, again, trusted, timeout_s, on_progress)
    yield from evaluation.once(once)
    if verify_memory:
        yield from evaluation.under_limits([item for item in once if item.job.metric == "memory" and not item.failure])
    if timed and sustain_s is not None:
        yield from evaluation.sustained(timed, sustain_s)
    elif timed:
        if floors:
            timed += _floors(store, timed)
        yield from evaluation.in_rounds(timed, rigour, controls)


def _floors(store: Store, timed: Sequence[Planned]) -> list[Planned]:
    """For each runtime and way of running it, a job with the network that does next to nothing; exported if need be."""
    trust.give([export_stage.FLOOR_NETWORK])  # though only records name it
    artifacts: dict[tuple[str, str], Artifact | None] = {}
    jobs: dict[str, Job] = {}
    for item in timed:
        data, format = item.job.artifact.checkpoint.training.data, item.job.artifact.format
        if (data.fingerprint, format) not in artifacts:
            artifacts[data.fingerprint, format] = _floor(store, data, format)
        if artifact := artifacts[data.fingerprint, format]:
            job = dataclasses.replace(item.job, artifact=artifact)
            jobs[job.key] = job
    return [Planned(job=job) for job in jobs.values()]


def _floor(store: Store, data: Data, format: str) -> Artifact | None:
    """None if this format cannot hold it: then the report has no floor for it."""
    name = floor_name(data)
    try:
        checkpoint = _whole_floor(store, name) or isolate.call(
            "cifar_deploy.stages.export:floor", Checkpoint, data=data, root=store.root, name=name
        )
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


def report(store: Store, planned: Iterable[Planned] | None = None) -> tuple[Table, list[Path]]:
    """The table of the results so far, or of what is planned alone, and the files that it was written to."""
    lines, samples = store.lines(results_stage.fault), Samples(store.reports)
    if lines.left_out and not lines.blocks:
        raise Corrupt(f"{store.results_path}: {lines.told()[0]}; run `cifar-deploy evaluate` again")
    results = grouped(lines.blocks)
    if planned is not None:
        keys = {item.job.key for item in planned}
        results = [result for result in results if result.job.key in keys]
    table = report_stage.build(results, samples)
    table = dataclasses.replace(table, lost=(*lines.told(), *samples.told()))
    paths = []
    for name in REPORTS:
        path = store.reports / f"report.{REPORTS[name].suffix}"
        files.write_text(path, REPORTS[name].render(table))
        paths.append(path)
    return table, paths


def compare(a: Path, b: Path, *, unlike: bool = False) -> list[Pair]:
    """How the results of `b` differ from those of `a`: output folders, or results.jsonl files with their raw/ beside them.

    Raises UsageError if there is nothing to compare, or, unless `unlike`, if the two answer different questions.
    """
    (results_a, raw_a), (results_b, raw_b) = _read_results(a), _read_results(b)
    return compare_stage.compare(results_a, results_b, raw_a, raw_b, unlike=unlike)


def _read_results(path: Path) -> tuple[list[Result], Raw]:
    file = _results_file(path)
    lines = read_lines(file, results_stage.fault)
    told = lines.told()
    if told and not lines.blocks:
        raise Corrupt(f"{file}: {told[0]}; give a results.jsonl that `cifar-deploy evaluate` wrote")
    for left_out in told:
        warnings.warn(f"{file}: {left_out}")
    return grouped(lines.blocks), Samples(file.parent)


def _results_file(path: Path) -> Path:
    untrusted.check_named(path, "give an output folder, or a results.jsonl")
    for candidate in (path, path / "results.jsonl", path / "reports" / "results.jsonl"):
        if os.path.lexists(candidate) and not candidate.is_dir():
            untrusted.check_named(candidate, "give another")
            untrusted.open_regular(candidate).close()
            return candidate
    raise UsageError(f"{path}: neither a results.jsonl nor a folder that holds reports/results.jsonl; give another")


def catalogue() -> list[Entry]:
    """Every plugin there is, and what it lacks here."""
    return isolate.call("cifar_deploy.stages.catalogue:catalogue", list[Entry])


def obstacles(store: Store) -> dict[str, list[str]]:
    """What stands in the way, by its reason: of the plugins that lack something here, and of the store's exports and cells."""
    found: dict[str, list[str]] = {}

    def add(reason: str, what: str) -> None:
        those = found.setdefault(reason, [])
        if what not in those:
            those.append(what)

    for entry in catalogue():
        # An environment is in nobody's way but that of the plugins that need it, and they say so.
        if entry.lacks and entry.kind != ENVIRONMENTS.kind:
            add(entry.lacks, f"{entry.kind} {entry.name}")
    for name in store.names():
        for artifact in store.artifacts(name):
            if artifact.failure:
                add(f"{artifact.failure.kind}: {artifact.failure.reason}", f"export of {name} to {artifact.format}")
    lines = store.lines(results_stage.fault)
    for told in lines.told():
        add(told, f"results in {store.results_path}")
    newest = {(Cell.of(r), r.job.metric): r for r in grouped(lines.blocks) if not r.job.special}
    for (cell, metric), result in newest.items():
        if result.failure:
            add(f"{result.failure.kind}: {result.failure.reason}", f"{metric} of {cell}")
    return found


def check_names(
    networks: Iterable[str] | None = None,
    formats: Iterable[str] | None = None,
    backends: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> None:
    """Names that the user gave: raises UnknownName for the first that is none, before any work is done."""
    for registry_, names in (
        (NETWORKS, networks),
        (FORMATS, formats),
        (BACKENDS, backends),
        (DEVICES, devices),
        (METRICS, metrics),
    ):
        for name in names or ():
            registry_.given(name)


def _all_names(store: Store) -> list[str]:
    names = store.names()
    if not names:
        raise UsageError(
            f"{store.exported}: no trained network; run `cifar-deploy train-all` first, or give another --out"
        )
    # The default networks first, in their order, as everywhere.
    order = {name: index for index, name in enumerate(DEFAULT_NETWORKS)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _checkpoint(store: Store, name: str) -> Checkpoint:
    checkpoint = store.checkpoint(check_name(name))
    if not checkpoint:
        raise UnknownName.among("trained network", name, store.names() or ["none yet: run `cifar-deploy train`"])
    return checkpoint

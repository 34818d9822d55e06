"""Steps that several commands share: run a stage, print its progress and results, count its failures."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import cifar_deploy
from cifar_deploy import config, process
from cifar_deploy.core.errors import DeployError, FailureKind, UsageError, printable
from cifar_deploy.core.on_first_use import Module

if TYPE_CHECKING:
    from cifar_deploy import console, documents, pipeline
    from cifar_deploy.choice import answer
    from cifar_deploy.core import machine, progress, ranks
    from cifar_deploy.core.records import Artifact, Checkpoint, Result
    from cifar_deploy.core.store import Store
    from cifar_deploy.core.table import Table
    from cifar_deploy.stages import evaluate as evaluate_stage
    from cifar_deploy.stages import plan as plan_stage
    from cifar_deploy.stages import track as track_stage
    from cifar_deploy.stages import train as train_stage
    from cifar_deploy.workers.track import Tracked
else:
    console, documents, pipeline = (Module(f"cifar_deploy.{name}") for name in ("console", "documents", "pipeline"))
    answer = Module("cifar_deploy.choice.answer")
    machine, progress, ranks = (Module(f"cifar_deploy.core.{name}") for name in ("machine", "progress", "ranks"))
    evaluate_stage, plan_stage, track_stage, train_stage = (
        Module(f"cifar_deploy.stages.{name}") for name in ("evaluate", "plan", "track", "train")
    )

log = logging.getLogger(__name__)
log_file: Path | None = None  # of the output folder, once one is open


class Tally:
    """Failures so far. What was not asked for by name may be unavailable without being one.

    `by_name` is whether formats, backends or devices were, `metrics_by_name` whether metrics were.
    """

    def __init__(self, by_name: bool = False, metrics_by_name: bool = False) -> None:
        self._by_name = by_name
        self._metrics_by_name = metrics_by_name
        self._failures = 0

    def add(self, kind: FailureKind, of_metric: bool = False) -> None:
        """`of_metric` if it was met in measuring, and not before."""
        is_asked = self._by_name or (of_metric and self._metrics_by_name)
        if is_asked or kind not in ("unsupported", "unavailable"):
            self._failures += 1

    def exit(self, where: str = "above") -> None:
        if self._failures:
            raise DeployError(f"{self._failures} of the asked could not be done; the reasons are {where}")


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[Store]:
    """The store of an output folder, locked; what happens inside is logged there."""
    global log_file
    with pipeline.Store(out) as store:
        log_file = store.log
        if os.path.lexists(store.log) and not stat.S_ISREG(store.log.lstat().st_mode):
            raise DeployError(f"{store.log}: is no regular file; delete it, or give another --out")
        logging.raiseExceptions = False  # a full disk takes no log; the error's own line says so
        handler = logging.FileHandler(store.log, encoding="utf-8", errors="backslashreplace", delay=True)
        handler.setFormatter(_Printable("%(asctime)s %(name)s %(message)s"))
        handler.addFilter(logging.Filter(cifar_deploy.__name__))  # packages tell much that is of no use here
        logging.basicConfig(handlers=[handler], level=logging.DEBUG, force=True)
        if used := config.used():
            log.info("%s", used)
        yield store


class _Printable(logging.Formatter):
    """Lines that a terminal shows as they are: names of files, and what workers printed, may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def prepare(dataset: str, data_dir: Path | None, preparation: pipeline.Preparation) -> pipeline.Prepared:
    with console.following(dataset) as on_progress:
        prepared = pipeline.prepare(dataset, data_dir, preparation, on_progress=on_progress)
    origin = "" if prepared.decoded else "  (from the cache)"
    console.say("data", f"{prepared.data}, fingerprint {prepared.data.fingerprint[:16]}{origin}")
    if prepared.data.preprocessing:
        console.say("", f"preprocessing: {prepared.data.preprocessing}")
    for warning in prepared.data.warnings or ():
        console.say("", f"warning: {warning}")
    return prepared


def train_alone(
    out: Path,
    networks: Sequence[str],
    settings: pipeline.TrainingSettings,
    dataset: str,
    data_dir: Path | None,
    preparation: pipeline.Preparation,
    document: type[documents.TrainDocument] | type[documents.TrainAllDocument] | None,
    *,
    name: str | None = None,
    force: bool,
) -> None:
    """A command that trains, and does nothing else. Its document is printed, if there is to be one."""
    plan_stage.check_names(networks, devices=[] if settings.device == "auto" else [settings.device])
    if settings.threads is not None:
        machine.check_threads(settings.threads, "--threads")
    ranks.check_batch(settings.recipe.batch_size)
    train_stage.check_alone(settings)
    if ranks.rank() > 0:  # the first rank alone says anything, unless it goes wrong
        pipeline.follow(pipeline.prepare(dataset, data_dir, preparation), networks[0], settings, name=name)
        return
    tally = Tally()
    with output_folder(out) as store:
        trainings = train(store, networks, settings, dataset, data_dir, preparation, tally, name=name, force=force)
    if document:
        console.print_document(document.of(store, *trainings))
    trainings.raise_if_none()
    tally.exit()


class Trainings(NamedTuple):
    prepared: pipeline.Prepared
    trained: list[pipeline.Outcome[Checkpoint]]
    failed: dict[str, DeployError]  # by name

    def raise_if_none(self) -> None:
        """Of one network alone, its error is the command's."""
        if len(self.failed) == 1 and not self.trained:
            raise next(iter(self.failed.values()))


def train(
    store: Store,
    networks: Sequence[str],
    settings: pipeline.TrainingSettings,
    dataset: str,
    data_dir: Path | None,
    preparation: pipeline.Preparation,
    tally: Tally,
    *,
    name: str | None = None,
    force: bool,
) -> Trainings:
    """Train each network. One that fails does not keep the next from it."""
    for network in networks:
        train_stage.check_teacher(store, settings, train_stage.name_of(network, name))
    train_stage.check_ready(store, networks, settings, name, force)
    prepared = prepare(dataset, data_dir, preparation)
    wanted = [
        train_stage.training_of(store, prepared, network, settings, name=name, force=force).recipe
        for network in networks
    ]
    trainings = Trainings(prepared, [], {})
    for network, recipe in zip(networks, wanted, strict=True):
        title = train_stage.name_of(network, name)
        console.say("train", f"{title}: {recipe}")
        try:
            with console.following(title) as on_progress:
                trained = pipeline.train(
                    store, prepared, network, settings, name=name, force=force, on_progress=on_progress
                )
        except DeployError as error:
            if isinstance(error, UsageError) and len(networks) == 1:
                raise
            trainings.failed[title] = error
            if len(networks) > 1:
                tally.add("failed")  # a network that was asked for, whatever kept it from being trained
                process.print_error(str(error))
            continue
        console.say("", console.checkpoint_line(trained.value) + ("  (trained before)" if trained.reused else ""))
        trainings.trained.append(trained)
    return trainings


def export(
    store: Store,
    names: Sequence[str],
    formats: Sequence[str] | None,
    force: bool,
    tally: Tally,
    input: Literal["float32", "uint8"] = "float32",
    calibration_data: Path | None = None,
) -> list[pipeline.Outcome[Artifact]]:
    artifacts = []
    with console.following("export") as on_progress:
        for exported in pipeline.export(
            store,
            names,
            formats,
            input=input,
            calibration_data=calibration_data,
            force=force,
            on_progress=on_progress,
        ):
            console.say(
                "export", console.artifact_line(exported.value) + ("  (exported before)" if exported.reused else "")
            )
            if exported.value.failure:
                tally.add(exported.value.failure.kind)
            for _ in exported.value.mismatches:
                tally.add("wrong output")
            artifacts.append(exported)
    return artifacts


def evaluate(
    store: Store,
    planned: Sequence[pipeline.Planned],
    settings: pipeline.EvaluationSettings,
    force: bool,
    tally: Tally,
) -> list[pipeline.Outcome[Result]]:
    results = []
    told: Counter[tuple[str, ...]] = Counter()  # what is shown once: a package that is missing, a file that is damaged
    with console.following("evaluate") as on_progress:
        for outcome in pipeline.evaluate(store, planned, settings, force=force, on_progress=on_progress):
            result = outcome.value
            results.append(outcome)
            if result.failure and not evaluate_stage.is_expected(result):
                tally.add(result.failure.kind, of_metric=outcome.tried)
            if result.failure and result.failure.kind in ("unavailable", "load error"):
                of_file = (result.job.artifact.title,) if result.failure.kind == "load error" else ()
                told[*of_file, result.failure.reason] += 1
                if told[*of_file, result.failure.reason] > 1:
                    continue
            if result.failure or (not outcome.reused and evaluate_stage.is_measured(result.job)):
                console.say("evaluate", console.result_line(result))
    if more := told.total() - len(told):
        console.say("evaluate", f"{progress.counted(more, 'more result')} missing, for a reason given above")
    if reused := sum(outcome.reused for outcome in results):
        console.say("evaluate", f"{reused} of {len(results)} results were measured before  (--force to repeat)")
    return results


def say_what_to_ship(store: Store, planned: Sequence[pipeline.Planned]) -> None:
    """The answer in three lines; nothing where too little was measured for one."""
    with contextlib.suppress(UsageError):
        choice = pipeline.choose(store, planned=planned)
        if choice.winner:
            console.print_answer(answer.lines(choice))


def report(store: Store, view: console.View, machines: Sequence[str] = ()) -> tuple[Table, list[Path]]:
    table, paths = pipeline.report(store, machines=machines)
    print_report(table, paths, view)
    return table, paths


def track(store: Store, uri: str, experiment: str | None, view: console.View, machines: Sequence[str] = ()) -> Tracked:
    with console.following("mlflow") as on_progress:
        tracked = pipeline.track(store, uri, experiment=experiment, machines=machines, on_progress=on_progress)
    if view != "answer":
        before = f", {progress.counted(tracked.reused, 'run')} logged before" if tracked.reused else ""
        logged = f"{progress.counted(tracked.logged, 'run')} logged{before}"
        console.say("mlflow", f"{tracked.experiment} at {track_stage.shown(uri)}: {logged}")
    return tracked


def print_report(table: Table, paths: Sequence[Path], view: console.View) -> None:
    console.print_table(table, view)
    if view == "answer":
        return
    if paths:
        console.line()
    for path in paths:
        console.say("report", from_here(path))


def from_here(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except OSError:  # here is gone
        return str(path)

"""What `--json` prints: one document a command, each of a type from which its schema in docs/schemas/ is made.

Numbers are in the stored units: seconds, bytes, shares. `python -m cifar_deploy.documents docs/schemas` writes the schemas.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from cifar_deploy import pipeline, selftest
from cifar_deploy.choice import answer
from cifar_deploy.choice.candidates import Candidate
from cifar_deploy.choice.choose import Price
from cifar_deploy.choice.limits import Limit
from cifar_deploy.core import files
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.environment import Environment, Made
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.outcome import failure_of
from cifar_deploy.core.profile import Operator, Profile
from cifar_deploy.core.records import (
    Addition,
    Artifact,
    Checkpoint,
    Data,
    External,
    Failure,
    File,
    Mismatch,
    Normalisation,
    Parity,
    Recipe,
    Result,
    Training,
    Trial,
)
from cifar_deploy.core.samples import Samples
from cifar_deploy.core.schema import Schema, schema_of
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Answer, Health, Row, Section, Table, Value
from cifar_deploy.core.verdict import Verdict
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration, Summary
from cifar_deploy.stages import choose as choose_stage
from cifar_deploy.stages.compare import Difference, Machines, column_of
from cifar_deploy.stages.pairing import Match
from cifar_deploy.stages.predict import Predicted
from cifar_deploy.workers.predict import Prediction
from cifar_deploy.workers.track import Tracked


@dataclass(frozen=True, kw_only=True)
class Document:
    """What one command has done. The version rises when a field changes its meaning or goes, not when one is added."""

    version: Literal[1] = 1
    command: str


def text(document: Document) -> str:
    """ASCII, so that a terminal shows every name as it is. What is no finite number is null."""
    return json.dumps(_finite(to_json(document)), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Parts of documents


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number in its unit, with its interval and what is known of its trustworthiness."""

    number: float
    unit: str  # "" of what has none
    estimate: Estimate | None
    verdict: Verdict | None

    @classmethod
    def of(cls, value: Value, unit: str) -> Self:
        return cls(number=value.number, unit=unit, estimate=value.estimate, verdict=value.verdict)


def _measured(summary: Summary) -> dict[str, Measured]:
    """By `metric.value`, as latency.p50."""
    metric = summary.result.job.metric
    return {
        f"{metric}.{key}": Measured.of(value, METRICS[metric].columns[key].stored_unit)
        for key, value in summary.values.items()
    }


def _paths(store: pipeline.Store, artifact: Artifact) -> tuple[str, ...]:
    if isinstance(artifact.origin, External):
        return tuple(file.name for file in artifact.files)
    return tuple(str(store.folder_of(artifact) / file.name) for file in artifact.files)


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data set that is ready, and the folder of its arrays."""

    data: Data
    folder: Path
    reused: bool  # from the cache

    @classmethod
    def of(cls, prepared: pipeline.Prepared) -> Self:
        return cls(data=prepared.data, folder=prepared.folder, reused=not prepared.decoded)


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network that is trained, now or before. Its whole record is checkpoint.json, beside the weights."""

    name: str
    network: str
    recipe: Recipe
    reused: bool
    weights: File
    folder: Path  # of the weights
    accuracy: float | None  # on the test images, after the last epoch; None if it was not tested
    epochs: int
    training_s: float
    wall_s: float
    parameters: int
    macs: int | None
    device: str

    @classmethod
    def of(cls, store: pipeline.Store, trained: pipeline.Outcome[Checkpoint]) -> Self:
        checkpoint = trained.value
        training = checkpoint.training
        assert isinstance(training, Training)
        return cls(
            name=training.name,
            network=training.network,
            recipe=training.recipe,
            reused=trained.reused,
            weights=checkpoint.weights,
            folder=store.checkpoint_folder(training.name),
            accuracy=checkpoint.accuracy,
            epochs=len(checkpoint.curve),
            training_s=checkpoint.seconds,
            wall_s=checkpoint.wall_seconds,
            parameters=checkpoint.parameters,
            macs=checkpoint.macs,
            device=checkpoint.device,
        )


@dataclass(frozen=True, kw_only=True)
class FailedTraining:
    """A network that was asked for and is not trained."""

    name: str
    failure: Failure


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Networks that are trained on one data set, and those that failed."""

    data: PreparedData
    trained: tuple[TrainedNetwork, ...]
    failed: tuple[FailedTraining, ...]

    @classmethod
    def of(
        cls,
        store: pipeline.Store,
        prepared: pipeline.Prepared,
        trained: Iterable[pipeline.Outcome[Checkpoint]],
        failed: Mapping[str, DeployError],
    ) -> Self:
        return cls(
            data=PreparedData.of(prepared),
            trained=tuple(TrainedNetwork.of(store, outcome) for outcome in trained),
            failed=tuple(FailedTraining(name=name, failure=failure_of(error)) for name, error in failed.items()),
        )


@dataclass(frozen=True, kw_only=True)
class Unvalidated:
    """A backend that could not validate an artifact here."""

    backend: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExportedArtifact:
    """A network in a format, or why it is not there. Its whole record is artifact.json, beside its files."""

    name: str
    format: str
    input: Literal["float32", "uint8"]
    reused: bool
    folder: Path
    files: tuple[File, ...]
    bytes: int  # of all files
    parity: tuple[Parity, ...]  # one for each backend that validated it
    mismatches: tuple[Mismatch, ...]
    unvalidated: tuple[Unvalidated, ...]
    choices: Mapping[str, int | float | str]  # what the format was told, or chose itself
    failure: Failure | None

    @classmethod
    def of(cls, store: pipeline.Store, exported: pipeline.Outcome[Artifact]) -> Self:
        artifact = exported.value
        return cls(
            name=artifact.name,
            format=artifact.format or "",
            input=artifact.input,
            reused=exported.reused,
            folder=store.folder_of(artifact),
            files=artifact.files,
            bytes=artifact.bytes,
            parity=artifact.parity,
            mismatches=artifact.mismatches,
            unvalidated=tuple(Unvalidated(backend=b, reason=reason) for b, reason in artifact.unvalidated.items()),
            choices=artifact.choices,
            failure=artifact.failure,
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredResult:
    """A metric of a configuration: its values by `metric.value`, or why there are none."""

    configuration: Configuration
    metric: str
    trial: Trial
    batch_size: int
    reused: bool
    rounds: int
    values: Mapping[str, Measured]
    words: Mapping[str, str]  # by `metric.value`: what is lacking for a number
    failure: Failure | None

    @classmethod
    def of(cls, store: pipeline.Store, outcome: pipeline.Outcome[Result]) -> Self:
        result = outcome.value
        summary = Summary(result, Samples(store.reports))
        return cls(
            configuration=Configuration.of(result),
            metric=result.job.metric,
            trial=result.job.trial,
            batch_size=result.job.batch_size,
            reused=outcome.reused,
            rounds=len(result.measurements),
            values=_measured(summary),
            words={f"{result.job.metric}.{key}": word for key, word in summary.words.items()},
            failure=result.failure,
        )


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A column, by the key that a row's numbers have; `unit` is theirs."""

    key: str
    title: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row: what tells it from the others, and of each column a number, a failure, a word or nothing."""

    labels: Mapping[str, str]
    values: Mapping[str, Measured]
    failures: Mapping[str, Failure]
    words: Mapping[str, str]

    @classmethod
    def of(cls, section: Section, row: Row) -> Self:
        titles = (title.replace(" ", "_") for title in section.label_titles)
        return cls(
            labels=dict(zip(titles, row.labels, strict=True)),
            values={
                key: Measured.of(value, section.columns[key].stored_unit)
                for key, value in row.values.items()
                if key in section.columns
            },
            failures=row.failures,
            words=row.words,
        )


@dataclass(frozen=True, kw_only=True)
class TitledTable:
    """A table of the report."""

    title: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, section: Section) -> Self:
        return cls(
            title=section.title,
            columns=tuple(
                TableColumn(key=key, title=column.title, unit=column.stored_unit)
                for key, column in section.columns.items()
            ),
            rows=tuple(TableRow.of(section, row) for row in section.rows),
            notes=section.notes,
        )


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What every number depends on: the data, the machine, versions."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportPick:
    """A configuration that the answer names."""

    role: str
    title: str
    paths: tuple[str, ...]  # of its files, below the output folder
    example: str | None  # the path of its example.py, likewise
    is_winner: bool


@dataclass(frozen=True, kw_only=True)
class ReportAnswer:
    """Which configuration to ship, and why, in words. `choose --json` has the numbers."""

    headline: str
    reasons: tuple[str, ...]
    picks: tuple[ReportPick, ...]

    @classmethod
    def of(cls, answer: Answer) -> Self:
        return cls(
            headline=answer.headline,
            reasons=answer.reasons,
            picks=tuple(
                ReportPick(
                    role=pick.role,
                    title=pick.title,
                    paths=pick.paths,
                    example=pick.example.path if pick.example else None,
                    is_winner=pick.is_winner,
                )
                for pick in answer.picks
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why numbers may not be believed, and which."""

    cause: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportHealth:
    """How far the measurements may be believed."""

    summary: str
    causes: tuple[Cause, ...]

    @classmethod
    def of(cls, health: Health) -> Self:
        causes = tuple(Cause(cause=cause, names=names) for cause, names in health.causes.items())
        return cls(summary=health.line, causes=causes)


@dataclass(frozen=True, kw_only=True)
class TablesOfMachine:
    """The report of one of several devices."""

    machine: str
    description: str  # processor, cores, memory, system
    answer: ReportAnswer | None
    health: ReportHealth | None
    facts: tuple[Fact, ...]  # of a further device, those that are not the first one's
    tables: tuple[TitledTable, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, table: Table) -> Self:
        return cls(machine=table.device, description=table.machine, **_of_one_device(table))


def _of_one_device(table: Table) -> dict[str, Any]:
    return {
        "answer": ReportAnswer.of(table.answer) if table.answer else None,
        "health": ReportHealth.of(table.health) if table.health else None,
        "facts": tuple(Fact(name=name, values=values) for name, values in table.facts.items()),
        "tables": tuple(TitledTable.of(section) for section in table.sections),
        "failures": table.failures,
        "warnings": table.warnings,
    }


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The whole report, with the files that it was written to. Of several devices these fields are the first one's."""

    title: str
    answer: ReportAnswer | None
    health: ReportHealth | None
    facts: tuple[Fact, ...]
    tables: tuple[TitledTable, ...]
    failures: tuple[str, ...]
    lost: tuple[str, ...]  # what could not be read of the results
    warnings: tuple[str, ...]  # of numbers that are not stable
    paths: tuple[Path, ...]
    overview: TitledTable | None = None  # several devices side by side
    machines: tuple[TablesOfMachine, ...] = ()  # each of several devices, the first one too

    @classmethod
    def of(cls, table: Table, paths: Sequence[Path]) -> Self:
        return cls(
            title=table.title,
            lost=table.lost,
            paths=tuple(paths),
            overview=TitledTable.of(table.overview.section) if table.overview else None,
            machines=tuple(map(TablesOfMachine.of, table.devices)),
            **_of_one_device(table),
        )


@dataclass(frozen=True, kw_only=True)
class AskedLimit:
    """A limit as it was asked for; `percentile` is of a latency."""

    option: str
    number: float
    percentile: int

    @classmethod
    def of(cls, limit: Limit) -> Self:
        return cls(option=limit.option, number=limit.number, percentile=limit.percentile)


@dataclass(frozen=True, kw_only=True)
class KeptLimit(AskedLimit):
    """A limit that the winner keeps, and with how much confidence; null of a number without a spread."""

    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class RelaxedLimit:
    """A limit, and the number up to which it would have to give way."""

    option: str
    number: float


@dataclass(frozen=True, kw_only=True)
class Shippable:
    """A configuration that may be shipped, with all that was measured of it."""

    configuration: Configuration
    files: tuple[str, ...]
    is_here: bool  # whether they lie there; `export` makes those that do not
    values: Mapping[str, Measured]
    speed_up: Measured | None  # over PyTorch eager; over the first file, of an external model
    doubts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Picked(Shippable):
    """A pick, and the configurations as fast as it that take more memory or are larger."""

    role: str
    ties: tuple[Configuration, ...]


@dataclass(frozen=True, kw_only=True)
class Near(Shippable):
    """What would qualify if these limits gave way."""

    relaxed: tuple[RelaxedLimit, ...]


@dataclass(frozen=True, kw_only=True)
class PointCosts:
    """What one percentage point of accuracy costs; null where that is not known."""

    latency_s: float | None
    memory_bytes: float | None
    size_bytes: float | None
    training_s: float | None


@dataclass(frozen=True, kw_only=True)
class NextPoint(Shippable):
    """The next more accurate configuration, limits or not: so many points more than the winner."""

    points: float
    a_point: PointCosts


@dataclass(frozen=True, kw_only=True)
class NeverPicked:
    """A configuration that is never picked, whatever the limits."""

    configuration: Configuration
    reason: str


def _shippable(store: pipeline.Store, candidate: Candidate) -> dict[str, Any]:
    """The fields of a Shippable."""
    found = candidate.speed_up
    return {
        "configuration": candidate.configuration,
        "files": _paths(store, candidate.artifact),
        "is_here": choose_stage.is_here(store, candidate.artifact),
        "values": {key: value for summary in candidate.of_one.values() for key, value in _measured(summary).items()},
        "speed_up": Measured.of(found, "1") if found else None,
        "doubts": tuple(candidate.doubts),
    }


def _next_point(store: pipeline.Store, price: Price) -> NextPoint:
    return NextPoint(
        **_shippable(store, price.candidate),
        points=price.points,
        a_point=PointCosts(
            latency_s=price.latency_s,
            memory_bytes=price.memory_bytes,
            size_bytes=price.size_bytes,
            training_s=price.training_s,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class DifferenceIn(Difference):
    """One number of a configuration on both sides, in its unit."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """One configuration of both, or of one alone, and all that is compared of it, by `metric.value`."""

    configuration: Configuration  # as A names it, if it is there
    match: Match | None  # the names on both sides; null if the name is in A or in B alone
    machines: Machines | None = None  # on which device each side was measured; null where both hold the same one alone
    differences: Mapping[str, DifferenceIn]

    @classmethod
    def of(cls, pair: pipeline.Pair) -> Self:
        differences = {
            key: DifferenceIn(**vars(difference), unit=column_of(key).stored_unit)
            for key, difference in pair.differences.items()
        }
        return cls(configuration=pair.configuration, match=pair.match, machines=pair.machines, differences=differences)


@dataclass(frozen=True, kw_only=True)
class ConvolutionsIn:
    """So many convolutions run in a precision; null where the runtime does not say."""

    precision: str | None
    count: int


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """The time of an operator, or of all of a type and precision, in all inferences together."""

    type: str
    precision: str | None
    calls: int
    seconds: float
    share: float  # of the time of all inferences


@dataclass(frozen=True, kw_only=True)
class NodeTime(OperatorTime):
    """The time of one operator of the graph that the runtime executes."""

    name: str


@dataclass(frozen=True, kw_only=True)
class ListedEnvironment:
    """An environment: what it was made of, or why it cannot be used here."""

    name: str
    folder: Path
    made: Made | None
    why_unavailable: str | None

    @classmethod
    def of(cls, environment: Environment) -> Self:
        return cls(
            name=environment.name,
            folder=environment.folder,
            made=environment.made(),
            why_unavailable=str(lack) if (lack := environment.lack()) else None,
        )


@dataclass(frozen=True, kw_only=True)
class VisitedDevice:
    """A device that was asked to measure: what came of it, and where the time went."""

    name: str
    host: str
    failure: str | None
    python: str | None  # that measured
    versions: Mapping[str, str]  # of the packages that were there
    wheels: tuple[str, ...]  # that it was sent, or had from an earlier time
    sent_bytes: int
    runs: int  # measured now
    appended: int  # to the results here
    refused: Mapping[str, int]  # by reason
    seconds: float  # all in all
    first_s: float | None  # until the first result was here
    last_s: float | None  # until the last one was
    measuring_s: float  # in the runs themselves

    @classmethod
    def of(cls, visited: pipeline.Visited) -> Self:
        own = {field.name for field in fields(cls)}
        given = {name: value for name, value in vars(visited).items() if name in own}
        return cls(name=visited.device.name, host=visited.device.ssh.host, versions=visited.packages, **given)


# Documents


@dataclass(frozen=True, kw_only=True)
class DataDocument(Document):
    """A data set, and where its arrays are."""

    command: Literal["data"] = "data"
    data: Data
    folder: Path
    reused: bool

    @classmethod
    def of(cls, prepared: pipeline.Prepared) -> Self:
        return cls(**vars(PreparedData.of(prepared)))


@dataclass(frozen=True, kw_only=True)
class TrainDocument(Trainings, Document):
    """The network that is trained, or why it is not."""

    command: Literal["train"] = "train"


@dataclass(frozen=True, kw_only=True)
class TrainAllDocument(Trainings, Document):
    """The networks that are trained, and why others are not."""

    command: Literal["train-all"] = "train-all"


@dataclass(frozen=True, kw_only=True)
class AddDocument(Document):
    """A network that was trained elsewhere, now or before. Its whole record is checkpoint.json, beside the weights."""

    command: Literal["add"] = "add"
    name: str
    network: str
    weights: File | None  # the user's file; null: the network's own function returned them
    entry: str  # of that file
    prefix: str  # that was taken off each name
    normalisation: Normalisation | None  # null: mean and std of the data
    data: Data
    accuracy: float | None
    test_images: int
    parameters: int
    macs: int | None
    warnings: tuple[str, ...]
    reused: bool
    folder: Path  # of the weights

    @classmethod
    def of(cls, store: pipeline.Store, added: pipeline.Outcome[Checkpoint]) -> Self:
        checkpoint = added.value
        addition = checkpoint.training
        assert isinstance(addition, Addition)
        return cls(
            name=addition.name,
            network=addition.network,
            weights=addition.weights,
            entry=addition.entry,
            prefix=addition.prefix,
            normalisation=addition.normalisation,
            data=addition.data,
            accuracy=checkpoint.accuracy,
            test_images=checkpoint.test_images,
            parameters=checkpoint.parameters,
            macs=checkpoint.macs,
            warnings=checkpoint.warnings,
            reused=added.reused,
            folder=store.checkpoint_folder(addition.name),
        )


@dataclass(frozen=True, kw_only=True)
class ExportDocument(Document):
    """Every artifact that was asked for, made now, found from before or failed."""

    command: Literal["export"] = "export"
    artifacts: tuple[ExportedArtifact, ...]

    @classmethod
    def of(cls, store: pipeline.Store, exported: Iterable[pipeline.Outcome[Artifact]]) -> Self:
        return cls(artifacts=tuple(ExportedArtifact.of(store, outcome) for outcome in exported))


@dataclass(frozen=True, kw_only=True)
class PackDocument(Document):
    """The pack that was written."""

    command: Literal["pack"] = "pack"
    id: str
    path: Path
    bytes: int
    networks: tuple[str, ...]
    formats: tuple[str, ...]  # with their inputs, as onnx-uint8
    images: Mapping[str, int]  # that travel, by data set
    requires: tuple[str, ...]  # the runtimes' packages, as pip takes them

    @classmethod
    def of(cls, packed: pipeline.Packed) -> Self:
        manifest = packed.manifest
        return cls(
            id=packed.id,
            path=packed.path.absolute(),
            bytes=packed.bytes,
            networks=manifest.networks,
            formats=manifest.variants,
            images={choice.data.dataset: choice.images for choice in manifest.choices},
            requires=manifest.requires,
        )


@dataclass(frozen=True, kw_only=True)
class FailedImport:
    """A file of which nothing could be read."""

    path: Path
    failure: Failure


@dataclass(frozen=True, kw_only=True)
class ImportDocument(Document):
    """What has come in of each file, and what has not."""

    command: Literal["import"] = "import"
    imported: tuple[pipeline.Imported, ...]
    failed: tuple[FailedImport, ...]

    @classmethod
    def of(cls, imported: Sequence[pipeline.Imported], failed: Mapping[Path, DeployError]) -> Self:
        return cls(
            imported=tuple(imported),
            failed=tuple(FailedImport(path=path, failure=failure_of(error)) for path, error in failed.items()),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateDocument(Document):
    """Every result that was asked for, measured now, found from before or failed."""

    command: Literal["evaluate"] = "evaluate"
    results: tuple[MeasuredResult, ...]

    @classmethod
    def of(cls, store: pipeline.Store, measured: Iterable[pipeline.Outcome[Result]]) -> Self:
        return cls(results=tuple(MeasuredResult.of(store, outcome) for outcome in measured))


@dataclass(frozen=True, kw_only=True)
class RunDocument(Trainings, Document):
    """What every step of the pipeline made. What is missing failed, and its failure says why."""

    command: Literal["run"] = "run"
    artifacts: tuple[ExportedArtifact, ...]
    results: tuple[MeasuredResult, ...]
    report: Tables | None  # null if no network could be trained

    @classmethod
    def of_all(
        cls,
        store: pipeline.Store,
        trainings: Trainings,
        exported: Iterable[pipeline.Outcome[Artifact]],
        measured: Iterable[pipeline.Outcome[Result]],
        report: Tables | None,
    ) -> Self:
        return cls(
            **vars(trainings),
            artifacts=ExportDocument.of(store, exported).artifacts,
            results=EvaluateDocument.of(store, measured).results,
            report=report,
        )


@dataclass(frozen=True, kw_only=True)
class QuickstartDocument(Document):
    """The networks that travel with the package, and all that was made and measured of them."""

    command: Literal["quickstart"] = "quickstart"
    networks: tuple[TrainedNetwork, ...]
    artifacts: tuple[ExportedArtifact, ...]
    results: tuple[MeasuredResult, ...]
    report: Tables

    @classmethod
    def of(
        cls,
        store: pipeline.Store,
        networks: Iterable[pipeline.Outcome[Checkpoint]],
        exported: Iterable[pipeline.Outcome[Artifact]],
        measured: Iterable[pipeline.Outcome[Result]],
        report: Tables,
    ) -> Self:
        return cls(
            networks=tuple(TrainedNetwork.of(store, outcome) for outcome in networks),
            artifacts=ExportDocument.of(store, exported).artifacts,
            results=EvaluateDocument.of(store, measured).results,
            report=report,
        )


@dataclass(frozen=True, kw_only=True)
class ReportDocument(Document):
    """The tables of the report, with the files that it was written to."""

    command: Literal["report"] = "report"
    report: Tables
    mlflow: Tracked | None = None  # what --mlflow did


@dataclass(frozen=True, kw_only=True)
class BenchDocument(Document):
    """External models side by side. `paths` is empty without --out."""

    command: Literal["bench"] = "bench"
    report: Tables


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What to ship, and why. Without a winner nothing qualifies."""

    answer: tuple[str, ...]  # in words
    limits: tuple[AskedLimit, ...]
    unmeasured: tuple[AskedLimit, ...]  # limits on what nothing here has a number of
    within: float
    considered: int
    qualified: int
    winner: Shippable | None
    kept: tuple[KeptLimit, ...]
    picks: tuple[Picked, ...]
    front: tuple[Shippable, ...]
    near_misses: tuple[Near, ...]
    next_point: NextPoint | None
    never: tuple[NeverPicked, ...]

    @classmethod
    def of(cls, store: pipeline.Store, choice: pipeline.Choice) -> Self:
        def shown(candidate: Candidate) -> dict[str, Any]:
            return _shippable(store, candidate)

        return cls(
            answer=tuple(answer.lines(choice)),
            limits=tuple(map(AskedLimit.of, choice.constraints.limits)),
            unmeasured=tuple(map(AskedLimit.of, choice.unmeasured)),
            within=choice.constraints.within,
            considered=choice.considered,
            qualified=choice.qualified,
            winner=Shippable(**shown(choice.winner)) if choice.winner else None,
            kept=tuple(
                KeptLimit(**vars(AskedLimit.of(kept.limit)), confidence=kept.confidence) for kept in choice.kept
            ),
            picks=tuple(Picked(**shown(pick.candidate), role=pick.role, ties=pick.ties) for pick in choice.picks),
            front=tuple(Shippable(**shown(candidate)) for candidate in choice.front),
            near_misses=tuple(
                Near(
                    **shown(miss.candidate),
                    relaxed=tuple(RelaxedLimit(option=one.option, number=n) for one, n in miss.relaxed.items()),
                )
                for miss in choice.near_misses
            ),
            next_point=_next_point(store, choice.price) if choice.price else None,
            never=tuple(NeverPicked(configuration=one, reason=reason) for one, reason in choice.never.items()),
        )


@dataclass(frozen=True, kw_only=True)
class ChosenOnMachine(Chosen):
    """What to ship on one of several devices."""

    machine: str


@dataclass(frozen=True, kw_only=True)
class ChooseDocument(Chosen, Document):
    """What to ship, and why. Without a winner nothing qualifies. Of several devices these fields are the first one's."""

    command: Literal["choose"] = "choose"
    machines: tuple[ChosenOnMachine, ...] = ()  # each of several devices, the first one too

    @classmethod
    def of_all(cls, store: pipeline.Store, choices: Mapping[str, pipeline.Choice]) -> Self:
        """`choices` are by the names of the devices."""
        each = {title: vars(Chosen.of(store, choice)) for title, choice in choices.items()}
        machines = [ChosenOnMachine(**fields, machine=title) for title, fields in each.items()]
        return cls(**next(iter(each.values())), machines=tuple(machines) if len(machines) > 1 else ())


@dataclass(frozen=True, kw_only=True)
class ProfileDocument(Document):
    """Where the time of an inference goes. Operators are the largest first; their seconds are of all inferences together."""

    command: Literal["profile"] = "profile"
    name: str
    format: str
    backend: str
    device: str
    threads: int
    inferences: int
    seconds: float
    profiled_share: float  # the rest is the runtime's work between operators, and the profiler's own
    convolutions: tuple[ConvolutionsIn, ...]
    by_type: tuple[OperatorTime, ...]
    by_node: tuple[NodeTime, ...]
    trace: Path
    note: str  # how the runtime counts operators; "" if nothing has to be said

    @classmethod
    def of(cls, profile: Profile, trace: Path) -> Self:
        def told(operator: Operator) -> dict[str, Any]:
            return {
                "type": operator.type,
                "precision": operator.precision,
                "calls": operator.calls,
                "seconds": operator.seconds,
                "share": profile.share(operator),
            }

        return cls(
            name=profile.name,
            format=profile.format,
            backend=profile.backend,
            device=profile.device,
            threads=profile.threads,
            inferences=profile.inferences,
            seconds=profile.seconds,
            profiled_share=profile.profiled_share,
            convolutions=tuple(
                ConvolutionsIn(precision=precision, count=count) for precision, count in profile.convolutions().items()
            ),
            by_type=tuple(OperatorTime(**told(operator)) for operator in profile.by_type()),
            by_node=tuple(NodeTime(**told(operator), name=operator.name) for operator in profile.by_node()),
            trace=trace,
            note=profile.note,
        )


@dataclass(frozen=True, kw_only=True)
class CompareDocument(Document):
    """How B differs from A, configuration by configuration."""

    command: Literal["compare"] = "compare"
    pairs: tuple[ComparedPair, ...]

    @classmethod
    def of(cls, pairs: Iterable[pipeline.Pair]) -> Self:
        return cls(pairs=tuple(map(ComparedPair.of, pairs)))


@dataclass(frozen=True, kw_only=True)
class SelftestDocument(Document):
    """Each check of the measurements on this machine."""

    command: Literal["selftest"] = "selftest"
    checks: tuple[selftest.Check, ...]


@dataclass(frozen=True, kw_only=True)
class ListDocument(Document):
    """Everything that can be chosen, and why some of it is unavailable here."""

    command: Literal["list"] = "list"
    ready: pipeline.Ready
    entries: tuple[pipeline.Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[pipeline.Entry]) -> Self:
        entries = tuple(entries)
        return cls(ready=pipeline.Ready.of(entries), entries=entries)


@dataclass(frozen=True, kw_only=True)
class DoctorDocument(Document):
    """What is ready here, and what cannot be done, by its reason: no gap if nothing is missing."""

    command: Literal["doctor"] = "doctor"
    ready: pipeline.Ready
    gaps: tuple[pipeline.Gap, ...]


@dataclass(frozen=True, kw_only=True)
class EnvCreateDocument(Document):
    """The environment that is made, now or before."""

    command: Literal["env create"] = "env create"
    name: str
    folder: Path
    made: Made
    reused: bool


@dataclass(frozen=True, kw_only=True)
class EnvListDocument(Document):
    """The environments that there are."""

    command: Literal["env list"] = "env list"
    environments: tuple[ListedEnvironment, ...]


@dataclass(frozen=True, kw_only=True)
class EnvRemoveDocument(Document):
    """The environment that was deleted."""

    command: Literal["env remove"] = "env remove"
    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class DeviceSshDocument(Document):
    """What came of each device."""

    command: Literal["device ssh"] = "device ssh"
    devices: tuple[VisitedDevice, ...]


@dataclass(frozen=True, kw_only=True)
class PredictDocument(Document):
    """What an artifact says images are. Nothing was timed."""

    command: Literal["predict"] = "predict"
    name: str
    format: str
    backend: str
    images: tuple[Prediction, ...]

    @classmethod
    def of(cls, predicted: Predicted) -> Self:
        artifact = predicted.artifact
        return cls(
            name=artifact.name,
            format=artifact.variant,
            backend=predicted.backend,
            images=predicted.predictions,
        )


# By command.
DOCUMENTS: Mapping[str, type[Document]] = {
    str(kind.__dataclass_fields__["command"].default): kind for kind in Document.__subclasses__()
}


def schema_file(command: str) -> str:
    """The name of its schema's file."""
    return f"{command.replace(' ', '-')}.json"


def schema(command: str) -> Schema:
    """Of the document of a command."""
    return schema_of(DOCUMENTS[command])


def write_schemas(folder: Path) -> None:
    """A file a command; other files of the folder stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in DOCUMENTS:
        files.write_text(folder / schema_file(command), json.dumps(schema(command), indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("cifar-deploy: error: cifar_deploy.documents: takes one folder; name the one to fill", file=sys.stderr)
        sys.exit(2)
    write_schemas(Path(sys.argv[1]))

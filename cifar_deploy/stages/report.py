"""Results -> Table. It reads results and nothing else: whatever it shows can be made again from results.jsonl."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.records import Checkpoint, Failure, Result
from cifar_deploy.core.table import Column, Record, Row, Section, Table
from cifar_deploy.metrics import METRICS, Copied

# The original report's test accuracies, by the network of ours that stands for each of its two.
ORIGINAL_REPORT = {"mobilenet": 0.8418, "resnet18": 0.8368}
_REPORT_EPOCHS = 20
_REPORT_RECIPE = "paper"


class Cell(NamedTuple):
    """What is compared: everything measured of one cell stands in one row."""

    name: str
    format: str
    backend: str
    device: str
    threads: int

    @classmethod
    def of(cls, result: Result) -> "Cell":
        job = result.job
        return cls(job.artifact.name, job.artifact.format, job.backend, job.device, job.threads)


def build(results: Sequence[Result]) -> Table:
    """The report of the newest results: those of each training's latest weights, on the machine measured last.

    Raises DeployError if there is nothing to report.
    """
    if not results:
        raise DeployError("report: there are no results yet; run `cifar-deploy evaluate` first")
    current = _current(results)
    cells: dict[Cell, dict[str, Result]] = {}
    for result in current:
        cells.setdefault(Cell.of(result), {})[result.job.metric] = result
    checkpoints = {result.job.artifact.name: result.job.artifact.checkpoint for result in current}
    sections = [_deployment(cells), _training(cells)]
    if comparison := _comparison(cells, checkpoints):
        sections.append(comparison)
    return Table(
        title="cifar-deploy: " + ", ".join(checkpoints),
        facts=_facts(current, checkpoints),
        sections=tuple(sections),
        failures=_failures(cells),
        definitions={name: METRICS[name].summary for name in METRICS},
        records=tuple(record for result in current for record in _records(result)),
    )


def _current(results: Sequence[Result]) -> list[Result]:
    """The newest result of each cell and metric, without those that no longer belong together.

    Left out are other machines than the last, weights that were replaced, and, within a cell, artifacts and versions
    other than the newest: a row never mixes two of them.
    """
    machine = results[-1].job.machine
    here = [result for result in results if result.job.machine == machine]
    weights = {result.job.artifact.name: result.job.artifact.checkpoint.weights.sha256 for result in here}
    made_of = {Cell.of(result): (result.job.artifact.files, result.job.versions) for result in here}
    newest: dict[tuple[Cell, str], Result] = {}
    for result in here:
        cell, artifact = Cell.of(result), result.job.artifact
        if (
            artifact.checkpoint.weights.sha256 == weights[cell.name]
            and (artifact.files, result.job.versions) == made_of[cell]
        ):
            newest.pop((cell, result.job.metric), None)
            newest[cell, result.job.metric] = result
    order = {cell: index for index, cell in enumerate(dict.fromkeys(map(Cell.of, here)))}
    metrics = list(METRICS)
    return sorted(
        newest.values(),
        key=lambda result: (
            order[Cell.of(result)],
            metrics.index(result.job.metric) if result.job.metric in metrics else 99,
        ),
    )


def _deployment(cells: dict[Cell, dict[str, Result]]) -> Section:
    """One row a cell: what runs, and what it costs there."""
    varying = [field for field in ("device", "threads") if len({getattr(cell, field) for cell in cells}) > 1]
    columns = _columns(
        metric for metric in METRICS if not (isinstance(plugin := METRICS[metric], Copied) and plugin.stage == "train")
    )
    fields = ["name", "format", "backend", *varying]
    return _section(
        "What to ship",
        tuple("network" if field == "name" else field for field in fields),
        columns,
        [(tuple(str(getattr(cell, field)) for field in fields), of_cell) for cell, of_cell in cells.items()],
        _conditions(cells),
    )


def _training(cells: dict[Cell, dict[str, Result]]) -> Section:
    """One row a network: what does not depend on how it is deployed."""
    columns = _columns(
        metric for metric in METRICS if isinstance(plugin := METRICS[metric], Copied) and plugin.stage == "train"
    )
    of_name: dict[str, dict[str, Result]] = {}
    for cell, of_cell in cells.items():
        of_name.setdefault(cell.name, {}).update(of_cell)
    return _section(
        "What it cost to train", ("network",), columns, [((name,), of_cell) for name, of_cell in of_name.items()]
    )


def _comparison(cells: dict[Cell, dict[str, Result]], checkpoints: dict[str, Checkpoint]) -> Section | None:
    """The original report's table with our numbers beside its own; None if neither of its networks is here."""
    wanted = (
        ("accuracy", "accuracy"),
        ("training_time", "seconds"),
        ("training_memory", "peak"),
        ("memory", "peak"),
        ("parameters", "parameters"),
    )
    columns = {
        "reported": Column(title="report's accuracy", unit="%", stored_unit="1", scale=100),
        **{f"{metric}.{key}": METRICS[metric].columns[key] for metric, key in wanted},
    }
    rows, notes = [], []
    for network, reported in ORIGINAL_REPORT.items():
        for name, checkpoint in checkpoints.items():
            eager = next((of for cell, of in cells.items() if cell[:3] == (name, "checkpoint", "pytorch")), None)
            if checkpoint.training.network == network and eager:
                row = _row((name,), eager, columns)
                rows.append(Row(labels=row.labels, values={**row.values, "reported": reported}, failures=row.failures))
                notes += _unlike_the_report(name, checkpoint, eager)
    if not rows:
        return None
    notes.append(
        "The report does not state its ResNet's depth; resnet18 stands for it. "
        "Ours are measured through PyTorch eager, from the last epoch's weights."
    )
    return Section(
        title="The original report's comparison",
        label_titles=("network",),
        columns=columns,
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
    )


def _unlike_the_report(name: str, checkpoint: Checkpoint, eager: dict[str, Result]) -> list[str]:
    """In what a row is no repetition of the report's."""
    training, notes = checkpoint.training, []
    if training.data.dataset != "cifar10":
        notes.append(
            f"The report's data are the original CIFAR-10; ours are {training.data.source}: "
            "the accuracies are not of the same images."
        )
    recipe = training.recipe
    if (recipe.name, recipe.epochs, recipe.learning_rate, recipe.limit_train) != (
        _REPORT_RECIPE,
        _REPORT_EPOCHS,
        0.001,
        None,
    ):
        notes.append(
            f"The report trained for {_REPORT_EPOCHS} epochs with Adam at 0.001; {name} was trained by {recipe}."
        )
    accuracy = eager.get("accuracy")
    if accuracy and accuracy.reading and accuracy.reading.values["images"] < training.data.test_images:
        notes.append(
            f"{name} was tested on {accuracy.reading.values['images']:,.0f} of {training.data.test_images:,} test images."
        )
    return notes


def _columns(metrics: Iterable[str]) -> dict[str, Column]:
    return {
        f"{metric}.{key}": column
        for metric in metrics
        for key, column in METRICS[metric].columns.items()
        if column.headline
    }


def _section(
    title: str,
    label_titles: tuple[str, ...],
    columns: dict[str, Column],
    labelled: list[tuple[tuple[str, ...], dict[str, Result]]],
    notes: tuple[str, ...] = (),
) -> Section:
    rows = [_row(labels, of_cell, columns) for labels, of_cell in labelled]
    shown = {
        key: column for key, column in columns.items() if any(key in row.values or key in row.failures for row in rows)
    }
    return Section(title=title, label_titles=label_titles, columns=shown, rows=tuple(rows), notes=notes)


def _row(labels: tuple[str, ...], of_cell: dict[str, Result], columns: dict[str, Column]) -> Row:
    values: dict[str, float] = {}
    failures: dict[str, Failure] = {}
    for column in columns:
        metric, _, key = column.partition(".")
        result = of_cell.get(metric)
        if result and result.failure:
            failures[column] = result.failure
        elif result and result.reading and key in result.reading.values:
            values[column] = result.reading.values[key]
    return Row(labels=labels, values=values, failures=failures)


def _conditions(cells: dict[Cell, dict[str, Result]]) -> tuple[str, ...]:
    """Under what the rows were measured, as far as the labels do not say it."""
    devices = sorted({cell.device for cell in cells})
    threads = sorted({cell.threads for cell in cells})
    notes = [f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."]
    every = [result for of_cell in cells.values() for result in of_cell.values()]
    if batches := sorted({result.job.batch_size for result in every if result.job.metric == "throughput"}):
        notes.append(f"Latency at batch 1, throughput at batch {' and '.join(map(str, batches))}.")
    limits = sorted({str(limit) for result in every if (limit := result.job.options.get("limit_test"))})
    if limits:
        notes.append(f"Accuracy over only {' and '.join(limits)} test images (--limit-test).")
    return tuple(notes)


def _facts(results: Sequence[Result], checkpoints: dict[str, Checkpoint]) -> dict[str, tuple[str, ...]]:
    def each(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(texts))

    return {
        "data": each(
            f"{c.training.data} (fingerprint {c.training.data.fingerprint[:16]})" for c in checkpoints.values()
        ),
        "recipe": each(str(c.training.recipe) for c in checkpoints.values()),
        "trained on": each(f"{c.device} ({c.device_name}), {c.threads} threads" for c in checkpoints.values()),
        "machine": each(str(result.job.machine) for result in results),
        "versions": each(
            f"{package} {version}" for result in results for package, version in result.job.versions.items()
        ),
        "commit": each(result.commit or "not from a checkout" for result in results),
        "measured": (f"{min(r.started for r in results)} to {max(r.started for r in results)}",),
    }


def _failures(cells: dict[Cell, dict[str, Result]]) -> tuple[str, ...]:
    """A line a reason; the metrics that share it stand together."""
    lines: dict[tuple[Cell, str, str], list[str]] = {}
    for cell, of_cell in cells.items():
        for metric, result in of_cell.items():
            if result.failure:
                lines.setdefault((cell, result.failure.kind, result.failure.reason), []).append(metric)
    return tuple(
        f"{cell.name} {cell.format} on {cell.backend} ({cell.device}), {', '.join(metrics)}: {kind}: {reason}"
        for (cell, kind, reason), metrics in lines.items()
    )


def _records(result: Result) -> Iterable[Record]:
    job, checkpoint = result.job, result.job.artifact.checkpoint
    data = checkpoint.training.data
    common: dict[str, str | int | float | None] = {
        "name": job.artifact.name,
        "network": checkpoint.training.network,
        "format": job.artifact.format,
        "backend": job.backend,
        "device": job.device,
        "threads": job.threads,
        "batch_size": job.batch_size,
        "metric": job.metric,
    }
    trace: dict[str, str | int | float | None] = {
        "options": json.dumps(dict(job.options)),
        "recipe": str(checkpoint.training.recipe),
        "dataset": data.dataset,
        "source": data.source,
        "data_fingerprint": data.fingerprint,
        "weights_sha256": checkpoint.weights.sha256,
        "artifact_sha256": " ".join(file.sha256 for file in job.artifact.files),
        "machine": str(job.machine),
        "versions": " ".join(f"{package}={version}" for package, version in job.versions.items()),
        "protocol": job.protocol,
        "commit": result.commit,
        "started": result.started,
        "raw": result.reading.raw if result.reading else None,
    }
    if result.failure:
        failed = {
            "value_name": None,
            "value": None,
            "unit": None,
            "status": result.failure.kind,
            "reason": result.failure.reason,
        }
        yield Record(fields={**common, **failed, **trace})
    for key, value in (result.reading.values if result.reading else {}).items():
        unit = METRICS[job.metric].columns[key].stored_unit
        yield Record(
            fields={**common, "value_name": key, "value": value, "unit": unit, "status": "ok", "reason": None, **trace}
        )

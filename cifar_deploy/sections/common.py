"""What the sections share: cells, and rows made of them."""

from collections.abc import Iterable, Sequence

from cifar_deploy.core import statistics
from cifar_deploy.core.records import Failure, Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.store import CHECKPOINT
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS, Copied
from cifar_deploy.metrics.summary import Cell, Summary, is_batched

# What every other format and backend is seen against.
EAGER = (CHECKPOINT, "pytorch")

Cells = dict[Cell, dict[str, Summary]]  # by metric

# What is a label only where it differs, by its title.
_VARYING = {"device": "device", "threads": "threads", "batch": "batch_size"}


def label_titles(cells: Iterable[Cell]) -> tuple[str, ...]:
    """What tells these cells apart: device, threads and batch only where they differ, no format of external files."""
    cells = list(cells)
    varying = [title for title, field in _VARYING.items() if len({getattr(cell, field) for cell in cells}) > 1]
    named = ("network", "format") if any(cell.format for cell in cells) else ("file",)
    return (*named, "backend", *varying)


def labels_of(cell: Cell, titles: Iterable[str]) -> tuple[str, ...]:
    return tuple(_label(cell, title) for title in titles)


def _label(cell: Cell, title: str) -> str:
    if title in ("network", "file"):
        return cell.name
    if title == "format":
        return cell.variant
    value = getattr(cell, _VARYING.get(title, title))
    return "own" if value is None else str(value)


def by_settings(cells: Cells) -> Cells:
    """The cells for a table, by threads and batch size. What depends on neither stands in the rows of all of them.

    A metric's own batch size is one of the others where that was asked for too, and a row of its own elsewhere.
    """
    found: Cells = {}
    for cell in sorted(cells, key=lambda cell: _order(cell, list(cells))):
        alike = [other for other in cells if other[:-2] == cell[:-2]]
        sizes = [other.batch_size for other in alike if other.batch_size and other.threads == cell.threads]
        of_own = cells.get(cell._replace(batch_size=None), {})
        recorded = {
            metric: summary
            for other in alike
            for metric, summary in cells[other].items()
            if isinstance(METRICS[metric], Copied)
        }
        shared = {**recorded, **{metric: summary for metric, summary in of_own.items() if not is_batched(metric)}}
        own_batched = {metric: summary for metric, summary in of_own.items() if is_batched(metric)}
        if cell.batch_size:
            same = {m: s for m, s in own_batched.items() if s.result.job.batch_size == cell.batch_size}
            found[cell] = {**shared, **same, **cells[cell]}
            continue
        left = {m: s for m, s in own_batched.items() if s.result.job.batch_size not in sizes}
        if left or not sizes:
            found[cell] = {**shared, **left}
    return found


def _order(cell: Cell, cells: Sequence[Cell]) -> tuple[int, int, int]:
    """As they came, those of different threads and batch sizes together."""
    first = next(place for place, other in enumerate(cells) if other[:-2] == cell[:-2])
    return first, cell.threads, cell.batch_size or 0


def with_metric(cells: Cells, metric: str) -> Cells:
    """Those of the cells that were measured by this metric."""
    return {cell: of_cell for cell, of_cell in cells.items() if metric in of_cell}


def eager_of(cell: Cell, cells: Cells) -> dict[str, Summary] | None:
    """The same network through PyTorch eager, on the same device and threads; None for itself, or if it is not there."""
    if (cell.format, cell.backend) == EAGER:
        return None
    return cells.get(cell._replace(format=EAGER[0], input="float32", backend=EAGER[1]))


def paired_ratio(numerator: Summary | None, denominator: Summary | None, column: str) -> Estimate | None:
    """Of one value of two cells, by the rounds of a session that both have; None if there is no such session."""
    if not numerator or not denominator or numerator.failure or denominator.failure:
        return None
    ours, theirs = numerator.result, denominator.result
    return (
        statistics.paired_ratio(ours.rounds(column), theirs.rounds(column)) if ours.session == theirs.session else None
    )


def is_current(result: Result, cells: Cells) -> bool:
    """Whether a result is of the same artifact, versions and machine as the cell of the table."""
    of_cell = cells.get(Cell.of(result))
    if not of_cell:
        return False
    job = next(iter(of_cell.values())).result.job
    return (job.artifact.files, job.versions, job.machine) == (
        result.job.artifact.files,
        result.job.versions,
        result.job.machine,
    )


def is_of_training(metric: str) -> bool:
    plugin = METRICS[metric]
    return isinstance(plugin, Copied) and plugin.stage == "train"


def metrics_of(cells: Cells) -> list[str]:
    """What was measured of any cell: the listed metrics in their order, then anyone's own."""
    found = dict.fromkeys(metric for of_cell in cells.values() for metric in of_cell)
    return [*(name for name in METRICS if name in found), *(name for name in found if name not in METRICS)]


def headline_columns(metrics: Iterable[str]) -> dict[str, Column]:
    return {
        f"{metric}.{key}": column
        for metric in metrics
        for key, column in METRICS[metric].columns.items()
        if column.headline
    }


def filled(
    title: str,
    label_titles: tuple[str, ...],
    columns: dict[str, Column],
    rows: Sequence[Row],
    notes: tuple[str, ...] = (),
) -> Section:
    """A section without the columns in which no row has anything."""
    shown = {
        key: column
        for key, column in columns.items()
        if any(key in row.values or key in row.failures or key in row.words for row in rows)
    }
    return Section(title=title, label_titles=label_titles, columns=shown, rows=tuple(rows), notes=notes)


def row_of(labels: tuple[str, ...], of_cell: dict[str, Summary], columns: dict[str, Column]) -> Row:
    values: dict[str, Value] = {}
    failures: dict[str, Failure] = {}
    words: dict[str, str] = {}
    for column in columns:
        metric, _, key = column.rpartition(".")
        summary = of_cell.get(metric)
        if summary and summary.failure:
            failures[column] = summary.failure
        elif summary and key in summary.values:
            values[column] = summary.values[key]
        elif summary and key in summary.words:
            words[column] = summary.words[key]
    return Row(labels=labels, values=values, failures=failures, words=words)

"""What to ship: a row a cell, and how its numbers were come by."""

from collections.abc import Sequence

from cifar_deploy.core.records import Result
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics.summary import Cell, Summary, compared_by, is_batched
from cifar_deploy.sections.common import (
    Cells,
    by_settings,
    eager_of,
    filled,
    headline_columns,
    is_of_training,
    label_titles,
    labels_of,
    metrics_of,
    paired_ratio,
    row_of,
)
from cifar_deploy.sections.latencies import RANK, how_measured, ranks
from cifar_deploy.sections.precision import not_faster

_FLOOR = Column(title="floor", unit="ms", stored_unit="s", scale=1000, digits=3)
_SPEED_UP = Column(title="eager / this", unit="×", stored_unit="1", interval=True)


def deployment(cells: Cells, floors: Cells, controls: Sequence[Result]) -> Section:
    """One row a cell: what runs, and what it costs there."""
    cells = by_settings(cells)
    titles = label_titles(cells)
    columns: dict[str, Column] = {}
    for key, column in headline_columns(name for name in metrics_of(cells) if not is_of_training(name)).items():
        columns[key] = column
        if key == "latency.p50":
            columns |= {"rank": RANK, "speed_up": _SPEED_UP, "floor": _FLOOR}
    places, control = ranks(cells, controls)
    rows = []
    for cell, of_cell in cells.items():
        row = row_of(labels_of(cell, titles), of_cell, columns)
        beside = {"floor": _floor(of_cell, floors), "speed_up": _speed_up(of_cell, eager_of(cell, cells))}
        rows.append(
            Row(
                labels=row.labels,
                values={**row.values, **{key: value for key, value in beside.items() if value}},
                failures=row.failures,
                words={**row.words, **({"rank": places[cell]} if cell in places else {})},
            )
        )
    notes = (*_conditions(cells, control), *not_faster(cells))
    return filled("What to ship", titles, columns, rows, notes)


def _floor(of_cell: dict[str, Summary], floors: Cells) -> Value | None:
    """The latency of the network that does next to nothing, on the same runtime in the same session."""
    latency = of_cell.get("latency")
    for cell, of_floor in floors.items():
        floor = of_floor.get("latency")
        if (
            latency
            and floor
            and cell[1:] == Cell.of(latency.result)[1:]
            and floor.result.session == latency.result.session
        ):
            return floor.values.get(compared_by("latency"))
    return None


def _speed_up(of_cell: dict[str, Summary], eager: dict[str, Summary] | None) -> Value | None:
    """How many times faster a cell is than the eager network: the median of the ratios in the rounds that both have."""
    ours = of_cell.get("latency")
    ratio = paired_ratio(eager.get("latency") if eager else None, ours, compared_by("latency"))
    return Value(number=ratio.value, estimate=ratio, verdict=ours.verdict) if ours and ratio else None


def _conditions(cells: Cells, control: Sequence[float]) -> tuple[str, ...]:
    """Under what the rows were measured, as far as the labels do not say it, and how to read the numbers."""
    devices = sorted({cell.device for cell in cells})
    threads = sorted({cell.threads for cell in cells})
    notes = [f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."]
    every = [summary.result for of_cell in cells.values() for summary in of_cell.values()]
    own = {summary.result.job.metric: summary.result for of in cells.values() for summary in of.values()}
    if len({cell.batch_size for cell in cells}) > 1:
        notes.append("Latency is that of a whole batch. Own: each metric's own batch size.")
    elif batches := [
        f"{metric} at batch {result.job.batch_size}" for metric, result in own.items() if is_batched(metric)
    ]:
        notes.append(f"{', '.join(batches).capitalize()}.")
    if limits := sorted({str(limit) for result in every if (limit := result.job.limit_test)}):
        notes.append(f"Accuracy over only {' and '.join(limits)} test images (--limit-test).")
    return (*notes, *how_measured(cells, control))

"""Under sustained load: the first minute against the last, for whoever fears that the device throttles."""

from collections.abc import Sequence
from datetime import datetime

from cifar_deploy.core import statistics
from cifar_deploy.core.records import Reading, Result
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Cell, first_column
from cifar_deploy.sections.common import LABELS, Cells, filled, is_current

_MINUTE_S = 60.0


def sustained(results: Sequence[Result], cells: Cells) -> Section | None:
    """The first minute under load against the last."""
    newest = {
        (Cell.of(result), result.job.metric): result
        for result in results
        if "sustain_s" in result.job.options and result.readings and is_current(result, cells)
    }
    columns = {
        "first": Column(title="first minute", unit="", stored_unit=""),
        "last": Column(title="last minute", unit="", stored_unit=""),
        "ratio": Column(title="last / first", unit="", stored_unit="1", digits=3),
        "frequency": Column(title="frequency", unit="GHz", stored_unit=""),
        "temperature": Column(title="temperature", unit="°C", stored_unit=""),
        "minutes": Column(title="under load", unit="min", stored_unit="s", scale=1 / 60, digits=1),
    }
    rows = []
    for (cell, metric), result in newest.items():
        key = first_column(metric)
        column = METRICS[metric].columns[key]
        begin, end = (_parse(result.blocks[index].started) for index in (0, -1))
        first = [b.reading for b in result.blocks if b.reading and _parse(b.started) < begin + _MINUTE_S]
        last = [b.reading for b in result.blocks if b.reading and _parse(b.started) > end - _MINUTE_S]
        medians = [statistics.estimate([reading.values[key] for reading in part]).value for part in (first, last)]
        rows.append(
            Row(
                labels=(cell.name, cell.format, cell.backend, metric),
                values={
                    "ratio": Value(number=medians[1] / medians[0]),
                    "minutes": Value(number=end - begin + result.blocks[-1].seconds),
                },
                words={
                    "first": f"{column.text(medians[0])} {column.unit}",
                    "last": f"{column.text(medians[1])} {column.unit}",
                    "frequency": _gauge(first, last, "frequency_hz", 1e-9, 2),
                    "temperature": _gauge(first, last, "temperature_c", 1, 0),
                },
            )
        )
    if not rows:
        return None
    return filled(
        "Under sustained load",
        (*LABELS, "metric"),
        columns,
        rows,
        ("The median of the blocks that began in the first and in the last minute, the cells taking turns.",),
    )


def _parse(started: str) -> float:
    return datetime.fromisoformat(started).timestamp()


def _gauge(first: Sequence[Reading], last: Sequence[Reading], name: str, scale: float, digits: int) -> str:
    """From the first minute to the last, or that the system does not say."""
    shown = []
    for part in (first, last):
        found = [value for r in part if r.disturbance and (value := getattr(r.disturbance, name)) is not None]
        if not found:
            return "unavailable"
        shown.append(f"{statistics.estimate(found).value * scale:.{digits}f}")
    return " → ".join(shown)

"""Under sustained load: the first minute against the last, for whoever fears that the device throttles."""

from collections.abc import Sequence
from datetime import datetime

from cifar_deploy.core import statistics
from cifar_deploy.core.records import Measurement, Result, Run, Sustained
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import EMULATED, Configuration, compared_by
from cifar_deploy.sections.common import Configurations, filled, is_current, label_titles, labels_of

_MINUTE_S = 60.0


def sustained(results: Sequence[Result], configurations: Configurations) -> Section | None:
    """The first minute under load against the last, of the newest long load of each configuration."""
    newest = {
        (Configuration.of(result), result.job.metric): result
        for result in results
        if isinstance(result.job.trial, Sustained) and is_current(result, configurations)
    }
    columns = {
        "first": Column(title="first minute", unit="", stored_unit=""),
        "last": Column(title="last minute", unit="", stored_unit=""),
        "speed_up": Column(title="speed-up", unit="×", stored_unit="1", digits=3),
        "frequency": Column(title="frequency", unit="GHz", stored_unit=""),
        "temperature": Column(title="temperature", unit="°C", stored_unit=""),
        "minutes": Column(title="under load", unit="min", stored_unit="s", scale=1 / 60, digits=1),
    }
    titles = label_titles(configuration for configuration, _ in newest)
    rows = []
    for (configuration, metric), result in newest.items():
        together = [other for other in newest.values() if other.session == result.session]
        row = _row(result, _Load(together))
        rows.append(Row(labels=(*labels_of(configuration, titles), metric), values=row.values, words=row.words))
    if not rows:
        return None
    return filled(
        "Under sustained load",
        (*titles, "metric"),
        columns,
        rows,
        (
            "The configurations take turns. Each number is the median of the runs whose middle lies in the first, or in the last, "
            "minute of the whole load: in the first or the last turn if that takes longer, in the first or the last half "
            "if the load was shorter than two. The speed-up says how many times faster the last minute is than the first: "
            "below 1, the device throttles. Of a metric that is no speed it says how many times better the number is.",
        ),
        part="speed",
    )


class _Load:
    """When the load of all configurations of a session began and ended, and what counts as its first and its last minute."""

    def __init__(self, together: Sequence[Result]) -> None:
        runs = [run for result in together for run in result.runs]
        self.begin = min(_parse(run.started) for run in runs)
        self.end = max(_parse(run.started) + run.seconds for run in runs)
        self.seconds = self.end - self.begin
        turn_s = self.seconds / max(len(result.runs) for result in together)
        self._part_s = min(self.seconds / 2, max(_MINUTE_S, turn_s))

    def first(self, result: Result) -> list[Measurement]:
        return [b.measurement for b in result.runs if b.measurement and _middle(b) < self.begin + self._part_s]

    def last(self, result: Result) -> list[Measurement]:
        return [b.measurement for b in result.runs if b.measurement and _middle(b) >= self.end - self._part_s]


def _row(result: Result, load: _Load) -> Row:
    key = compared_by(result.job.metric)
    column = METRICS[result.job.metric].columns[key]
    parts = load.first(result), load.last(result)
    medians = [
        statistics.estimate([measurement.values[key] for measurement in part]).value if part else None for part in parts
    ]
    if result.job.machine.emulated:
        return Row(labels=(), values={}, words={"first": EMULATED, "last": EMULATED})
    shown = ["n/a" if median is None else f"{column.text(median)} {column.unit}" for median in medians]
    if result.failure:
        shown[1] = result.failure.kind
    values = {"minutes": Value(number=load.seconds)}
    if medians[0] and medians[1] and not result.failure:
        first, last = medians[0], medians[1]
        is_lower_better = METRICS[result.job.metric].better == "lower"
        values["speed_up"] = Value(number=first / last if is_lower_better else last / first)
    words = {
        "first": shown[0],
        "last": shown[1],
        "frequency": _gauge(*parts, "frequency_hz", 1e-9, 2),
        "temperature": _gauge(*parts, "temperature_c", 1, 0),
    }
    return Row(labels=(), values=values, words=words)


def _middle(run: Run) -> float:
    return _parse(run.started) + run.seconds / 2


def _parse(started: str) -> float:
    return datetime.fromisoformat(started).timestamp()


def _gauge(first: Sequence[Measurement], last: Sequence[Measurement], name: str, scale: float, digits: int) -> str:
    """From the first minute to the last, or that the system does not say."""
    shown = []
    for part in (first, last):
        found = [value for r in part if r.disturbance and (value := getattr(r.disturbance, name)) is not None]
        if not found:
            return "unavailable"
        shown.append(f"{statistics.estimate(found).value * scale:.{digits}f}")
    return " → ".join(shown)

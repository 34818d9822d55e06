"""What to ship: a row a configuration, and how its numbers were come by."""

from collections.abc import Sequence

from cifar_deploy.core.records import Result
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics.summary import Configuration, Summary, compared_by, is_batched
from cifar_deploy.sections.common import (
    Configurations,
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

_OVERHEAD = Column(title="runtime overhead", unit="ms", stored_unit="s", scale=1000, digits=3)
_SPEED_UP = Column(title="speed-up", unit="×", stored_unit="1", interval=True)


def deployment(configurations: Configurations, overheads: Configurations, controls: Sequence[Result]) -> Section:
    """One row a configuration: what runs, and what it costs there."""
    configurations = by_settings(configurations)
    titles = label_titles(configurations)
    columns: dict[str, Column] = {}
    for key, column in headline_columns(
        name for name in metrics_of(configurations) if not is_of_training(name)
    ).items():
        columns[key] = column
        if key == "latency.p50":
            columns |= {"rank": RANK, "speed_up": _SPEED_UP, "overhead": _OVERHEAD}
    places, control = ranks(configurations, controls)
    rows = []
    for configuration, of_one in configurations.items():
        row = row_of(labels_of(configuration, titles), of_one, columns)
        beside = {
            "overhead": _overhead_of(of_one, overheads),
            "speed_up": _speed_up(of_one, eager_of(configuration, configurations)),
        }
        rows.append(
            Row(
                labels=row.labels,
                values={**row.values, **{key: value for key, value in beside.items() if value}},
                failures=row.failures,
                words={**row.words, **({"rank": places[configuration]} if configuration in places else {})},
            )
        )
    notes = (*_conditions(configurations, control), *not_faster(configurations))
    return filled("What to ship", titles, columns, rows, notes)


def _overhead_of(of_one: dict[str, Summary], overheads: Configurations) -> Value | None:
    """The latency of the network that does next to nothing, on the same runtime in the same session."""
    latency = of_one.get("latency")
    for configuration, of_baseline in overheads.items():
        overhead = of_baseline.get("latency")
        if (
            latency
            and overhead
            and configuration[1:] == Configuration.of(latency.result)[1:]
            and overhead.result.session == latency.result.session
        ):
            return overhead.values.get(compared_by("latency"))
    return None


def _speed_up(of_one: dict[str, Summary], eager: dict[str, Summary] | None) -> Value | None:
    """How many times faster a configuration is than the eager network: the median of the ratios in the rounds that both have."""
    ours = of_one.get("latency")
    ratio = paired_ratio(eager.get("latency") if eager else None, ours, compared_by("latency"))
    return Value(number=ratio.value, estimate=ratio, verdict=ours.verdict) if ours and ratio else None


def _conditions(configurations: Configurations, control: Sequence[float]) -> tuple[str, ...]:
    """Under what the rows were measured, as far as the labels do not say it, and how to read the numbers."""
    devices = sorted({configuration.device for configuration in configurations})
    threads = sorted({configuration.threads for configuration in configurations})
    notes = [f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."]
    every = [summary.result for of_one in configurations.values() for summary in of_one.values()]
    own = {summary.result.job.metric: summary.result for of in configurations.values() for summary in of.values()}
    if len({configuration.batch_size for configuration in configurations}) > 1:
        notes.append("Latency is that of a whole batch. Own: each metric's own batch size.")
    elif batches := [
        f"{metric} at batch {result.job.batch_size}" for metric, result in own.items() if is_batched(metric)
    ]:
        notes.append(f"{', '.join(batches).capitalize()}.")
    if limits := sorted({str(limit) for result in every if (limit := result.job.limit_test)}):
        notes.append(f"Accuracy over only {' and '.join(limits)} test images (--limit-test).")
    return (*notes, *how_measured(configurations, control))

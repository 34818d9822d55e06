"""What to ship: a row a configuration, and how its numbers were measured."""

from collections.abc import Mapping, Sequence

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
    median_s,
    metrics_of,
    row_of,
)
from cifar_deploy.sections.latencies import RANK, SPEED_UP, how_measured, ranks, speed_up, where_measured

_OVERHEAD = Column(
    title="runtime overhead",
    unit="ms",
    stored_unit="s",
    scale=1000,
    digits=3,
    meaning="latency of a no-op model on the same runtime in the same session",
)
# With the labels network, format and backend, what a page shows at first.
_MAIN = ("accuracy.accuracy", "latency.p50", "speed_up", "memory.peak", "file_size.bytes")


def deployment(
    configurations: Configurations,
    overheads: Configurations,
    controls: Sequence[Result],
    marks: Mapping[Configuration, str] | None = None,
) -> Section:
    """One row a configuration: what runs, and what it costs there. `marks` are what the answer says of some."""
    configurations = by_settings(configurations)
    titles = label_titles(configurations)
    columns: dict[str, Column] = {}
    for key, column in headline_columns(
        name for name in metrics_of(configurations) if not is_of_training(name)
    ).items():
        columns[key] = column
        if key == "latency.p50":
            columns |= {"rank": RANK, "speed_up": SPEED_UP, "overhead": _OVERHEAD}
    places, control = ranks(configurations, controls)
    rows = []
    for configuration, of_one in _by_latency(configurations).items():
        row = row_of(labels_of(configuration, titles), of_one, columns)
        beside = {
            "overhead": _overhead_of(of_one, overheads),
            "speed_up": speed_up(of_one, eager_of(configuration, configurations)),
        }
        rows.append(
            Row(
                labels=row.labels,
                values={**row.values, **{key: value for key, value in beside.items() if value}},
                failures=row.failures,
                words={**row.words, **({"rank": places[configuration]} if configuration in places else {})},
                mark=(marks or {}).get(configuration, ""),
            )
        )
    return filled("What to ship", titles, columns, rows, _conditions(configurations, control), main=_MAIN)


def _by_latency(configurations: Configurations) -> Configurations:
    """The networks in their order, of each its configurations from the fastest to the slowest; those without a latency last."""
    names = {name: place for place, name in enumerate(dict.fromkeys(each.name for each in configurations))}
    order = sorted(configurations, key=lambda each: (names[each.name], median_s(configurations[each])))
    return {configuration: configurations[configuration] for configuration in order}


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


def _conditions(configurations: Configurations, control: Sequence[float]) -> tuple[str, ...]:
    """The conditions that the labels do not say, and how to read the numbers."""
    notes = [where_measured(configurations)]
    jobs = [summary.result.job for of_one in configurations.values() for summary in of_one.values()]
    if len({configuration.batch_size for configuration in configurations}) > 1:
        notes.append("Latency is that of a whole batch. Own: each metric's own batch size.")
    elif sizes := {job.metric: job.batch_size for job in jobs if is_batched(job.metric)}:
        batches = ", ".join(f"{metric} at batch {size}" for metric, size in sizes.items())
        notes.append(f"{batches.capitalize()}.")
    if limits := sorted({str(job.limit_test) for job in jobs if job.limit_test}):
        notes.append(f"Accuracy over only {' and '.join(limits)} test images (--limit-test).")
    return (*notes, *how_measured(configurations, control))

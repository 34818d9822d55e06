"""What the sections share: configurations, and rows made of them."""

import math
from collections.abc import Iterable, Iterator, Sequence

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import statistics
from cifar_deploy.core.records import Failure, Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.store import CHECKPOINT
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.core.verdict import Verdict
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, RecordedMetric
from cifar_deploy.metrics.summary import Configuration, Summary, is_batched

# What every other format and backend is seen against.
EAGER = (CHECKPOINT, "pytorch")

Configurations = dict[Configuration, dict[str, Summary]]  # by metric

# What is a label only where it differs, by its title.
_VARYING = {"device": "device", "threads": "threads", "CPUs": "cpus", "batch": "batch_size"}

# What it means that one of these was left to the program.
_UNSET = {"CPUs": "any", "batch": "own"}


def label_titles(configurations: Iterable[Configuration]) -> tuple[str, ...]:
    """What tells these configurations apart: device, threads and batch only where they differ, no format of external files."""
    configurations = list(configurations)
    varying = [
        title
        for title, field in _VARYING.items()
        if len({getattr(configuration, field) for configuration in configurations}) > 1
    ]
    named = ("network", "format") if any(configuration.format for configuration in configurations) else ("file",)
    return (*named, "backend", *varying)


def labels_of(configuration: Configuration, titles: Iterable[str]) -> tuple[str, ...]:
    return tuple(_label(configuration, title) for title in titles)


def _label(configuration: Configuration, title: str) -> str:
    if title in ("network", "file"):
        return configuration.name
    if title == "format":
        return configuration.variant
    value = getattr(configuration, _VARYING.get(title, title))
    return _UNSET[title] if value is None else str(value)


def runtime_title(configuration: Configuration) -> str:
    """The runtime's own name; that of the backend if it is not one of ours, since nothing is imported for a report."""
    backend = configuration.backend
    return (BACKENDS[backend].title if backend in BACKENDS else "") or backend


def precision_of(configuration: Configuration) -> str | None:
    """float32, float16 or int8; None of an external model and of a format that is not one of ours."""
    return FORMATS[configuration.format].precision if configuration.format in FORMATS else None


def is_int8(configuration: Configuration) -> bool:
    return precision_of(configuration) == "int8"


def short_labels(configurations: Iterable[Configuration]) -> dict[Configuration, str]:
    """What tells the configurations of one network apart, for the narrow margin of a chart.

    A format that runs on one backend alone needs no backend beside it.
    """
    configurations = list(configurations)
    titles = [title for title in label_titles(configurations)[1:] if title != "backend"]
    backends: dict[str, set[str]] = {}
    for configuration in configurations:
        backends.setdefault(configuration.format, set()).add(configuration.backend)
    found = {}
    for configuration in configurations:
        first, *others = (
            labels_of(configuration, titles) if configuration.format else ("", *labels_of(configuration, titles))
        )
        shows_backend = not first or len(backends[configuration.format]) > 1
        varying = (
            [f"{title} {label}" for title, label in zip(titles[-len(others) :], others, strict=True)] if others else []
        )
        found[configuration] = ", ".join(
            filter(None, [first, configuration.backend if shows_backend else "", *varying])
        )
    return found


def fastest_by_runtime(configurations: Configurations) -> dict[str, list[Configuration]]:
    """Of each network the fastest configuration on each runtime, the fastest first."""
    fastest: dict[tuple[str, str], Configuration] = {}
    for configuration in sorted(configurations, key=lambda each: median_s(configurations[each])):
        fastest.setdefault((configuration.name, configuration.backend), configuration)
    found: dict[str, list[Configuration]] = {}
    for configuration in fastest.values():
        found.setdefault(configuration.name, []).append(configuration)
    return found


def median_s(of_one: dict[str, Summary]) -> float:
    """The median latency; infinite if there is none."""
    latency = of_one.get("latency")
    return latency.values["p50"].number if latency and "p50" in latency.values else math.inf


def correct_of(result: Result) -> tuple[int, int]:
    """How many images of how many a measured accuracy counts as correct."""
    assert result.measurement
    values = result.measurement.values
    images = max(int(values["images"]), 1)
    return round(values["accuracy"] * images), images


def by_settings(configurations: Configurations) -> Configurations:
    """The configurations for a table, by threads, CPUs and batch size. What depends on none of them stands in the rows of all of them.

    A metric's own batch size is one of the others where that was asked for too, and a row of its own elsewhere.
    """
    groups: dict[Configuration, list[Configuration]] = {}
    for configuration in configurations:
        alone = configuration._replace(threads=1, batch_size=None, cpus=None)
        groups.setdefault(alone, []).append(configuration)
    found: Configurations = {}
    for alike in groups.values():
        found |= _of_group({configuration: configurations[configuration] for configuration in sorted(alike, key=_size)})
    return found


def _size(configuration: Configuration) -> tuple[int, str, int]:
    return configuration.threads, configuration.cpus or "", configuration.batch_size or 0


def _of_group(alike: Configurations) -> Configurations:
    """The rows of configurations that differ in threads, CPUs and batch size alone."""
    recorded = {
        metric: summary
        for of_one in alike.values()
        for metric, summary in of_one.items()
        if isinstance(METRICS[metric], RecordedMetric)
    }
    found: Configurations = {}
    for configuration, of_one in alike.items():
        settings = configuration._replace(batch_size=None)
        sizes = [each.batch_size for each in alike if each.batch_size and each._replace(batch_size=None) == settings]
        of_own = alike.get(settings, {})
        shared = {**recorded, **{metric: summary for metric, summary in of_own.items() if not is_batched(metric)}}
        own_batched = {metric: summary for metric, summary in of_own.items() if is_batched(metric)}
        if configuration.batch_size:
            same = {m: s for m, s in own_batched.items() if s.result.job.batch_size == configuration.batch_size}
            found[configuration] = {**shared, **same, **of_one}
            continue
        left = {m: s for m, s in own_batched.items() if s.result.job.batch_size not in sizes}
        if left or not sizes:
            found[configuration] = {**shared, **left}
    return found


def with_metric(configurations: Configurations, metric: str) -> Configurations:
    """Those of the configurations that were measured by this metric."""
    return {configuration: of_one for configuration, of_one in configurations.items() if metric in of_one}


def is_eager(configuration: Configuration) -> bool:
    """Whether it is a network through PyTorch eager, which the others are seen against."""
    return (configuration.format, configuration.backend) == EAGER


def eager_of(configuration: Configuration, configurations: Configurations) -> dict[str, Summary] | None:
    """The same network through PyTorch eager, on the same device and threads; None for itself, or if it is not there."""
    if is_eager(configuration):
        return None
    return configurations.get(configuration._replace(format=EAGER[0], input="float32", backend=EAGER[1]))


def paired_ratio(numerator: Summary | None, denominator: Summary | None, column: str) -> Estimate | None:
    """Of one value of two configurations, by the rounds of a session that both have; None if there is no such session."""
    if not numerator or not denominator or not numerator.values or not denominator.values:
        return None
    ours, theirs = numerator.result, denominator.result
    return (
        statistics.paired_ratio(ours.rounds(column), theirs.rounds(column)) if ours.session == theirs.session else None
    )


def is_current(result: Result, configurations: Configurations) -> bool:
    """Whether a result is of the same artifact, versions and machine as the configuration of the table."""
    of_one = configurations.get(Configuration.of(result))
    if not of_one:
        return False
    job = next(iter(of_one.values())).result.job
    return (job.artifact.files, job.versions, job.machine) == (
        result.job.artifact.files,
        result.job.versions,
        result.job.machine,
    )


def is_of_training(metric: str) -> bool:
    plugin = METRICS[metric]
    return isinstance(plugin, RecordedMetric) and plugin.stage == "train"


def doubted(configurations: Configurations) -> Iterator[tuple[str, Verdict]]:
    """Whose number, by which metric, for people; of every number whose verdict is not "stable"."""
    for configuration, of_one in configurations.items():
        for metric, summary in of_one.items():
            if summary.verdict and summary.verdict.word != "stable":
                whose = configuration.name if is_of_training(metric) else configuration
                yield f"{whose}, {metric}", summary.verdict


def metrics_of(configurations: Configurations) -> list[str]:
    """What was measured of any configuration: the listed metrics in their order, then anyone's own."""
    found = dict.fromkeys(metric for of_one in configurations.values() for metric in of_one)
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
    part: str = "numbers",
    main: tuple[str, ...] = (),
) -> Section:
    """A section without the columns in which no row has anything."""
    shown = {
        key: column
        for key, column in columns.items()
        if any(key in row.values or key in row.failures or key in row.words for row in rows)
    }
    return Section(
        title=title,
        label_titles=label_titles,
        columns=shown,
        rows=tuple(rows),
        notes=notes,
        part=part,
        main=tuple(key for key in main if key in shown),
    )


class Cells:
    """What stands in a row, by column: a value, a failure or a word."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.failures: dict[str, Failure] = {}
        self.words: dict[str, str] = {}

    def take(self, column: str, summary: Summary | None, key: str) -> None:
        """One value of a summary, or what stands in its place."""
        if summary and summary.failure:
            self.failures[column] = summary.failure
        elif summary and key in summary.values:
            self.values[column] = summary.values[key]
        elif summary and key in summary.words:
            self.words[column] = summary.words[key]

    def row(self, labels: tuple[str, ...]) -> Row:
        return Row(labels=labels, values=self.values, failures=self.failures, words=self.words)


def row_of(labels: tuple[str, ...], of_one: dict[str, Summary], columns: dict[str, Column]) -> Row:
    cells = Cells()
    for column in columns:
        metric, _, key = column.rpartition(".")
        cells.take(column, of_one.get(metric), key)
    return cells.row(labels)

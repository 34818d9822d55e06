"""What is measured. A new metric is one file here and one line below; its module's docstring is its definition."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Labels, Pixels, portions
from cifar_deploy.core.records import Disturbance, Job, Reading
from cifar_deploy.core.registry import Registry
from cifar_deploy.core.table import Column
from cifar_deploy.core.verdict import Verdict, judge


@dataclass(frozen=True, kw_only=True)
class TestImages:
    pixels: Pixels  # mapped from disk
    labels: Labels
    prepare: Callable[[Pixels], NDArray[Any]]  # pixels as the artifact takes them

    def batches(self, pixels: Pixels, size: int) -> Iterator[NDArray[Any]]:
        """`pixels` in order, ready for the artifact, `size` at a time; the last batch may be smaller.

        Each is an array of its own: what is mapped from disk is read-only, and a runtime that shares memory refuses it.
        """
        return (self.prepare(np.array(portion)) for portion in portions(pixels, size))

    def repeated(self, count: int) -> Pixels:
        """So many of them, in memory: a small test set is gone through again."""
        return self.pixels[[index % len(self.pixels) for index in range(count)]]


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What a metric has to work with, in a process of its own. Nothing is imported or loaded before it asks."""

    job: Job
    batches: Callable[[int, int], Sequence[Any]]  # so many of such a size, each as what `load` returns takes it
    images: TestImages | None  # None where the artifact takes other arrays
    import_runtime: Callable[[], None]
    load: Callable[[], Callable[[Any], Any]]  # of a batch

    @property
    def seconds(self) -> float:
        """How long a timed block lasts."""
        return float(self.job.options["seconds"] or 0)

    @property
    def limit_test(self) -> int | None:
        limit = self.job.options["limit_test"]
        return None if limit is None else int(limit)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Values by the column's key, the samples or predictions behind them, and how busy the machine was otherwise."""

    values: Mapping[str, float]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    disturbance: Disturbance | None = None


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A metric that an earlier stage has found: read from its record, in no process of its own.

    `read` returns no values where the metric means nothing, and raises Unavailable where the stage could not find them.
    `judge` says whether they may be believed, of those that can be disturbed.
    """

    stage: Literal["train", "export"]
    summary: str
    better: Literal["higher", "lower"]
    columns: Mapping[str, Column]
    read: Callable[[Job], Mapping[str, float]]
    judge: Callable[[Job], Verdict | None] = lambda job: None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric that runs the artifact. `options` are those of `evaluate` that change its meaning.

    One that is `timed` is measured in every round of a bench, and its array `samples_ns` holds each call; its first
    column is what cells are compared by. `judge` says whether the median over rounds of a column may be believed, of so
    many threads. One that is not measured `by_default` has to be asked for by name.
    """

    summary: str
    better: Literal["higher", "lower"]
    columns: Mapping[str, Column]
    batch_size: int
    options: tuple[Literal["seconds", "limit_test"], ...]
    measure: Callable[[Workbench], Measurement]
    timed: bool = False
    needs_labels: bool = False  # other images of the same size will not do
    judge: Callable[[Mapping[int, Reading], str, int], Verdict] = judge
    by_default: bool = True


Metric = Copied | Measured

METRICS: Registry[Metric] = Registry(
    "metric",
    __name__,
    {
        "accuracy": "accuracy:METRIC",
        "latency": "latency:METRIC",
        "throughput": "throughput:METRIC",
        "memory": "memory:METRIC",
        "energy": "energy:METRIC",
        "parity": "parity:METRIC",
        "file_size": "file_size:METRIC",
        "parameters": "parameters:METRIC",
        "multiply_adds": "multiply_adds:METRIC",
        "training_time": "training_time:METRIC",
        "training_memory": "training_memory:METRIC",
    },
)


def default_metrics() -> list[str]:
    """What is measured where no metric is asked for by name."""
    return [name for name in METRICS if not isinstance(metric := METRICS[name], Measured) or metric.by_default]


def out_of_range(metric: str, values: Mapping[str, float]) -> str | None:
    """Why these cannot be what the metric measured, or None."""
    plugin = METRICS[metric]
    if isinstance(plugin, Measured):
        first = next(iter(plugin.columns))
        needed = (first, "samples") if plugin.timed else () if plugin.columns[first].absent else (first,)
        if lacking := [key for key in needed if key not in values]:
            return f"{metric} lacks {', '.join(lacking)}"
    for key, value in values.items():
        if not math.isfinite(value):
            return f"{metric} {key} is not a finite number"
        if key in plugin.columns and (fault := plugin.columns[key].within.fault(value)):
            return f"{metric} {key} {value:g} {fault}"
    return None


# Rises when what a metric means or how it is measured changes; results of another protocol are measured anew.
PROTOCOL = 4

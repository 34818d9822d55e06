"""What is measured. A new metric is one file here and one line below; its module's docstring is its definition."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Labels, Pixels, batched, choose
from cifar_deploy.core.records import Disturbance, Job, Measurement
from cifar_deploy.core.registry import Registry
from cifar_deploy.core.table import Column
from cifar_deploy.core.verdict import Verdict, judge
from cifar_deploy.metrics.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class TestImages:
    pixels: Pixels  # mapped from disk
    labels: Labels
    prepare: Callable[[Pixels], NDArray[Any]]  # pixels as the artifact takes them
    places: Labels | None = None  # of a choice: where its images are in the test set

    def batches(self, pixels: Pixels, size: int) -> Iterator[NDArray[Any]]:
        """`pixels` in order, ready for the artifact, `size` at a time; the last batch may be smaller.

        Each is an array of its own: what is mapped from disk is read-only, and a runtime that shares memory refuses it.
        """
        return (self.prepare(np.array(batch)) for batch in batched(pixels, size))

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
    used: list[Inputs] = field(default_factory=list)  # by the metric, so far

    def inputs(self, count: int, size: int) -> Inputs:
        """So many batches of such a size, to be given again and again."""
        return self.keep(lambda: self.batches(count, size))

    def keep(self, make: Callable[[], Sequence[Any]]) -> Inputs:
        """What `make` returns, equal each time, to be given again and again."""
        self.used.append(Inputs(make))
        return self.used[-1]

    @property
    def seconds(self) -> float:
        """How long calls are timed in a run."""
        return self.job.seconds or 0


@dataclass(frozen=True, kw_only=True)
class RawMeasurement:
    """Values by the column's key, the samples or predictions behind them, and how busy the machine was otherwise."""

    values: Mapping[str, float]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    disturbance: Disturbance | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A column that `compare` shows of both sides.

    place: Columns stand in this order, whatever their metric.
    tie: Of a metric that is measured once: two numbers whose ratio is at most 1 + `tie` are a tie.
    """

    column: str
    place: int = 99
    tie: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RecordedMetric:
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
    in_bench: bool = False  # as of RuntimeMetric
    compared: tuple[Compared, ...] = ()  # as of RuntimeMetric


@dataclass(frozen=True, kw_only=True)
class RuntimeMetric:
    """A metric that runs the artifact, and how it is used: no other file has to know its name.

    compared_by: The column by which configurations and rounds are compared. Of a timed metric it is above zero.
    compared: The columns that `compare` shows. If there are none, it shows `compared_by` of a metric that is timed or
        per image.
    options: The options of `evaluate` that change what it means.
    batched: `--batch-size` replaces `batch_size`.
    timed: It is measured in every round of a session, and kept under load by `--soak`.
    blocks_s: How long all its timing in one run lasts, for so many `--seconds`.
    is_speed: It is slower or faster, not worse or better, in `compare` and for its `--fail-if-slower`.
    sampled: Its array `samples_ns` holds each call's nanoseconds, and its value `samples` their number.
    judge: Whether the median over rounds of a column can be believed, of so many threads.
    per_image: Its arrays `predicted`, `labels` and `chosen` hold each image's labels, and its value `images` their
        number. `compare` looks at each image, and `--max-isa` measures it again.
    peaks: The columns of which the largest is all the memory that it takes. `--verify-memory` tests that with limits.
    in_bench: It needs neither images nor labels: `bench` measures it of external models.
    needs_labels: Other images of the same size will not do.
    derived: The values that its arrays alone give, which hold no fewer than `sampled` and `per_image` say.
    by_default: It is measured where no metric is asked for by name.
    """

    summary: str
    better: Literal["higher", "lower"]
    columns: Mapping[str, Column]
    compared_by: str
    batch_size: int
    options: tuple[Literal["seconds", "limit_test"], ...]
    measure: Callable[[Workbench], RawMeasurement]
    batched: bool = False
    timed: bool = False
    blocks_s: Callable[[float], float] = lambda seconds: seconds
    is_speed: bool = False
    sampled: bool = False
    compared: tuple[Compared, ...] = ()
    judge: Callable[[Mapping[int, Measurement], str, int], Verdict] = judge
    per_image: bool = False
    peaks: tuple[str, ...] = ()
    in_bench: bool = False
    needs_labels: bool = False
    derived: Callable[[Job, Mapping[str, NDArray[Any]]], Mapping[str, float]] = lambda job, arrays: {}
    by_default: bool = True


Metric = RecordedMetric | RuntimeMetric

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
        "macs": "macs:METRIC",
        "training_time": "training_time:METRIC",
        "training_memory": "training_memory:METRIC",
    },
    former={"multiply_adds": "macs"},
)


def as_runtime_metric(name: str) -> RuntimeMetric | None:
    """The metric of this name, if it runs the artifact."""
    metric = METRICS[name]
    return metric if isinstance(metric, RuntimeMetric) else None


def measured_where(holds: Callable[[RuntimeMetric], object]) -> list[str]:
    """The names of the listed metrics that run the artifact and of which this holds."""
    return [name for name in METRICS if (metric := as_runtime_metric(name)) and holds(metric)]


def default_metrics() -> list[str]:
    """What is measured where no metric is asked for by name."""
    return [name for name in METRICS if not (metric := as_runtime_metric(name)) or metric.by_default]


def out_of_range(metric: str, values: Mapping[str, float]) -> str | None:
    """Why these cannot be what the metric measured, or None."""
    plugin = METRICS[metric]
    if isinstance(plugin, RuntimeMetric):
        needed = [] if plugin.columns[plugin.compared_by].absent else [plugin.compared_by]
        needed += ["samples"] if plugin.sampled else []
        needed += ["images"] if plugin.per_image else []
        if lacking := [key for key in needed if key not in values]:
            return f"{metric} lacks {', '.join(lacking)}"
    for key, value in values.items():
        if not math.isfinite(value):
            return f"{metric} {key} is not a finite number"
        if key in plugin.columns and (fault := plugin.columns[key].within.fault(value)):
            return f"{metric} {key} {value:g} {fault}"
    return None


# Numbers of the same samples that two processors have computed: sums differ in their last digits.
_AS_EXACT = 1e-9


def contradiction(job: Job, values: Mapping[str, float], arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Why these arrays cannot lie behind the values that the job's metric measured, or None."""
    plugin = METRICS[job.metric]
    if not isinstance(plugin, RuntimeMetric):
        return None
    looks = (_no_numbers(arrays), plugin.sampled and _no_samples(arrays), plugin.per_image and _no_labels(job, arrays))
    if fault := next(filter(None, looks), None):
        return str(fault)
    for key, number in plugin.derived(job, arrays).items():
        if key not in values:
            return f"{job.metric} lacks {key}"
        if not math.isclose(values[key], number, rel_tol=_AS_EXACT, abs_tol=_AS_EXACT):
            return f"{job.metric} {key} is {values[key]:.6g}, and by its raw samples {number:.6g}"
    return None


def _no_numbers(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            return f"its array {name} holds what is no number"
    return None


def _no_samples(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    if "samples_ns" not in arrays:
        return "its array samples_ns is missing"
    for name, array in arrays.items():
        if name.endswith("_ns") and (array.ndim != 1 or array.dtype.kind not in "iu" or not len(array)):
            return f"its array {name} is no list of nanoseconds"
        if name.endswith("_ns") and array.min() <= 0:
            return f"its array {name} holds a time of {array.min()} ns"
    return None


def _no_labels(job: Job, arrays: Mapping[str, NDArray[Any]]) -> str | None:
    data = job.artifact.data
    assert data
    count = min(job.limit_test or data.test_images, data.test_images)
    if not count:
        return "its data set has no test images"
    for name in ("predicted", "labels", "chosen"):
        if name not in arrays:
            return f"its array {name} is missing"
        if arrays[name].dtype.kind not in "iu" or arrays[name].shape != (count,):
            return f"its array {name} is no list of {count:,} whole numbers"
    for name in ("predicted", "labels"):
        if arrays[name].min() < 0 or arrays[name].max() >= len(data.classes):
            return f"its array {name} holds a class that its data set does not have"
    if not np.array_equal(arrays["chosen"], choose(data.test_images, job.limit_test)):
        return f"its images are not those that --limit-test {count} chooses"
    return None


# Rises when what a metric means or how it is measured changes; results of another protocol are measured anew.
PROTOCOL = 4

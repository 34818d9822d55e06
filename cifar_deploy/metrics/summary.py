"""Results as numbers to show: what several rounds say together, and what two results say of each other."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import statistics
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import ImageType, Job, Measurement, Result, variant_name
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Column, Value
from cifar_deploy.core.verdict import Verdict, judge_labels, judge_share
from cifar_deploy.metrics import METRICS, Compared, RecordedMetric, as_runtime_metric

Raw = Callable[
    [Measurement], Mapping[str, NDArray[Any]]
]  # the samples or predictions behind a measurement; may raise Corrupt


def is_timed(job: Job) -> bool:
    """Whether a job is measured in every round of a session."""
    metric = as_runtime_metric(job.metric)
    return metric is not None and metric.timed


def is_batched(metric: str) -> bool:
    """Whether a metric is measured at the batch sizes that were asked for."""
    plugin = as_runtime_metric(metric)
    return plugin is not None and plugin.batched


def asked_batch_size(job: Job) -> int | None:
    """The batch size of a job; None if it is the metric's own."""
    metric = as_runtime_metric(job.metric)
    return job.batch_size if metric and metric.batched and job.batch_size != metric.batch_size else None


def is_per_image(job: Job) -> bool:
    """Whether a job leaves a prediction of each image."""
    metric = as_runtime_metric(job.metric)
    return metric is not None and metric.per_image


def compared_by(metric: str) -> str:
    """The column by which configurations are compared, of a metric that runs the artifact."""
    found = as_runtime_metric(metric)
    assert found, metric
    return found.compared_by


def compared_columns(metric: str) -> tuple[Compared, ...]:
    """The columns of a metric that `compare` shows; () if it shows none."""
    found = METRICS[metric]
    if found.compared or isinstance(found, RecordedMetric):
        return found.compared
    return (Compared(column=found.compared_by),) if found.timed or found.per_image else ()


# What stands in the place of a time that was taken on an emulated processor: it says nothing of the real one's.
EMULATED = "emulated"


class Configuration(NamedTuple):
    """What is compared: everything measured of one configuration stands in one row."""

    name: str
    format: str  # "" of an external model
    input: ImageType
    backend: str
    device: str
    threads: int
    batch_size: int | None = None  # None: each metric's own
    cpus: str | None = None  # that it was pinned to; None: all that are allowed

    @classmethod
    def of(cls, result: Result) -> "Configuration":
        job, artifact = result.job, result.job.artifact
        return cls(
            name=artifact.name,
            format=artifact.format or "",
            input=artifact.input,
            backend=job.backend,
            device=job.device,
            threads=job.threads,
            batch_size=asked_batch_size(job),
            cpus=job.cpus,
        )

    @property
    def variant(self) -> str:
        """The format with its input, for people; "" of an external model."""
        return variant_name(self.format, self.input) if self.format else ""

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads != 1 else ""
        batch = f", batch {self.batch_size}" if self.batch_size else ""
        cpus = f", CPUs {self.cpus}" if self.cpus else ""
        return f"{f'{self.name} {self.variant}'.rstrip()} on {self.backend} ({self.device}{threads}{cpus}{batch})"


class Summary:
    """One result as numbers: those of a metric that was measured once, or what several rounds say together."""

    def __init__(self, result: Result, raw: Raw | None = None) -> None:
        """Without `raw`, there are no percentiles of all rounds' samples, and no verdict on labels."""
        self.result = result
        self.failure = result.failure
        metric = METRICS[result.job.metric]
        self._timed = is_timed(result.job)
        self.verdict: Verdict | None = None
        self.values: dict[str, Value] = {}
        self.words: dict[str, str] = {}
        if self.failure or not result.measurements:
            return
        if self._timed and result.job.machine.emulated:
            self.words = dict.fromkeys(metric.columns, EMULATED)
            return
        if isinstance(metric, RecordedMetric):
            self.verdict = metric.judge(result.job)
        elif metric.timed:
            self.verdict = metric.judge(result.measurements, metric.compared_by, result.job.threads)
        elif metric.per_image and raw is not None:
            self.verdict = _judge_images(result, raw)
        for key, column in metric.columns.items():
            self._add(key, column, raw)

    @property
    def told(self) -> str:
        """The headline numbers with their units; where there is none, the word in its place."""
        columns = METRICS[self.result.job.metric].columns
        shown = [
            f"{column.title} {self.values[key].text(column, unit=True)}"
            for key, column in columns.items()
            if column.headline and key in self.values
        ]
        return ", ".join(shown) or next(iter(self.words.values()), "")

    def _add(self, key: str, column: Column, raw: Raw | None) -> None:
        verdict = self.verdict if column.judged else None
        if column.percentile:
            found = self._percentile(column.percentile, raw)
            if isinstance(found, str):
                self.words[key] = found
                return
            estimate = found
        elif rounds := self.result.rounds(key):
            estimate = statistics.estimate(list(rounds.values()))
            if column.share_of and not self._timed:
                total = int(self.result.rounds(column.share_of)[min(rounds)])
                interval = statistics.share(round(estimate.value * total), total)
                self.values[key] = Value(number=estimate.value, estimate=interval, verdict=verdict)
                return
        else:
            if column.absent:
                self.words[key] = column.absent
            return
        self.values[key] = Value(number=estimate.value, estimate=estimate if self._timed else None, verdict=verdict)

    def percentiles(self, percent: int, raw: Raw) -> list[float]:
        """A percentile of each round's samples, in seconds: of two samples that it lies between, the larger. Raises Corrupt if they are lost."""
        rounds = (samples(measurement, raw) for measurement in self.result.measurements.values())
        return [float(np.percentile(found, percent, method="higher")) / 1e9 for found in rounds]

    def _percentile(self, percent: int, raw: Raw | None) -> Estimate | str:
        """Of all rounds' samples, or what it would take to claim it."""
        measurements = self.result.measurements.values()
        if len(measurements) < statistics.ROUNDS_FOR_AN_INTERVAL:
            return f"n/a (needs {statistics.ROUNDS_FOR_AN_INTERVAL} rounds)"
        too_few = f"n/a (needs {statistics.SAMPLES_FOR[percent]})"
        if raw is None:
            return too_few
        try:
            found = statistics.percentile([samples(measurement, raw) for measurement in measurements], percent)
        except Corrupt:
            return "samples unreadable"  # the medians stand in the results themselves
        if found is None:
            return too_few
        return dataclasses.replace(found, value=found.value / 1e9, low=found.low / 1e9, high=found.high / 1e9)


def against_itself(results: Iterable[Result], metric: str) -> list[float]:
    """The ratios of the control's rounds to its configuration's, of a session's results: what a number differs by from itself."""
    of_metric = [result for result in results if result.job.metric == metric]
    ordinary = {result.job.key: result for result in reversed(of_metric) if not result.control}
    for control in of_metric:
        if control.control and (result := ordinary.get(control.job.key)):
            ours, theirs = (each.rounds(compared_by(metric)) for each in (control, result))
            return [ours[index] / theirs[index] for index in sorted(ours.keys() & theirs.keys())]
    return []


def samples(measurement: Measurement, raw: Raw) -> NDArray[np.int64]:
    """The nanoseconds of each call behind a measurement of a sampled metric. Raises Corrupt if they are lost, or are not the measurement's."""
    found, count = raw(measurement).get("samples_ns"), measurement.values.get("samples")
    if found is None or found.dtype.kind not in "iu" or found.shape != (count,) or found.min() < 0:
        raise Corrupt(
            f"{measurement.raw}: its samples are not those of the result; run `cifar-deploy evaluate --force`"
        )
    return found


def predictions(result: Result, raw: Raw) -> Mapping[str, NDArray[Any]] | None:
    """Of a metric per image: `predicted` and `labels` of the images `chosen`, by their place in the test set; None if lost."""
    if not result.measurement or not result.measurement.raw:
        return None
    with contextlib.suppress(Corrupt):
        found, values = raw(result.measurement), result.measurement.values
        classes = len(classes_of(result))
        limits = {"predicted": classes, "labels": classes, "chosen": math.inf}
        if all(_is_index(found.get(name), values.get("images"), limit) for name, limit in limits.items()):
            return found
    return None


def _judge_images(result: Result, raw: Raw) -> Verdict | None:
    """The verdict on a metric per image. Where the predictions are lost, the classes count as equally common."""
    if found := predictions(result, raw):
        return judge_labels(found["labels"], found["predicted"])
    key, classes = compared_by(result.job.metric), len(classes_of(result))
    values = result.measurement.values if result.measurement else {}
    images = values.get(METRICS[result.job.metric].columns[key].share_of or "")
    if not images or not classes or key not in values:
        return None
    return judge_share(round(values[key] * images), int(images), 1 / classes)


def classes_of(result: Result) -> tuple[str, ...]:
    """The names of the outputs; () for an external model."""
    data = result.job.artifact.data
    return data.classes if data else ()


def same_input(first: Job, second: Job) -> bool:
    """Whether two jobs are fed with the same: images of one data set, or random arrays of the same shapes."""
    old, new = first.artifact, second.artifact
    if old.data and new.data:
        return old.data.fingerprint == new.data.fingerprint
    return [tensor.fed for tensor in old.takes] == [tensor.fed for tensor in new.takes]


def same_images(first: Job, second: Job) -> bool:
    """Whether two jobs classify the same images, be they brought to other sizes: a place is the same image in both.

    Whoever asks compares the labels, too.
    """
    old, new = first.artifact.data, second.artifact.data
    if not old or not new or old.fingerprint == new.fingerprint:
        return same_input(first, second)
    known = ("dataset", "source", "classes", "test_images")
    return old.preprocessing != new.preprocessing and all(getattr(old, name) == getattr(new, name) for name in known)


def _is_index(array: NDArray[Any] | None, count: float | None, limit: float) -> bool:
    """Whether it is `count` whole numbers from zero to below `limit`."""
    if array is None or array.dtype.kind not in "iu" or array.shape != (count,):
        return False
    return bool(array.size and array.min() >= 0 and array.max() < limit)


def agreement(first: Result, second: Result, raw_first: Raw, raw_second: Raw) -> statistics.Agreement | None:
    """Two results compared image by image; None if one is missing, or they are of different images."""
    old, new = predictions(first, raw_first), predictions(second, raw_second)
    same = same_images(first.job, second.job)
    if old is None or new is None or not same or not np.array_equal(old["chosen"], new["chosen"]):
        return None
    if not np.array_equal(old["labels"], new["labels"]):
        return None
    return statistics.agreement(old["predicted"], new["predicted"], old["labels"])


def shared_agreement(first: Result, second: Result, raw: Raw) -> statistics.Agreement | None:
    """As `agreement`, of the images that both were given: a device has often classified only a choice of them."""
    old, new = predictions(first, raw), predictions(second, raw)
    if old is None or new is None or not same_input(first.job, second.job):
        return None
    _, of_old, of_new = np.intersect1d(old["chosen"], new["chosen"], return_indices=True)
    labels = old["labels"][of_old]
    if not labels.size or not np.array_equal(labels, new["labels"][of_new]):
        return None
    return statistics.agreement(old["predicted"][of_old], new["predicted"][of_new], labels)

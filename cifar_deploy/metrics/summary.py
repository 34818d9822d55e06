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
from cifar_deploy.core.records import Job, Reading, Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.store import is_floor
from cifar_deploy.core.table import Column, Value
from cifar_deploy.core.verdict import Verdict
from cifar_deploy.metrics import METRICS, Copied, Measured

Raw = Callable[[Reading], Mapping[str, NDArray[Any]]]  # the samples or predictions behind a reading; may raise Corrupt


def is_timed(job: Job) -> bool:
    """Whether a job is measured in every round of a session."""
    metric = METRICS[job.metric]
    return isinstance(metric, Measured) and metric.timed


def first_column(metric: str) -> str:
    """What cells are compared by."""
    return next(iter(METRICS[metric].columns))


class Cell(NamedTuple):
    """What is compared: everything measured of one cell stands in one row."""

    name: str
    format: str
    backend: str
    device: str
    threads: int

    @classmethod
    def of(cls, result: Result) -> "Cell":
        job = result.job
        return cls(job.artifact.name, job.artifact.format, job.backend, job.device, job.threads)

    def __str__(self) -> str:
        name = "floor" if is_floor(self.name) else self.name
        threads = f", {self.threads} threads" if self.threads != 1 else ""
        return f"{f'{name} {self.format}'.rstrip()} on {self.backend} ({self.device}{threads})"


class Summary:
    """One result as numbers: those of a metric that was measured once, or what several rounds say together."""

    def __init__(self, result: Result, raw: Raw | None = None) -> None:
        """Without `raw`, there are no percentiles of all rounds' samples."""
        self.result = result
        self.failure = result.failure
        metric = METRICS[result.job.metric]
        self._timed = is_timed(result.job)
        self.verdict: Verdict | None = None
        self.values: dict[str, Value] = {}
        self.words: dict[str, str] = {}
        if self.failure or not result.readings:
            return
        if isinstance(metric, Measured) and metric.timed:
            self.verdict = metric.judge(result.readings, first_column(result.job.metric), result.job.threads)
        elif isinstance(metric, Copied):
            self.verdict = metric.judge(result.job)
        for key, column in metric.columns.items():
            self._add(key, column, raw)

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

    def _percentile(self, percent: int, raw: Raw | None) -> Estimate | str:
        """Of all rounds' samples, or what it would take to claim it."""
        readings = self.result.readings.values()
        if len(readings) < statistics.ROUNDS_FOR_AN_INTERVAL:
            return f"n/a (needs {statistics.ROUNDS_FOR_AN_INTERVAL} rounds)"
        too_few = f"n/a (needs {statistics.SAMPLES_FOR[percent]})"
        if raw is None:
            return too_few
        try:
            found = statistics.percentile([samples(reading, raw) for reading in readings], percent)
        except Corrupt:
            return "samples unreadable"  # the medians stand in the results themselves
        if found is None:
            return too_few
        return dataclasses.replace(found, value=found.value / 1e9, low=found.low / 1e9, high=found.high / 1e9)


def against_itself(results: Iterable[Result], metric: str) -> list[float]:
    """The ratios of the control's rounds to its cell's, of a session's results: what a number differs by from itself."""
    of_metric = [result for result in results if result.job.metric == metric]
    for control in of_metric:
        for result in of_metric:
            if control.control and not result.control and result.job.key == control.job.key:
                ours, theirs = (each.rounds(first_column(metric)) for each in (control, result))
                return [ours[index] / theirs[index] for index in sorted(ours.keys() & theirs.keys())]
    return []


def samples(reading: Reading, raw: Raw) -> NDArray[np.int64]:
    """The nanoseconds of each call behind a timed reading. Raises Corrupt if they are lost, or are not the reading's."""
    found = raw(reading).get("samples_ns")
    if found is None or found.dtype.kind not in "iu" or found.shape != (reading.values["samples"],) or found.min() < 0:
        raise Corrupt(f"{reading.raw}: its samples are not those of the result; measure again (--again)")
    return found


def predictions(result: Result, raw: Raw) -> Mapping[str, NDArray[Any]] | None:
    """Of an accuracy: `predicted` and `labels` of the images `chosen`, by their place in the test set; None if lost."""
    if not result.reading or not result.reading.raw:
        return None
    with contextlib.suppress(Corrupt):
        found, values = raw(result.reading), result.reading.values
        classes = len(result.job.artifact.checkpoint.training.data.classes)
        limits = {"predicted": classes, "labels": classes, "chosen": math.inf}
        if all(_is_index(found.get(name), values.get("images"), limit) for name, limit in limits.items()):
            return found
    return None


def _is_index(array: NDArray[Any] | None, count: float | None, limit: float) -> bool:
    """Whether it is `count` whole numbers from zero to below `limit`."""
    if array is None or array.dtype.kind not in "iu" or array.shape != (count,):
        return False
    return bool(array.size and array.min() >= 0 and array.max() < limit)


def agreement(first: Result, second: Result, raw_first: Raw, raw_second: Raw) -> statistics.Agreement | None:
    """Two accuracies compared image by image; None if one is missing, or they are of different images."""
    old, new = predictions(first, raw_first), predictions(second, raw_second)
    data = [result.job.artifact.checkpoint.training.data.fingerprint for result in (first, second)]
    if old is None or new is None or data[0] != data[1] or not np.array_equal(old["chosen"], new["chosen"]):
        return None
    return statistics.agreement(old["predicted"], new["predicted"], old["labels"])

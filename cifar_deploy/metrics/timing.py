"""A timed run: warm up until steady, then time single calls for a stated time. No sample is ever dropped.

A program that writes into its input is seen before the warm-up, or at the end: then the run begins anew. From there on
each call is given its batch anew (see metrics.inputs).
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Within
from cifar_deploy.core.statistics import SAMPLES_A_ROUND, SAMPLES_FOR
from cifar_deploy.core.table import Column
from cifar_deploy.metrics.inputs import Inputs

# Warm-up: at least so many calls, then until the median of a window is no longer below that of the one before, or until
# the time is over.
_WARM_UP_CALLS = 5
_WARM_UP_WINDOW = 3
_WARM_UP_LIMIT_S = 3.0


def timed(inputs: Inputs, run: Callable[[Any], object], seconds: float) -> NDArray[np.int64]:
    """Nanoseconds of each `run` of the next batch, for `seconds` or 5 calls, whichever is longer."""
    run(inputs.batches[0])
    inputs.have_changed()
    while True:
        _warm_up(inputs, run)
        samples = _samples(inputs, run, seconds)
        if not inputs.have_changed():
            return samples


def _samples(inputs: Inputs, run: Callable[[Any], object], seconds: float) -> NDArray[np.int64]:
    batches = inputs.batches
    samples: list[int] = []
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter_ns() + int(seconds * 1e9)
        while time.perf_counter_ns() < end or len(samples) < SAMPLES_A_ROUND:
            inputs.ready(len(samples))
            batch = batches[len(samples) % len(batches)]
            start = time.perf_counter_ns()
            run(batch)
            samples.append(time.perf_counter_ns() - start)
    finally:
        gc.enable()
    return np.array(samples, np.int64)


def _warm_up(inputs: Inputs, run: Callable[[Any], object]) -> None:
    end = time.perf_counter() + _WARM_UP_LIMIT_S
    times: list[float] = []
    medians: list[float] = []
    while len(times) < _WARM_UP_CALLS or time.perf_counter() < end:
        inputs.ready(len(times))
        start = time.perf_counter()
        run(inputs.batches[len(times) % len(inputs.batches)])
        times.append(time.perf_counter() - start)
        if len(times) % _WARM_UP_WINDOW == 0:
            medians.append(float(np.median(times[-_WARM_UP_WINDOW:])))
            report(0, 1, "warming up")
            if len(times) >= _WARM_UP_CALLS and medians[-1] >= medians[-2]:
                return


def median_s(samples_ns: NDArray[np.int64]) -> float:
    return float(np.median(samples_ns)) / 1e9


def drift(samples_ns: NDArray[np.int64]) -> float:
    """By how much the second half of a run is slower than the first: 0.1 is a tenth. 0 if too few samples tell."""
    half = len(samples_ns) // 2
    if half < SAMPLES_FOR[50]:
        return 0.0
    return median_s(samples_ns[half:]) / median_s(samples_ns[:half]) - 1


DRIFT = Column(
    title="drift within a run", unit="%", stored_unit="1", scale=100, headline=False, within=Within(least=-1)
)

"""A timed block: warm up until steady, then time single calls for a stated time. No sample is ever dropped."""

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.progress import report

# Warm-up: at least so many calls, then until the median of a window is no longer below that of the one before.
_WARM_UP_CALLS = 5
_WARM_UP_WINDOW = 5
_WARM_UP_LIMIT_S = 10.0

# However long a call takes, a block has samples for a median (11 give its 99 % confidence interval).
_FEWEST_SAMPLES = 11

# The fewest samples with which a percentile lies inside the sample range with 99 % confidence.
SAMPLES_FOR = {"p50": 11, "p90": 64, "p95": 130, "p99": 662}


def timed(call: Callable[[int], object], seconds: float) -> NDArray[np.int64]:
    """Nanoseconds of each `call(index)`, for `seconds` or 11 calls, whichever is longer."""
    _warm_up(call)
    samples: list[int] = []
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter_ns() + int(seconds * 1e9)
        while (start := time.perf_counter_ns()) < end or len(samples) < _FEWEST_SAMPLES:
            call(len(samples))
            samples.append(time.perf_counter_ns() - start)
    finally:
        gc.enable()
    return np.array(samples, np.int64)


def _warm_up(call: Callable[[int], object]) -> None:
    end = time.perf_counter() + _WARM_UP_LIMIT_S
    times: list[float] = []
    medians: list[float] = []
    while time.perf_counter() < end:
        start = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - start)
        if len(times) >= _WARM_UP_CALLS and len(times) % _WARM_UP_WINDOW == 0:
            medians.append(float(np.median(times[-_WARM_UP_WINDOW:])))
            report(0, 1, "warming up")
            if len(medians) > 1 and medians[-1] >= medians[-2]:
                return


def percentiles(samples_ns: NDArray[np.int64]) -> dict[str, float]:
    """Seconds at each percentile that there are samples enough to claim."""
    return {
        name: float(np.percentile(samples_ns, int(name[1:]))) / 1e9
        for name, fewest in SAMPLES_FOR.items()
        if len(samples_ns) >= fewest
    }


def in_turn(batches: Sequence[NDArray[np.float32]], predict: Callable[..., object]) -> Callable[[int], object]:
    """The call to time: each time another batch of real images."""
    return lambda index: predict(batches[index % len(batches)])

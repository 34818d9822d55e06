"""How much the machine was busy with other things while something was timed.

The best gauge is the worker's own *run delay*: nanoseconds that its threads were ready to run and had no processor
(/proc/self/task/*/schedstat), over the wall time. Quiet machines show at most 1.1 %, disturbed ones 24 % and more; the
system-wide pressure figures mislead. Beside it: steal (what the hypervisor gave to others), involuntary switches, a fixed
loop timed before and after, how far the wall clock moved against the monotonic one, and what core.gauges reads.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from cifar_deploy.core import gauges
from cifar_deploy.core.records import Disturbance

_CALIBRATION_STEPS = 50_000
_CALIBRATION_RUNS = 5


class Watch:
    """Read the gauges at both ends of the block; `.disturbance` then says what lay between."""

    disturbance: Disturbance

    def __enter__(self) -> "Watch":
        self._calibration = calibrate()
        self._before = _Gauges()
        return self

    def __exit__(self, *_: object) -> None:
        before, after = self._before, _Gauges()
        calibration = calibrate()
        # Just after a loop that kept it busy: an idle core's frequency says nothing.
        core, core_hz = gauges.core()
        seconds = after.monotonic - before.monotonic
        self.disturbance = Disturbance(
            seconds=seconds,
            run_delay=_difference(before.run_delay_ns, after.run_delay_ns, lambda ns: ns / 1e9 / seconds),
            steal=_difference(before.steal_s, after.steal_s, lambda s: s / seconds),
            involuntary_switches=None if before.switches is None else (after.switches or 0) - before.switches,
            calibration_before=self._calibration,
            calibration_after=calibration,
            clock_jump=(after.wall - before.wall) - seconds,
            frequency_hz=gauges.mean_frequency_hz(),
            temperature_c=after.temperature_c,
            temperature_before_c=before.temperature_c,
            core=core,
            core_hz=core_hz,
            governors=gauges.governors(),
            throttled=gauges.throttled(before.throttles, after.throttles),
            power=gauges.power(),
            power_mode=gauges.power_mode(),
        )


def calibrate() -> float:
    """Seconds of a fixed loop, the least of a few: what the processor's speed is just now."""
    return min(_loop() for _ in range(_CALIBRATION_RUNS))


def _loop() -> float:
    begun = time.perf_counter()
    total = 0
    for step in range(_CALIBRATION_STEPS):
        total ^= step
    return time.perf_counter() - begun


class _Gauges:
    def __init__(self) -> None:
        self.run_delay_ns = _run_delay_ns()
        self.steal_s = _steal_s()
        self.switches = _switches()
        self.temperature_c = gauges.temperature_c()
        self.throttles = gauges.throttles()
        self.wall = time.time()
        self.monotonic = time.monotonic()


def _difference(before: float | None, after: float | None, scaled: Callable[[float], float]) -> float | None:
    return None if before is None or after is None else scaled(after - before)


def _run_delay_ns() -> float | None:
    """Of all threads together; None where the kernel does not count it."""
    delays = []
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that has just ended
            delays.append(int(file.read_text().split()[1]))
    return float(sum(delays)) if delays else None


def _steal_s() -> float | None:
    """Seconds that the hypervisor gave to others, of the mean processor, since the system started."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(first[8]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
    except (OSError, IndexError, ValueError):
        return None


def _switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

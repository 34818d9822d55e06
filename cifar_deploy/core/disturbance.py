"""How much the machine was busy with other things while something was timed.

The best gauge is the worker's own *run delay*: nanoseconds that its threads were ready to run and had no processor
(/proc/self/task/*/schedstat), over the wall time. Quiet machines show at most 1.1 %, disturbed ones 24 % and more; the
system-wide pressure figures mislead. Beside it: steal (what the hypervisor gave to others), involuntary switches, a fixed
loop timed before and after, and how far the wall clock moved against the monotonic one.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

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
        seconds = after.monotonic - before.monotonic
        self.disturbance = Disturbance(
            seconds=seconds,
            run_delay=_difference(before.run_delay_ns, after.run_delay_ns, lambda ns: ns / 1e9 / seconds),
            steal=_difference(before.steal_s, after.steal_s, lambda s: s / seconds),
            involuntary_switches=None if before.switches is None else (after.switches or 0) - before.switches,
            calibration_before=self._calibration,
            calibration_after=calibrate(),
            clock_jump=(after.wall - before.wall) - seconds,
            frequency_hz=_mean(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), 1000),
            temperature_c=_hottest(Path("/sys/class/thermal").glob("thermal_zone*/temp")),
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


def _mean(files: Iterable[Path], scale: float) -> float | None:
    found = _numbers(files)
    return scale * sum(found) / len(found) if found else None


def _hottest(files: Iterable[Path]) -> float | None:
    return max((value / 1000 for value in _numbers(files)), default=None)  # the kernel counts in thousandths


def _numbers(files: Iterable[Path]) -> list[float]:
    found = []
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # a zone that is switched off
            found.append(float(file.read_text()))
    return found


def _switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

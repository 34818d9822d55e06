"""Energy: joules for one inference of one image, of all packages of the processor, or of the GPU on `cuda`.

After a warm-up, single calls follow each other for the stated time, but for 2 s at least. The joules that the counters
(see core.energy) moved by meanwhile are divided by the calls. The load begins and ends with a call after which a counter
has moved, as a GPU's does every 20 to 100 ms. The memory at the packages is in the number where it is counted, as it is on
servers. On `cuda` the number is the GPU's alone, and the packages' stands beside it.

A counter cannot tell who uses a processor. What it takes when idle is in the number, and so is what other processes do
on the machine. The power of an idle second is read before the runtime is imported; `above_idle` is the energy without it.
`others` is how many processors all other processes together kept busy during the load.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import energy, verdict
from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.energy import Counter, Meter
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import NOT_NEGATIVE, Job, Measurement, Within
from cifar_deploy.core.statistics import SAMPLES_A_ROUND
from cifar_deploy.core.table import Column
from cifar_deploy.core.verdict import Verdict
from cifar_deploy.metrics import RawMeasurement, RuntimeMetric, Workbench
from cifar_deploy.metrics.inputs import Inputs
from cifar_deploy.metrics.timing import DRIFT, drift, timed

_IMAGES = 64
_IDLE_S = 1.0
_LEAST_S = 2.0
# Long enough to be idle in between, short enough to see a GPU's counter move.
_REST_S = 0.005
# A counter that has not moved for so long does not count, or counts nothing.
_LONGEST_WAIT_S = 0.5

# Processors that other processes may keep busy in a quiet round. Chosen, not measured: as much beside one processor that
# infers as the halves of a run may differ by (core.verdict).
_MOST_OTHERS = 0.1
# One disturbed round in five leaves the median where it was.
_MOST_DISTURBED = 0.2

# The parts that the metric adds up, by device.
_PARTS = {"cpu": ("package", "dram"), "cuda": ("gpu",)}


def measure(bench: Workbench) -> RawMeasurement:
    device = bench.job.device
    meter = Meter(_counters(device))
    inputs = bench.inputs(_IMAGES, bench.job.batch_size)
    idle = _stretch(meter, device, _IDLE_S, lambda: time.sleep(_REST_S))
    calls = _Calls(inputs, bench.load())
    timed(inputs, calls.run, 0)  # the warm-up
    with Watch() as watch:
        load = _stretch(meter, device, max(bench.seconds, _LEAST_S), calls)
    arrays = {"samples_ns": np.array(calls.samples_ns[-load.steps :], np.int64)}
    joules, count = _of(load.joules, device), len(arrays["samples_ns"])
    if joules <= 0:
        raise Unavailable(
            f"energy: the counters did not move in {load.seconds:.1f} s; measure on a machine that is not a virtual one"
        )
    idle_w = _of(idle.joules, device) / idle.seconds
    return RawMeasurement(
        values={
            "joules": joules / count,
            "above_idle": (joules - idle_w * load.seconds) / count,
            "power": joules / load.seconds,
            "idle_power": idle_w,
            **{part: spent / count for part, spent in load.joules.items()},
            **({} if load.others_s is None else {"others": load.others_s / load.seconds}),
            **derived(bench.job, arrays),
        },
        arrays=arrays,
        disturbance=watch.disturbance,
    )


def derived(job: Job, arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Joules are no samples: the arrays hold the times of the calls alone."""
    return {"samples": len(arrays["samples_ns"]), "drift": drift(arrays["samples_ns"])}


def _counters(device: str) -> Sequence[Counter]:
    """Raises Unavailable where there are none."""
    if device not in _PARTS:
        raise Unavailable(f"energy: device {device} has no counter that can be read; measure on {' or '.join(_PARTS)}")
    if device == "cpu":
        return energy.packages()
    counters = [energy.gpu()]
    with contextlib.suppress(Unavailable):
        counters += energy.packages()
    return counters


def _of(joules: dict[str, float], device: str) -> float:
    return sum(joules.get(part, 0.0) for part in _PARTS[device])


class _Calls:
    """The next call, and how long each has taken."""

    def __init__(self, inputs: Inputs, run: Callable[[Any], Any]) -> None:
        self.run = run
        self.samples_ns: list[int] = []
        self._inputs = inputs

    def __call__(self) -> None:
        number, batches = len(self.samples_ns), self._inputs.batches
        self._inputs.ready(number)  # its joules are in the number: counters do not stop
        begun = time.perf_counter_ns()
        self.run(batches[number % len(batches)])
        self.samples_ns.append(time.perf_counter_ns() - begun)


class _Stretch(NamedTuple):
    joules: dict[str, float]  # by part
    seconds: float
    steps: int
    others_s: float | None  # of processors, that other processes used


class _Mark(NamedTuple):
    """The state as a counter has just moved, after so many steps."""

    joules: dict[str, float]
    moment: float
    steps: int
    others_s: float | None


def _stretch(meter: Meter, device: str, seconds: float, step: Callable[[], object]) -> _Stretch:
    """One `step` after the other for so long, or for 5 of them, from one move of the device's counters to another."""
    gc.collect()
    gc.disable()
    try:
        begin = _until_a_move(meter, device, step)
        steps, due = 0, begin.moment + energy.READ_EVERY_S
        while (now := time.perf_counter()) < begin.moment + seconds or steps < SAMPLES_A_ROUND:
            if now >= due:  # a counter that turns twice between two measurements shows one turn
                meter.read()
                due = now + energy.READ_EVERY_S
            step()
            steps += 1
        end = _until_a_move(meter, device, step)
    finally:
        gc.enable()
    others_s = None
    if begin.others_s is not None and end.others_s is not None:
        others_s = max(0.0, end.others_s - begin.others_s)  # the kernel counts in ticks
    spent = {part: end.joules[part] - begin.joules[part] for part in end.joules}
    return _Stretch(spent, end.moment - begin.moment, steps + end.steps, others_s)


def _until_a_move(meter: Meter, device: str, step: Callable[[], object]) -> _Mark:
    before, limit, steps = _of(meter.read(), device), time.perf_counter() + _LONGEST_WAIT_S, 0
    while True:
        step()
        steps += 1
        joules, moment = meter.read(), time.perf_counter()
        if _of(joules, device) != before or moment >= limit:
            return _Mark(joules, moment, steps, energy.others_busy_s())


def judge(measurements: Mapping[int, Measurement], value: str, threads: int) -> Verdict:
    """As of any timed metric; and a neighbour that takes no time from this process takes energy all the same.

    The CPU's load says nothing of a GPU's joules.
    """
    usual = verdict.judge(measurements, value, threads)
    others = [
        measurement.values.get("others", 0.0)
        for measurement in measurements.values()
        if "gpu" not in measurement.values
    ]
    beside = [busy for busy in others if busy > _MOST_OTHERS]
    if len(beside) <= _MOST_DISTURBED * len(measurements):
        return usual
    told = (
        f"in {len(beside)} of {len(measurements)} rounds other processes kept {np.median(beside):.1f} processors busy"
    )
    return Verdict(word="noisy" if usual.word == "stable" else usual.word, reasons=(*usual.reasons, told))


def _millijoules(title: str, *, headline: bool = False, within: Within = NOT_NEGATIVE) -> Column:
    return Column(
        title=title,
        unit="mJ",
        stored_unit="J",
        scale=1000,
        digits=3,
        headline=headline,
        judged=True,
        interval=headline,
        within=within,
    )


def _watts(title: str, *, judged: bool) -> Column:
    return Column(title=title, unit="W", stored_unit="W", digits=1, headline=False, judged=judged)


METRIC = RuntimeMetric(
    summary="joules of the whole processor, or GPU, for one image under sustained load; and without what it takes idle",
    better="lower",
    columns={
        "joules": _millijoules("energy", headline=True, within=Within(least=0, open=True)),
        "above_idle": _millijoules("energy above idle", headline=True, within=Within()),  # less than 0 by noise
        "power": _watts("power", judged=True),
        "idle_power": _watts("idle power", judged=False),
        "package": _millijoules("energy: packages"),
        "dram": _millijoules("energy: memory"),
        "gpu": _millijoules("energy: GPU"),
        "others": Column(
            title="busy with other processes", unit="processors", stored_unit="processors", headline=False
        ),
        "samples": Column(title="inferences a round", unit="calls", stored_unit="calls", digits=0, headline=False),
        "drift": DRIFT,
    },
    batch_size=1,
    options=("seconds",),
    measure=measure,
    derived=derived,
    compared_by="joules",
    timed=True,
    sampled=True,
    blocks_s=lambda seconds: max(seconds, _LEAST_S) + _IDLE_S,
    judge=judge,
    by_default=False,  # most machines have no counters, or keep them from users
)

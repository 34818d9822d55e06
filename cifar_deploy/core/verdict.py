"""Whether a number may be believed, and why not: a time (stable, noisy or invalid), and an accuracy (at chance).

Of a time it looks at each round's disturbance (see core.disturbance) and at how the round medians move. It never changes or drops
a number: the verdict stands beside it wherever it is shown. Only a training's time is put together again, of its quiet
epochs, and says so.

An accuracy is at chance if a network that gives every image the label of the commonest class may do as well: Wilson's
95 % interval of the accuracy reaches down to the share of that class. The number of images decides between two words. If
the interval also reaches up to twice that share, or to half as many wrong labels, there are too few images to tell.
One label for every image is at chance with any interval, if images of other classes are among them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.records import Checkpoint, Disturbance, Measurement
from cifar_deploy.core.statistics import SAMPLES_A_ROUND, median, wilson

# Of the wall time. On a quiet machine at most 1.1 % was seen, beside a busy neighbour 24 % and more.
_MOST_RUN_DELAY = 0.05
_MOST_STEAL = 0.05
# With so much of the time given to others, not even the order of two configurations is to be believed.
_HOPELESS = 0.75
# Of a run's calibration loop over the fastest one of the same configuration: the processor's clock moved. Loops before the runs
# are compared with each other, and so are loops after them: in a process full of libraries the same loop is a fifth slower.
_MOST_CALIBRATION = 0.15
# Below the highest frequency of a run of the same configuration.
_MOST_SLOWER = 0.15
# Worth telling beside a slowed processor, above the coolest run of the same configuration.
_WARMER_K = 5.0
# Between the first and the last third of the rounds, all pointing the same way.
_MOST_TREND = 0.05
# Per second. Quiet runs showed up to 10.
_MOST_SWITCHES = 100
# Between the two halves of a run.
_MOST_DRIFT = 0.1
_MOST_CLOCK_JUMP_S = 1.0
# Of an epoch over the median of those whose images have the same size.
_MOST_LONGER = 0.15
# One disturbed round in five leaves the median where it was.
_MOST_DISTURBED = 0.2
# Of images of other classes: a network that knows every second one gives all of them the wrong label in 1 of 32 cases.
_OTHERS = 5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    word: Literal["stable", "noisy", "invalid", "at chance", "too few images"]
    reasons: tuple[str, ...] = ()


# What a reason of a verdict tells without its numbers, by words that only such a reason has.
_AT_CHANCE = "accuracy is not above chance, or over too few images"
_CAUSES = {
    "commonest class": _AT_CHANCE,
    "got the same label": _AT_CHANCE,
    "are of one class": _AT_CHANCE,
    "run-queue delay": "CPU contention (run-queue delay)",
    "steal time": "steal time (hypervisor)",
    "by other processes": "interrupted by other processes",
    "the clock jumped": "the clock jumped",
    "calibration loop": "CPU slowed (calibration loop)",
    "frequency fell": "the processor's frequency fell",
    "was slowed by the system": "the processor was throttled",
    "its second half": "the second half of a run differs from its first",
    "median of its size": "epochs took longer than the median of their size",
    "first to the last rounds": "the median moved from the first to the last rounds",
    "samples": "too few samples in a round",
}


def cause(reason: str) -> str:
    """What a reason of a verdict has in common with others of its kind; itself if it is of none."""
    return next((cause for words, cause in _CAUSES.items() if words in reason), reason)


def judge(measurements: Mapping[int, Measurement], value: str, threads: int = 1) -> Verdict:
    """The verdict on the median over rounds of `value`, each measurement being of the round that it stands under.

    What `threads` waited together is shared out among them. A measurement without `samples` is not of single calls.
    """
    if few := [
        index
        for index, measurement in measurements.items()
        if measurement.values.get("samples", SAMPLES_A_ROUND) < SAMPLES_A_ROUND
    ]:
        return Verdict(word="invalid", reasons=(f"round {few[0] + 1} has fewer than {SAMPLES_A_ROUND} samples",))
    gauges = {
        index: _a_thread(measurement.disturbance, threads)
        for index, measurement in measurements.items()
        if measurement.disturbance
    }
    disturbed = [
        reason
        for index, measurement in measurements.items()
        if (reason := _disturbed(gauges.get(index), gauges.values()) or _drifted(measurement.values.get("drift", 0.0)))
    ]
    delays = [gauge.run_delay or 0.0 for gauge in gauges.values()]
    if gauges and median(delays) > _HOPELESS:
        return Verdict(
            word="invalid", reasons=(f"CPU contention: waited {median(delays):.0%} of the time (run-queue delay)",)
        )
    reasons = []
    if len(disturbed) > _MOST_DISTURBED * len(measurements):
        reasons.append(f"{len(disturbed)} of {len(measurements)} rounds disturbed: {disturbed[0]}")
    if trend := _trend([measurement.values[value] for measurement in measurements.values()]):
        reasons.append(trend)
    return Verdict(word="noisy" if reasons else "stable", reasons=tuple(reasons))


def judge_training(checkpoint: Checkpoint) -> tuple[float, Verdict | None]:
    """Seconds of training as they are without disturbance, and the verdict; None if the machine was not watched.

    A disturbed epoch counts as the median of the quiet ones whose images have the same size, unless more than half are
    disturbed: then it is the seconds that were spent, and noisy. So it is if the setting changed on the way, watched or not.
    """
    recipe, curve = checkpoint.recipe, checkpoint.curve
    if not recipe:
        return checkpoint.seconds, None
    if checkpoint.changes:
        return checkpoint.seconds, Verdict(word="noisy", reasons=checkpoint.changes)
    gauges = {
        number: [_a_thread(gauge, checkpoint.threads) for gauge in epoch.disturbances]
        for number, epoch in enumerate(curve)
    }
    if not all(gauges.values()):
        return checkpoint.seconds, None
    of_size: dict[float, list[float]] = {}
    for number, epoch in enumerate(curve):
        of_size.setdefault(recipe.scale(number), []).append(epoch.seconds)
    usual = {size: median(seconds) for size, seconds in of_size.items()}
    reasons = {}
    for number, epoch in enumerate(curve):
        # Not the fixed loop: a few milliseconds before and after say nothing of the minutes between.
        seen = next(filter(None, map(_interrupted, gauges[number])), None)
        if reason := seen or _slower(epoch.seconds / usual[recipe.scale(number)]):
            reasons[number] = reason
    quiet: dict[float, list[float]] = {}
    for number, epoch in enumerate(curve):
        if number not in reasons:
            quiet.setdefault(recipe.scale(number), []).append(epoch.seconds)
    if not reasons:
        return checkpoint.seconds, Verdict(word="stable")
    first = min(reasons)
    told = f"{len(reasons)} of {len(curve)} epochs disturbed, first {first + 1}: {reasons[first]}"
    if 2 * len(reasons) > len(curve) or any(recipe.scale(number) not in quiet for number in reasons):
        return checkpoint.seconds, Verdict(word="noisy", reasons=(told,))
    seconds = sum(
        median(quiet[recipe.scale(number)]) if number in reasons else epoch.seconds
        for number, epoch in enumerate(curve)
    )
    return seconds, Verdict(word="stable", reasons=(f"{told}; each counts as the median of the quiet ones",))


def judge_labels(labels: NDArray[np.int64], predicted: NDArray[np.int32]) -> Verdict | None:
    """The verdict on an accuracy, from each image's label and the predicted one; None if it is above chance."""
    images, counts = len(labels), np.bincount(labels)
    if not (predicted == predicted[0]).all():
        return judge_share(int((labels == predicted).sum()), images, float(counts.max()) / images)
    others = int((labels != predicted[0]).sum())
    if others >= _OTHERS:
        reason = f"each of the {images:,} images got the same label, and {others:,} are of other classes"
        return Verdict(word="at chance", reasons=(reason,))
    if counts.max() == images >= _OTHERS:
        reason = f"all {images:,} images are of one class, so that one label for all does as well"
        return Verdict(word="at chance", reasons=(reason,))
    return judge_share(images - others, images, float(counts.max()) / images)


def judge_share(right: int, images: int, chance: float) -> Verdict | None:
    """As `judge_labels`, from the number of right labels and the share of the commonest class."""
    low, high = wilson(right, images)
    if low > chance:
        return None
    told = f"{chance:.1%}, the share of the commonest class"
    if high >= min(2 * chance, (1 + chance) / 2):
        return Verdict(word="too few images", reasons=(f"{right:,} of {images:,} right cannot be told from {told}",))
    return Verdict(word="at chance", reasons=(f"{right:,} of {images:,} right is not above {told}",))


def _a_thread(gauge: Disturbance, threads: int) -> Disturbance:
    switches, delay = gauge.involuntary_switches, gauge.run_delay
    return replace(
        gauge,
        run_delay=None if delay is None else delay / threads,
        involuntary_switches=None if switches is None else switches // threads,
    )


def _drifted(drift: float) -> str | None:
    return f"its second half {drift:+.0%} from its first" if abs(drift) > _MOST_DRIFT else None


def _disturbed(gauge: Disturbance | None, of_one: Collection[Disturbance]) -> str | None:
    if gauge is None:
        return None
    return _interrupted(gauge) or _throttled(gauge, of_one)


def _interrupted(gauge: Disturbance) -> str | None:
    if gauge.run_delay is not None and gauge.run_delay > _MOST_RUN_DELAY:
        return f"CPU contention: waited {gauge.run_delay:.0%} of the time (run-queue delay)"
    if gauge.steal is not None and gauge.steal > _MOST_STEAL:
        return f"{gauge.steal:.0%} steal time (hypervisor)"
    if gauge.involuntary_switches is not None and gauge.involuntary_switches > _MOST_SWITCHES * gauge.seconds:
        return f"was interrupted {gauge.involuntary_switches / gauge.seconds:.0f} times a second by other processes"
    if abs(gauge.clock_jump) > _MOST_CLOCK_JUMP_S:
        return f"the clock jumped by {gauge.clock_jump:.1f} s"
    return None


def _throttled(gauge: Disturbance, of_one: Collection[Disturbance]) -> str | None:
    reason = _slowed(gauge, of_one)
    if reason and (rise := _rise_k(gauge, of_one)) > _WARMER_K:
        return f"{reason}, {rise:.0f} K warmer than in the coolest run"
    return reason


def _slowed(gauge: Disturbance, of_one: Collection[Disturbance]) -> str | None:
    if gauge.throttled:
        return f"was slowed by the system: {', '.join(gauge.throttled)}"
    fastest = max((other.core_hz for other in of_one if other.core_hz), default=None)
    if fastest and gauge.core_hz is not None and gauge.core_hz < (1 - _MOST_SLOWER) * fastest:
        return f"frequency fell by {1 - gauge.core_hz / fastest:.0%}"
    longer = max(
        gauge.calibration_before / min(other.calibration_before for other in of_one),
        gauge.calibration_after / min(other.calibration_after for other in of_one),
    )
    return f"CPU slowed by {longer - 1:.0%} (calibration loop)" if longer > 1 + _MOST_CALIBRATION else None


def _rise_k(gauge: Disturbance, of_one: Collection[Disturbance]) -> float:
    coolest = min((other.temperature_c for other in of_one if other.temperature_c is not None), default=None)
    return 0.0 if coolest is None or gauge.temperature_c is None else gauge.temperature_c - coolest


def _slower(ratio: float) -> str | None:
    """What no gauge shows: a process that was stopped, or a neighbour on the same memory."""
    return f"took {ratio - 1:.0%} longer than the median of its size" if ratio > 1 + _MOST_LONGER else None


def _trend(medians: list[float]) -> str | None:
    """In words, if the first and the last third of the rounds lie apart."""
    third = len(medians) // 3
    if third < 2:
        return None
    early, late = medians[:third], medians[-third:]
    change = median(late) / median(early) - 1
    apart = max(early) < min(late) or max(late) < min(early)
    return f"moved by {change:+.0%} from the first to the last rounds" if apart and abs(change) > _MOST_TREND else None

"""What may be said of a number that was measured in several rounds, and of two that are compared.

A *round median* is one process's; rounds are the sample, calls within a process are not independent. So every interval
here is over rounds:

- the median of n round medians, between two of them (order statistics): free of any distribution, and of at least 95 %
  coverage for independent rounds, however skewed: exactly 96.9 % for 6 rounds, 98.4 % for 7, 96.1 % for 9. Fewer than 6
  rounds have no such interval, only a range. By simulation (`benchmarks/coverage.py`) the bootstrap of the median, which
  is usual, covers 88 % at 7 rounds. Rounds that drift together cover less, 83 to 89 %: so the verdict looks for a trend,
  and configurations are compared round by round.
- two configurations of one session: the ratio in each round that they share, and the median of these with the same interval.
- two configurations of different sessions: all pairwise ratios, cut off where the Mann-Whitney test does (Hodges and Lehmann 1963).
- a share of images: Wilson's interval (Wilson 1927, Journal of the American Statistical Association 22:209).
- a limit that rounds keep: the sign test. Were the median over processes at the limit, half of the rounds would lie beyond
  it; the confidence is the chance that fewer rounds would then keep it than did. 7 of 7 rounds give 99.2 %. It is free of
  any distribution. By simulation a claim of 95 % is false in at most 5 % of sessions, of rounds that drift together in up
  to 9 % (`benchmarks/coverage.py`).
- a limit that a share of images keeps: the exact binomial test, likewise.
- two labellings of the same images: the exact McNemar test, and Newcombe's interval for the difference (Newcombe 1998,
  Statistics in Medicine 17:2635, method 10).
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

# With fewer rounds even the least and the greatest of them do not enclose the median with 95 % confidence.
ROUNDS_FOR_AN_INTERVAL = 6

# Prefix of a place that several configurations share.
TIE = "T-"

# Of one round, whose median is all that is used of them: calls have settled by the fifth.
SAMPLES_A_ROUND = 5

# The fewest samples with which a percentile lies inside the sample range with 99 % confidence.
SAMPLES_FOR = {50: 11, 90: 64, 95: 130, 99: 662}

# Two sessions on one quiet machine have been seen to differ by 1.2 % with nothing changed; below this no difference
# between sessions is claimed.
NOISE_BETWEEN_SESSIONS = 0.03


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, and the two that it lies between: with 95 % confidence, or merely as the least and the greatest seen."""

    value: float
    low: float
    high: float
    kind: Literal["interval", "range"]
    rounds: int | None = None  # None if it is not of rounds

    @property
    def half_width(self) -> float:
        """Relative to the value."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0


def median(values: Iterable[float]) -> float:
    """Of at least one value: the same float as numpy's, in a hundredth of the time for a handful of them."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def estimate(values: Sequence[float]) -> Estimate:
    """The median of round medians with its interval; at least one value."""
    ordered = sorted(values)
    rank = _median_rank(len(ordered))
    return Estimate(
        value=median(ordered),
        low=ordered[rank],
        high=ordered[-1 - rank],
        kind=_kind(len(ordered)),
        rounds=len(ordered),
    )


def _kind(rounds: int) -> Literal["interval", "range"]:
    return "interval" if rounds >= ROUNDS_FOR_AN_INTERVAL else "range"


@functools.cache
def _median_rank(rounds: int) -> int:
    """How many of the least and the greatest values may be cut off and still leave 95 % coverage; 0 if none."""
    rank, outside = 0, 0.0
    while rank < rounds // 2:
        outside += 2 * math.comb(rounds, rank) / 2**rounds
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return max(0, rank - 1)


def percentile(rounds: Sequence[NDArray[np.int64]], percent: int) -> Estimate | None:
    """A percentile of all samples of all rounds, and between which values it lay in single rounds.

    None if there are fewer samples, or rounds, than it takes to claim it: a tail varies more from process to process
    than within one.
    """
    total = sum(len(samples) for samples in rounds)
    if len(rounds) < ROUNDS_FOR_AN_INTERVAL or total < SAMPLES_FOR[percent]:
        return None
    single = [float(np.percentile(samples, percent)) for samples in rounds]
    pooled = float(np.percentile(np.concatenate(rounds), percent))
    return Estimate(value=pooled, low=min(single), high=max(single), kind="range", rounds=len(rounds))


def paired_ratio(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Estimate | None:
    """The median over the rounds that both have of their ratio in that round; None if they share none."""
    shared = numerator.keys() & denominator.keys()
    if not shared:
        return None
    return estimate([numerator[index] / denominator[index] for index in shared])


def unpaired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """The median of all ratios of one of the first to one of the second: for two sessions that share no round."""
    ratios = sorted(a / b for a in numerator for b in denominator)
    rank = _mann_whitney_rank(len(numerator), len(denominator))
    return Estimate(
        value=median(ratios),
        low=ratios[rank],
        high=ratios[-1 - rank],
        kind=_kind(min(len(numerator), len(denominator))),
        rounds=min(len(numerator), len(denominator)),
    )


@functools.cache
def _mann_whitney_rank(n: int, m: int) -> int:
    """How many of the least of the n * m differences are cut off by a two-sided test at 5 %."""
    # counts[i][u]: in how many ways i of the values so far rank with the statistic u.
    counts = [np.zeros(n * m + 1) for _ in range(n + 1)]
    counts[0][0] = 1
    for position in range(n + m):
        for chosen in range(min(position + 1, n), 0, -1):
            below = position - (chosen - 1)  # of the other kind, ranked before this one
            if below <= m:
                counts[chosen][below:] += counts[chosen - 1][: n * m + 1 - below]
    share = np.cumsum(counts[n]) / counts[n].sum()
    return max(0, int((share <= (1 - CONFIDENCE) / 2).sum()) - 1)


def differs(ratio: Estimate, noise: float) -> bool:
    """Whether a ratio is more than a tie: its interval excludes 1, and it is beyond what the same configuration shows against itself.

    A mere range decides nothing.
    """
    return (
        ratio.kind == "interval" and not ratio.low <= 1 <= ratio.high and abs(math.log(ratio.value)) > math.log1p(noise)
    )


def noise(ratios: Sequence[float]) -> float:
    """How far apart two measurements of the same configuration may lie, from a control's ratio to its configuration in each round.

    0.01 is 1 %: what their median shows, or two standard errors of it, if that is more. The latter are from the median
    absolute deviation, which a single disturbed round cannot move.
    """
    middle = math.log(float(np.median(ratios)))
    logs = np.log(ratios)
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))  # of a normal distribution
    error = 1.2533 * spread / math.sqrt(len(logs))  # of the median of a normal sample
    return math.expm1(max(abs(middle), 1.96 * error))


def ranks(rounds: Sequence[Mapping[int, float]], noise: float) -> list[str]:
    """The place of each configuration, the least value first; those that tie with the first of a group share its place: "T-1".

    For rounds enough for an interval: fewer can tell no two configurations apart.
    """
    order = sorted(range(len(rounds)), key=lambda index: median(rounds[index].values()))
    groups: list[list[int]] = []
    for index in order:
        if groups:
            ratio = paired_ratio(rounds[index], rounds[groups[-1][0]])
            if ratio is None or not differs(ratio, noise):
                groups[-1].append(index)
                continue
        groups.append([index])
    places = [""] * len(rounds)
    place = 1
    for group in groups:
        for index in group:
            places[index] = f"{TIE}{place}" if len(group) > 1 else str(place)
        place += len(group)
    return places


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two labellings of the same images, of which `worse` were right before and are wrong now, `better` the reverse."""

    images: int
    same_label: int
    worse: int
    better: int
    changed: tuple[int, ...]  # places of the images whose label is another
    p: float  # exact McNemar, two-sided
    difference: float  # of the accuracies, new minus old, a fraction of 1
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        return self.p < 1 - CONFIDENCE


def agreement(old: NDArray[np.int32], new: NDArray[np.int32], labels: NDArray[np.int64]) -> Agreement:
    """Compare the predicted labels of two configurations on the same images with the true ones."""
    was, now = old == labels, new == labels
    both, worse, better = int((was & now).sum()), int((was & ~now).sum()), int((~was & now).sum())
    low, high = newcombe(both, better, worse, len(labels) - both - worse - better)
    return Agreement(
        images=len(labels),
        same_label=int((old == new).sum()),
        worse=worse,
        better=better,
        changed=tuple(int(place) for place in np.flatnonzero(old != new)),
        p=mcnemar(worse, better),
        difference=(better - worse) / len(labels),
        low=low,
        high=high,
    )


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int32], classes: int) -> NDArray[np.int64]:
    """How many images of each class (rows) got each label (columns)."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def mcnemar(worse: int, better: int) -> float:
    """The chance of so uneven a split, or a more uneven one, of the images that changed, if either way were as likely."""
    changed = worse + better
    tail, ways = 0, 1  # exactly, each number of ways from the one before
    for k in range(min(worse, better) + 1):
        tail += ways
        ways = ways * (changed - k) // (k + 1)
    return float(min(1.0, 2 * tail / 2**changed))


def newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of p1 - p2, the first's share of successes less the second's, on the same images."""
    total = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    p1, p2 = first / total, second / total
    (l1, u1), (l2, u2) = wilson(first, total), wilson(second, total)
    cross = both * neither - only_first * only_second
    corrected = max(cross - total / 2, 0.0) if cross > 0 else float(cross)
    margins = first * (total - first) * second * (total - second)
    phi = corrected / math.sqrt(margins) if margins else 0.0
    below = math.sqrt(max(0.0, (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2))
    above = math.sqrt(max(0.0, (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2))
    return p1 - p2 - below, p1 - p2 + above


def difference(first: int, of_first: int, second: int, of_second: int) -> tuple[float, float]:
    """The 95 % interval of p1 - p2 of two independent shares (Newcombe 1998, method 10). On the same images it is too wide."""
    p1, p2 = first / of_first, second / of_second
    (l1, u1), (l2, u2) = wilson(first, of_first), wilson(second, of_second)
    return (
        p1 - p2 - math.hypot(p1 - l1, u2 - p2),
        p1 - p2 + math.hypot(u1 - p1, p2 - l2),
    )


def confidence_in_rounds(rounds: Sequence[float], limit: float, bound: Literal["most", "least"]) -> float:
    """That the median over processes is at `most`, or at `least`, the limit; by the sign test."""
    kept = sum(value <= limit if bound == "most" else value >= limit for value in rounds)
    return _below(kept, len(rounds), 0.5)


def confidence_in_share(successes: int, total: int, limit: float) -> float:
    """That the share is at least the limit; by the exact binomial test."""
    return _below(successes, total, limit)


def _below(successes: int, total: int, share: float) -> float:
    """The chance of fewer successes, each having the chance `share`."""
    if share >= 1:
        return float(successes > total)
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(successes)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def share(successes: int, total: int) -> Estimate:
    """Of so many trials, with Wilson's 95 % interval."""
    low, high = wilson(successes, total)
    return Estimate(value=successes / total, low=low, high=high, kind="interval")


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), within [0, 1]."""
    z = 1.959964  # of the normal distribution, for 95 %
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)

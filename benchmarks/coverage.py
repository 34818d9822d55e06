"""How often the intervals that we print hold the truth, by simulation: python benchmarks/coverage.py (a minute).

Rows: how round medians may come about. Columns: rounds, and the share of simulated sessions whose interval of the median
held the true median; 95 % is what is claimed. `order` is what we print, `bootstrap` the percentile bootstrap of the
median for comparison, `stopping` what is left of `order` if a configuration may stop at the looks of stages.rounds as soon as its
interval is within ±2 %. Below: the ratio of two sessions (Hodges and Lehmann), and the difference of two accuracies on
the same images (Newcombe), and how often `choose` claims with 95 % confidence that a limit is kept which in truth is just
missed: at most 5 % is what is claimed. Nothing here is measured on this machine, so every run prints the same.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import statistics
from cifar_deploy.stages.rounds import LOOKS, may_stop

SESSIONS = 4000
RESAMPLES = 400
ROUNDS = (6, 7, 9, 13, 25)

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]  # (sessions, rounds), true median 1


def normal(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    return 1 + 0.01 * random.standard_normal((SESSIONS, rounds))


def skewed(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    return np.exp(0.2 * random.standard_normal((SESSIONS, rounds)))


def some_disturbed(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    """One round in ten is a half slower: the true median is that of the mixture."""
    quiet = 1 + 0.01 * random.standard_normal((SESSIONS, rounds))
    mixed = np.where(random.random((SESSIONS, rounds)) < 0.1, 1.5 * quiet, quiet)
    return mixed / (1 + 0.01 * 0.1397)  # the 55.6th percentile of the quiet part is the mixture's median


def drifting(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    """Each session's rounds follow each other with correlation 0.5: rounds are not independent."""
    state = random.standard_normal(SESSIONS)
    columns = []
    for _ in range(rounds):
        columns.append(state)
        state = 0.5 * state + np.sqrt(1 - 0.25) * random.standard_normal(SESSIONS)
    return 1 + 0.01 * np.stack(columns, axis=1)


def order(sessions: NDArray[np.float64]) -> float:
    found = [statistics.estimate(session.tolist()) for session in sessions]
    return float(np.mean([each.low <= 1 <= each.high for each in found]))


def bootstrap(sessions: NDArray[np.float64], random: np.random.Generator) -> float:
    count, rounds = sessions.shape
    medians = np.empty((count, RESAMPLES))
    for resample in range(RESAMPLES):
        chosen = random.integers(0, rounds, (count, rounds))
        medians[:, resample] = np.median(np.take_along_axis(sessions, chosen, axis=1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5], axis=1)
    return float(np.mean((low <= 1) & (high >= 1)))


def stopping(sessions: NDArray[np.float64]) -> float:
    covered = 0
    for session in sessions.tolist():
        stop = next((look for look in LOOKS if look <= len(session) and may_stop(session[:look], 0.02)), len(session))
        found = statistics.estimate(session[:stop])
        covered += found.low <= 1 <= found.high
    return covered / len(sessions)


def two_sessions(random: np.random.Generator, rounds: int) -> float:
    a, b = skewed(random, rounds), 1.1 * skewed(random, rounds)
    found = [statistics.unpaired_ratio(list(y), list(x)) for x, y in zip(a[:1000], b[:1000], strict=True)]
    return float(np.mean([each.low <= 1.1 <= each.high for each in found]))


def two_accuracies(random: np.random.Generator, images: int, worse: float, better: float) -> float:
    covered = 0
    for _ in range(SESSIONS):
        both_right, got_worse, got_better, _ = random.multinomial(images, [0.85 - worse, worse, better, 0.15 - better])
        neither = images - both_right - got_worse - got_better
        low, high = statistics.newcombe(both_right, got_better, got_worse, neither)
        covered += low <= better - worse <= high
    return covered / SESSIONS


def false_claims(draw: Draw, rounds: int, percent: int | None) -> float:
    """Of a limit a thousandth below what is true: the median of the rounds, or of the rounds' percentiles of 200 skewed calls each."""
    random = np.random.default_rng(rounds)
    sessions = draw(random, rounds)
    true = 1.0
    if percent is not None:
        calls = random.lognormal(0, 0.3, (*sessions.shape, 200))
        # Of two calls that it lies between, the larger: as the choice takes it.
        sessions = sessions * np.percentile(calls, percent, axis=-1, method="higher")
        true = float(np.exp(0.3 * NormalDist().inv_cdf(percent / 100)))
    limit = true * 0.999
    found = [statistics.confidence_in_rounds(session.tolist(), limit, "most") for session in sessions]
    return float(np.mean(np.array(found) >= statistics.CONFIDENCE))


def main() -> None:
    draws: tuple[Draw, ...] = (normal, skewed, some_disturbed, drifting)
    print(f"{'':16}" + "".join(f"{f'{rounds} rounds':^34}" for rounds in ROUNDS))
    print(f"{'':16}" + f"{'order':>10}{'bootstrap':>12}{'stopping':>12}" * len(ROUNDS))
    for draw in draws:
        line = f"{draw.__name__.replace('_', ' '):16}"
        for rounds in ROUNDS:
            random = np.random.default_rng(rounds)
            sessions = draw(random, rounds)
            shares = order(sessions), bootstrap(sessions, random), stopping(sessions)
            line += f"{shares[0]:10.1%}{shares[1]:12.1%}{shares[2]:12.1%}"
        print(line)
    print("\nratio of two sessions, skewed rounds")
    for rounds in ROUNDS[:4]:
        print(f"  {rounds} and {rounds} rounds: {two_sessions(np.random.default_rng(rounds), rounds):.1%}")
    print("\ndifference of two accuracies around 85 % on the same images")
    for images, worse, better in (
        (10_000, 0.005, 0.004),
        (10_000, 0.0005, 0.0005),
        (360, 0.005, 0.005),
        (360, 0.03, 0.01),
    ):
        share = two_accuracies(np.random.default_rng(0), images, worse, better)
        print(f"  {images:,} images, {worse:.2%} got worse and {better:.2%} better: {share:.1%}")
    print("\nfalse claims that a limit is kept, with 95 % confidence")
    for draw in draws:
        for percent in (None, 95):
            of = "median" if percent is None else f"p{percent}"
            shares = ", ".join(f"{false_claims(draw, rounds, percent):.1%} of {rounds} rounds" for rounds in (6, 7, 13))
            print(f"  {draw.__name__.replace('_', ' '):14} {of:>6}: {shares}")


if __name__ == "__main__":
    main()

"""The choice among candidates: what qualifies, the Pareto set, three picks, near misses and the price of more accuracy.

- *Qualifies*: every limit is kept by the measured number. The confidence stands beside it.
- *Fastest*: the least latency. *Most accurate*: the fastest of those whose accuracy cannot be told from the best.
  *Best trade-off*: the fastest within `within` of the best accuracy. It is the one to ship.
- A tie in latency (see core.statistics) goes to the least memory. What is as small up to the noise of a measurement (see
  metrics.memory) ties in memory too, and then the smallest file counts.
- *Pareto set*: from the fastest to the slowest, each that is distinguishably more accurate than all before it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cifar_deploy.choice.candidates import NOT_REAL, Candidate, Field, confidence
from cifar_deploy.choice.limits import Limit
from cifar_deploy.metrics.memory import NOISE
from cifar_deploy.metrics.summary import Configuration

WITHIN = 0.02

_NEAR_MISSES = 3

# Beside a winner: so much a limit may have to give way, 0.5 is by half of it.
_NEAR = 0.5


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What is asked of a network, and among which to look. Empty names: all."""

    limits: tuple[Limit, ...] = ()
    formats: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    within: float = WITHIN  # of the best accuracy, a share, for the best trade-off

    def include(self, configuration: Configuration) -> bool:
        return (
            (not self.formats or configuration.variant in self.formats)
            and (not self.backends or configuration.backend in self.backends)
            and (not self.devices or configuration.device in self.devices)
        )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A limit that a candidate keeps, and with how much confidence; None of a number without a spread."""

    limit: Limit
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Pick:
    role: str  # "fastest", "best trade-off" or "most accurate"
    candidate: Candidate
    ties: tuple[Configuration, ...]  # over which memory, then size decided


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """What would qualify, and be better, if these limits gave way to these numbers."""

    candidate: Candidate
    relaxed: Mapping[Limit, float]  # in the limit's stored unit

    @property
    def excess(self) -> float:
        return max(limit.excess(number) for limit, number in self.relaxed.items())


@dataclass(frozen=True, kw_only=True)
class Price:
    """What the next step of the Pareto set costs for each percentage point of accuracy; infinite where it is not known.

    The price in training needs two networks that were trained on the same processor, with as many threads, undisturbed.
    """

    candidate: Candidate
    points: float
    latency_s: float
    memory_bytes: float
    size_bytes: float
    training_s: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The answer. Without a winner nothing qualifies."""

    constraints: Constraints
    winner: Candidate | None
    kept: tuple[Kept, ...] = ()
    picks: tuple[Pick, ...] = ()
    front: tuple[Candidate, ...] = ()
    qualified: int = 0
    considered: int = 0
    near_misses: tuple[NearMiss, ...] = ()
    price: Price | None = None
    best_accuracy: float | None = None  # of what qualifies
    never: Mapping[Configuration, str]
    unmeasured: tuple[Limit, ...] = ()  # limits on what nothing here has a number of

    @property
    def is_emulated(self) -> bool:
        """Whether the times are those of an emulated processor, of which nothing is picked."""
        return NOT_REAL in self.never.values()


def choose(field: Field, constraints: Constraints = Constraints()) -> Choice:
    """Of the candidates that the constraints include."""
    never = {configuration: why for configuration, why in field.never.items() if constraints.include(configuration)}
    everyone = [candidate for candidate in field.candidates if constraints.include(candidate.configuration)]
    unmeasured = tuple(
        limit for limit in constraints.limits if all(_number(candidate, limit) is None for candidate in everyone)
    )
    qualifying = [candidate for candidate in everyone if not _violated(candidate, constraints.limits)]
    if not qualifying:
        return Choice(
            constraints=constraints,
            winner=None,
            considered=len(everyone),
            near_misses=_near_misses(field, everyone, constraints.limits, None),
            never=never,
            unmeasured=unmeasured,
        )
    picks = _picks(field, qualifying, constraints.within)
    winner = next(pick for pick in picks if pick.role == "best trade-off").candidate
    accuracies = [candidate.accuracy for candidate in qualifying if candidate.accuracy is not None]
    return Choice(
        constraints=constraints,
        winner=winner,
        kept=tuple(Kept(limit=limit, confidence=confidence(winner, limit, field.raw)) for limit in constraints.limits),
        picks=picks,
        front=_front(field, qualifying),
        qualified=len(qualifying),
        considered=len(everyone),
        near_misses=_near_misses(field, everyone, constraints.limits, winner),
        price=_price(field, everyone, winner),
        best_accuracy=max(accuracies, default=None),
        never=never,
    )


def _number(candidate: Candidate, limit: Limit) -> float | None:
    value = candidate.value(limit.kind.metric, limit.value)
    return value.number if value else None


def _violated(candidate: Candidate, limits: Iterable[Limit]) -> dict[Limit, float | None]:
    """The limits that it does not keep, with its number; None where there is none."""
    numbers = {limit: _number(candidate, limit) for limit in limits}
    return {limit: number for limit, number in numbers.items() if number is None or not limit.allows(number)}


def _fastest(field: Field, candidates: Sequence[Candidate], role: str) -> Pick:
    first = min(candidates, key=lambda candidate: candidate.latency_s)
    tied = [candidate for candidate in candidates if candidate is first or not field.is_faster(first, candidate)]
    chosen = _most_frugal(tied)
    others = tuple(candidate.configuration for candidate in tied if candidate is not chosen)
    return Pick(role=role, candidate=chosen, ties=others)


def _most_frugal(candidates: Sequence[Candidate]) -> Candidate:
    least = min(candidate.number("memory", "peak") for candidate in candidates)
    tied = [candidate for candidate in candidates if candidate.number("memory", "peak") <= least * (1 + NOISE)]
    return min(tied, key=lambda candidate: (candidate.number("file_size", "bytes"), candidate.latency_s))


def _picks(field: Field, candidates: Sequence[Candidate], within: float) -> tuple[Pick, ...]:
    best = max((candidate.accuracy for candidate in candidates if candidate.accuracy is not None), default=None)
    if best is None:  # external models: nothing is known but their cost
        return (_fastest(field, candidates, "best trade-off"),)
    first = max(candidates, key=lambda candidate: candidate.accuracy or 0.0)
    as_accurate = [candidate for candidate in candidates if not field.is_more_accurate(first, candidate)]
    close = [
        candidate for candidate in candidates if candidate.accuracy is not None and candidate.accuracy >= best - within
    ]
    return (
        _fastest(field, candidates, "fastest"),
        _fastest(field, close, "best trade-off"),
        _fastest(field, as_accurate, "most accurate"),
    )


def _front(field: Field, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    kept: list[Candidate] = []
    rest = sorted(candidates, key=lambda candidate: (candidate.latency_s, -(candidate.accuracy or 0.0)))
    while rest:
        step = rest[0]
        # Of what is neither slower nor less accurate, as far as can be told, the most frugal.
        tied = [other for other in rest if not field.is_faster(step, other) and not field.is_more_accurate(step, other)]
        chosen = _most_frugal(tied)
        kept.append(chosen)
        rest = [other for other in rest if all(field.is_more_accurate(other, each) for each in (step, *kept))]
    return tuple(kept)


def _near_misses(
    field: Field, candidates: Sequence[Candidate], limits: Sequence[Limit], winner: Candidate | None
) -> tuple[NearMiss, ...]:
    """Those that take the least, each faster or more accurate than the winner and than all nearer ones."""
    found = []
    for candidate in candidates:
        violated = _violated(candidate, limits)
        if violated and all(number is not None for number in violated.values()):
            relaxed = {limit: number for limit, number in violated.items() if number is not None}
            found.append(NearMiss(candidate=candidate, relaxed=relaxed))
    found.sort(key=lambda miss: (miss.excess, miss.candidate.latency_s))
    shown: list[NearMiss] = []
    for miss in found:
        against = [each.candidate for each in shown] + ([winner] if winner else [])
        ours = miss.candidate
        is_near = not winner or miss.excess <= _NEAR
        if is_near and all(field.is_faster(ours, each) or field.is_more_accurate(ours, each) for each in against):
            shown.append(miss)
    return tuple(shown[:_NEAR_MISSES])


def _price(field: Field, candidates: Sequence[Candidate], winner: Candidate) -> Price | None:
    """Of the fastest that is distinguishably more accurate than the winner, limits or not; None if there is none."""
    better = [candidate for candidate in candidates if field.is_more_accurate(candidate, winner)]
    if not better:
        return None
    candidate = _fastest(field, better, "next").candidate
    assert candidate.accuracy is not None and winner.accuracy is not None
    points = (candidate.accuracy - winner.accuracy) * 100
    trained_alike = winner.trained_on is not None and winner.trained_on == candidate.trained_on

    def a_point(number: Callable[[Candidate], float]) -> float:
        ours, theirs = number(winner), number(candidate)
        return (theirs - ours) / points if math.isfinite(ours) and math.isfinite(theirs) else math.inf

    return Price(
        candidate=candidate,
        points=points,
        latency_s=a_point(lambda each: each.latency_s),
        memory_bytes=a_point(lambda each: each.number("memory", "peak")),
        size_bytes=a_point(lambda each: each.number("file_size", "bytes")),
        training_s=a_point(lambda each: each.number("training_time", "seconds")) if trained_alike else math.inf,
    )

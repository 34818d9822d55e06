"""Configurations that may be shipped, and how two of them compare."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cifar_deploy.choice.limits import Limit
from cifar_deploy.core import statistics
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Artifact, Result, Session
from cifar_deploy.core.statistics import ROUNDS_FOR_AN_INTERVAL
from cifar_deploy.core.store import CHECKPOINT
from cifar_deploy.core.table import Value
from cifar_deploy.metrics.summary import Configuration, Raw, Summary, agreement, compared_by
from cifar_deploy.sections.common import Configurations, by_settings, correct_of, eager_of, precision_of
from cifar_deploy.sections.latencies import control_of, speed_up, timed_of


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration with all that was measured of it."""

    configuration: Configuration
    of_one: Mapping[str, Summary]
    speed_up: Value | None = None  # over PyTorch eager; over the first file, of an external model

    @functools.cached_property
    def recorded(self) -> tuple[int, int] | None:
        """How many test images of how many the network had right when it was trained, where these are not here.

        None where they are, and for an INT8 artifact, which does not compute the same.
        """
        measured, checkpoint = self.of_one.get("accuracy"), self.artifact.checkpoint
        if not measured or not measured.failure or measured.failure.kind != Unavailable.kind:
            return None
        if not checkpoint or checkpoint.accuracy is None or precision_of(self.configuration) in ("int8", None):
            return None
        return round(checkpoint.accuracy * checkpoint.test_images), checkpoint.test_images

    @property
    def correct(self) -> tuple[int, int]:
        """How many images of how many have the right label, as measured or recorded."""
        return self.recorded or correct_of(self.of_one["accuracy"].result)

    @property
    def artifact(self) -> Artifact:
        return next(iter(self.of_one.values())).result.job.artifact

    def value(self, metric: str, key: str) -> Value | None:
        if (metric, key) == ("accuracy", "accuracy") and self.recorded:
            right, images = self.recorded
            return Value(number=right / images)
        summary = self.of_one.get(metric)
        return summary.values.get(key) if summary else None

    def number(self, metric: str, key: str) -> float:
        """Infinite if it is not known, so that it never wins."""
        value = self.value(metric, key)
        return value.number if value else math.inf

    @property
    def trained_on(self) -> tuple[object, ...] | None:
        """The hardware and parallelism of its training; None if the training time is unknown or noisy."""
        checkpoint, time = self.artifact.checkpoint, self.of_one.get("training_time")
        if not checkpoint or not time or (time.verdict and time.verdict.word != "stable"):
            return None
        return checkpoint.machine.chip, checkpoint.device, checkpoint.device_name, checkpoint.threads, checkpoint.ranks

    @property
    def latency_s(self) -> float:
        return self.number("latency", "p50")

    @property
    def accuracy(self) -> float | None:
        """A share; None of an external model without images."""
        value = self.value("accuracy", "accuracy")
        return value.number if value else None

    @property
    def doubts(self) -> Iterator[str]:
        """What a reader has to know of its numbers."""
        latency = self.of_one.get("latency")
        if latency and latency.verdict and latency.verdict.word != "stable":
            yield f"its latency is {latency.verdict.word} ({'; '.join(latency.verdict.reasons)})"
        if latency and len(latency.result.measurements) < ROUNDS_FOR_AN_INTERVAL:
            yield f"its latency has fewer than {ROUNDS_FOR_AN_INTERVAL} rounds, so no interval"
        if self.recorded:
            yield "its accuracy is the one recorded in training, since its test images are not here"
        accuracy = self.of_one.get("accuracy")
        if accuracy and accuracy.verdict:
            yield f"its accuracy: {accuracy.verdict.word} ({'; '.join(accuracy.verdict.reasons)})"
        if accuracy and (limit := accuracy.result.job.limit_test):
            yield f"its accuracy is over only {limit} test images"


NOT_REAL = "its processor is emulated, so its times are not those of a real one"


def why_never(candidate: Candidate) -> str | None:
    """Why a configuration is never picked, whatever the limits; None if it may be."""
    if any(summary.result.job.machine.emulated for summary in candidate.of_one.values()):
        return NOT_REAL
    for metric in ("latency",) if candidate.recorded else ("latency", "accuracy"):
        summary = candidate.of_one.get(metric)
        if summary and summary.failure:
            return f"{summary.failure.kind}: {summary.failure.reason}"
        if not summary and not (metric == "accuracy" and candidate.artifact.data is None):
            return f"its {metric} was not measured; run `cifar-deploy evaluate --metric {metric}`"
    latency = candidate.of_one["latency"]
    if not latency.values:
        return "its latency has no measurement"
    if latency.verdict and latency.verdict.word == "invalid":
        return f"its latency is invalid: {'; '.join(latency.verdict.reasons)}"
    if candidate.artifact.data is None:
        return None
    accuracy = candidate.of_one["accuracy"]
    if accuracy.verdict and accuracy.verdict.word == "at chance":
        return f"its accuracy is at chance: {'; '.join(accuracy.verdict.reasons)}"
    return _not_validated(candidate)


def _not_validated(candidate: Candidate) -> str | None:
    artifact, backend = candidate.artifact, candidate.configuration.backend
    if artifact.format in (CHECKPOINT, None):
        return None  # the network itself, which the others are validated against; or an external model, which has none
    parity = next((parity for parity in artifact.parity if parity.backend == backend), None)
    if not parity:
        return f"its output was not validated on {backend}; run `cifar-deploy export --force` here"
    if parity.stand_in and not candidate.recorded:
        return f"its output was validated on {parity.stand_in}, not on its own images; run `cifar-deploy export` where these are"
    return None


@dataclass(frozen=True, kw_only=True)
class Field:
    """All candidates of a choice, and the tests of whether two of them differ."""

    candidates: tuple[Candidate, ...]
    never: Mapping[Configuration, str]  # why others are never picked
    raw: Raw
    noises: Mapping[Session, float] = field(default_factory=dict)

    def is_faster(self, ours: Candidate, theirs: Candidate) -> bool:
        """Whether ours is distinguishably faster: by more than a tie."""
        first, second = ours.of_one["latency"].result, theirs.of_one["latency"].result
        key = compared_by("latency")
        if first.session == second.session and first.session:
            ratio = statistics.paired_ratio(first.rounds(key), second.rounds(key))
            noise = self.noises.get(first.session, statistics.NOISE_BETWEEN_SESSIONS)
        else:
            ratio = statistics.unpaired_ratio(list(first.rounds(key).values()), list(second.rounds(key).values()))
            noise = statistics.NOISE_BETWEEN_SESSIONS
        if ratio is None:
            return False
        if ratio.kind == "range":  # too few rounds to tell: the least that is ever claimed
            return math.log(ratio.value) < -math.log1p(max(noise, statistics.NOISE_BETWEEN_SESSIONS))
        return ratio.value < 1 and statistics.differs(ratio, noise)

    def is_more_accurate(self, ours: Candidate, theirs: Candidate) -> bool:
        """Whether ours is distinguishably more accurate: image by image, or by the shares alone where labels are lost."""
        if ours.accuracy is None or theirs.accuracy is None or ours.accuracy <= theirs.accuracy:
            return False
        if not (ours.recorded or theirs.recorded):
            first, second = theirs.of_one["accuracy"].result, ours.of_one["accuracy"].result
            if found := agreement(first, second, self.raw, self.raw):
                return found.distinguishable
        (k1, n1), (k2, n2) = ours.correct, theirs.correct
        return statistics.difference(k1, n1, k2, n2)[0] > 0


def reference_of(configuration: Configuration, rows: Configurations) -> dict[str, Summary] | None:
    """What a speed-up is over; None for that itself, and where it is not there."""
    if configuration.format:
        return eager_of(configuration, rows)
    first = next(iter(timed_of(rows)), None)
    return rows[first] if first and first != configuration else None


def field_of(configurations: Configurations, controls: Sequence[Result], raw: Raw) -> Field:
    """All configurations of the results, those that may be picked apart from those that never are."""
    candidates, never = [], {}
    rows = by_settings(configurations)
    # A whole batch's latency is another question.
    sizes = [of["latency"].result.job.batch_size for of in rows.values() if "latency" in of]
    for configuration, of_one in rows.items():
        if "latency" in of_one and of_one["latency"].result.job.batch_size != min(sizes):
            continue
        candidate = Candidate(
            configuration=configuration,
            of_one=of_one,
            speed_up=speed_up(of_one, reference_of(configuration, rows)),
        )
        if reason := why_never(candidate):
            never[configuration] = reason
        else:
            candidates.append(candidate)
    latencies = [candidate.of_one["latency"].result for candidate in candidates]
    sessions = {result.session for result in controls if result.session}
    noises = {
        session: statistics.noise(ratios)
        for session in sessions
        if (ratios := control_of(session, latencies, controls))
    }
    return Field(candidates=tuple(candidates), never=never, raw=raw, noises=noises)


def confidence(candidate: Candidate, limit: Limit, raw: Raw) -> float | None:
    """With how much confidence it keeps a limit, as of `core.statistics`; None of a number that was measured once or counted."""
    if limit.kind.metric == "accuracy":
        return statistics.confidence_in_share(*candidate.correct, limit.number)
    summary = candidate.of_one[limit.kind.metric]
    if not summary.result.session:
        return None
    if limit.percentile != 50:
        rounds = summary.percentiles(limit.percentile, raw)
    else:
        rounds = list(summary.result.rounds(limit.value).values())
    return statistics.confidence_in_rounds(rounds, limit.number, limit.kind.bound)

"""Where the time of an inference goes, operator by operator, by the runtime's own profiler.

A profiler slows what it watches: these times show shares, and are not comparable with a latency.
"""

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from numpy.typing import NDArray

from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.records import AtLeastOne, Count, File, Job, Machine, NotEmpty, NotNegative, Positive, Time

# Inferences before those that count: runtimes compile and pack weights in the first ones.
WARM_UP = 10

# Fewest and most inferences that count. A profiler writes hundreds of events for each.
_LEAST, _MOST = 5, 200

_INT8 = ("int8", "uint8")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A node of the graph as the runtime executes it, after its own optimisations."""

    name: str
    type: str  # in the runtime's own words
    dtype: str | None  # of what it computes with, as numpy names it; None where the runtime does not say
    is_convolution: bool
    calls: Count  # in all inferences together
    seconds: NotNegative  # likewise

    @property
    def precision(self) -> str | None:
        """As a format's: int8 for signed and unsigned."""
        return "int8" if self.dtype in _INT8 else self.dtype


@dataclass(frozen=True, kw_only=True)
class Span:
    """A bar of a trace, on the thread that did the work."""

    name: str
    type: str
    start_us: float
    duration_us: float
    thread: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What a backend found: the operators of all inferences, the seconds of each, and spans of the first few."""

    operators: tuple[Operator, ...]  # as they are executed
    inference_s: tuple[float, ...]
    spans: tuple[Span, ...]
    note: str = ""  # what a reader should know


@dataclass(frozen=True, kw_only=True)
class Calls:
    """The inferences that a backend profiles: each of the next batch, for `seconds`, but at least 5 and at most 200."""

    batches: Sequence[NDArray[Any]]
    seconds: float

    def warm_up(self, predict: Predict) -> None:
        for batch in itertools.islice(itertools.cycle(self.batches), WARM_UP):
            predict(batch)

    def timed(self, predict: Predict) -> tuple[float, ...]:
        """Seconds of each call."""
        found: list[float] = []
        end = time.perf_counter() + self.seconds
        for batch in itertools.islice(itertools.cycle(self.batches), _MOST):
            begun = time.perf_counter()
            if begun >= end and len(found) >= _LEAST:
                break
            predict(batch)
            found.append(time.perf_counter() - begun)
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The operators of an artifact on a runtime. Its trace lies beside its record."""

    name: str  # of the training
    format: str  # with its input, as a name: Artifact.variant
    files: tuple[File, ...]  # of the artifact
    backend: str
    device: str
    threads: AtLeastOne
    inferences: AtLeastOne
    seconds: Positive  # of all inferences together, under the profiler
    operators: Annotated[tuple[Operator, ...], NotEmpty()]
    machine: Machine
    versions: Mapping[str, str]
    started: Time
    commit: str | None
    note: str = ""  # on how the runtime counts

    def is_of(self, job: Job) -> bool:
        """Whether it is of a job's very artifact, on the same machine and versions."""
        hashes = [file.sha256 for file in self.files]
        return (hashes, self.backend, self.versions, self.machine) == (
            [file.sha256 for file in job.artifact.files],
            job.backend,
            job.versions,
            job.machine,
        )

    def share(self, operator: Operator) -> float:
        """Of the time of all inferences."""
        return operator.seconds / self.seconds

    @property
    def profiled_share(self) -> float:
        """The rest is the runtime's work between operators, and the profiler's own."""
        return sum(map(self.share, self.operators))

    def by_type(self) -> tuple[Operator, ...]:
        """One for each type and precision, the largest first. Its name is empty."""
        groups: dict[tuple[str, str | None], list[Operator]] = {}
        for operator in self.operators:
            groups.setdefault((operator.type, operator.precision), []).append(operator)
        return _largest_first(
            Operator(
                name="",
                type=type,
                dtype=precision,
                is_convolution=alike[0].is_convolution,
                calls=sum(operator.calls for operator in alike),
                seconds=sum(operator.seconds for operator in alike),
            )
            for (type, precision), alike in groups.items()
        )

    def by_node(self) -> tuple[Operator, ...]:
        """The largest first."""
        return _largest_first(self.operators)

    def convolutions(self) -> Mapping[str | None, int]:
        """How many of the graph's convolutions run in each precision."""
        return Counter(operator.precision for operator in self.operators if operator.is_convolution)

    def convolutions_in(self, precision: str) -> str:
        """In words, for people."""
        found = self.convolutions()
        if None in found:
            return f"{sum(found.values())} convolutions run; the runtime does not say in which precision"
        name = {"int8": "INT8", "float16": "FP16"}.get(precision, precision)
        return f"{found.get(precision, 0)} of {sum(found.values())} convolutions run in {name}"


def _largest_first(operators: Any) -> tuple[Operator, ...]:
    return tuple(sorted(operators, key=lambda operator: -operator.seconds))

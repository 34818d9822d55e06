"""The limits that a network has to keep on the device, each an option of `choose` with its unit."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cifar_deploy.core import units
from cifar_deploy.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an option limits: a value of a metric, and how a user gives it."""

    metric: str
    value: str
    bound: Literal["most", "least"]
    read: Callable[[str, str], float]  # of core.units: in the column's stored unit
    units: tuple[str, ...]  # in which the program says it: the one that makes the limit shorter

    def scale(self, unit: str) -> float:
        """A unit in the column's stored unit."""
        return self.read(f"1{unit}", "")


KINDS: Mapping[str, Kind] = {
    "--max-latency": Kind(metric="latency", value="p50", bound="most", read=units.latency, units=("ms",)),
    "--max-memory": Kind(metric="memory", value="peak", bound="most", read=units.size, units=("MiB", "MB")),
    "--max-size": Kind(metric="file_size", value="bytes", bound="most", read=units.size, units=("MiB", "MB")),
    "--min-accuracy": Kind(metric="accuracy", value="accuracy", bound="least", read=units.accuracy, units=("%",)),
    "--min-throughput": Kind(
        metric="throughput", value="images_per_second", bound="least", read=units.rate, units=("/s",)
    ),
    "--max-energy": Kind(metric="energy", value="joules", bound="most", read=units.energy, units=("mJ",)),
}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of them, with its number in the stored unit of its column."""

    option: str  # of KINDS
    number: float
    percentile: int = 50  # of a latency

    @property
    def kind(self) -> Kind:
        return KINDS[self.option]

    @property
    def value(self) -> str:
        """The column's key."""
        return self.kind.value if self.percentile == 50 else f"p{self.percentile}"

    def allows(self, number: float) -> bool:
        return number <= self.number if self.kind.bound == "most" else number >= self.number

    def excess(self, number: float) -> float:
        """By how much it has to give way for `number`: 0.1 is a tenth. Of an accuracy the errors count."""
        ours, theirs = (1 - self.number, 1 - number) if self.kind.metric == "accuracy" else (self.number, number)
        if ours <= 0 or theirs <= 0:
            return math.inf
        ratio = theirs / ours if self.kind.bound == "most" or self.kind.metric == "accuracy" else ours / theirs
        return ratio - 1

    def text(self, number: float | None = None) -> str:
        """As a user would type it, this number or another one that it has to allow."""
        kind = self.kind
        said = {unit: _plain(self.number / kind.scale(unit)) for unit in kind.units}
        unit = min(kind.units, key=lambda unit: len(said[unit]))
        if number is None:
            return f"{self.option} {said[unit]}{unit}"
        shown = number / kind.scale(unit)
        step = 10.0 ** (math.floor(math.log10(abs(shown))) - 2) if shown else 1.0
        if kind.metric == "accuracy":
            step = 0.01
        rounded = (math.ceil if kind.bound == "most" else math.floor)(round(shown / step, 6)) * step
        return f"{self.option} {_plain(rounded)}{unit}"


def _plain(number: float) -> str:
    """Up to six digits, no exponent, no zeros at the end."""
    text = f"{float(f'{number:.6g}'):.9f}"
    return text.rstrip("0").rstrip(".")


def limits_of(numbers: Mapping[str, float | None], percentile: int) -> tuple[Limit, ...]:
    """Those that were given, by option. Raises UsageError for a percentile without a latency."""
    if percentile != 50 and numbers.get("--max-latency") is None:
        raise UsageError("--percentile: is of a latency; add --max-latency, or leave it out")
    return tuple(
        Limit(option=option, number=number, percentile=percentile if KINDS[option].metric == "latency" else 50)
        for option, number in numbers.items()
        if number is not None
    )

"""The limits that a network has to keep on the device, each an option of `choose` with its unit."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from cifar_deploy.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an option limits: a value of a metric, and the units in which a user may give it."""

    metric: str
    value: str
    bound: Literal["most", "least"]
    units: Mapping[str, float]  # as typed, in small letters -> times the number it is in the column's stored unit
    example: str
    unit: str  # in which the program says it


_BYTES = {"b": 1.0, "kb": 1e3, "kib": 2.0**10, "mb": 1e6, "mib": 2.0**20, "gb": 1e9, "gib": 2.0**30}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}

KINDS: Mapping[str, Kind] = {
    "--max-latency": Kind(metric="latency", value="p50", bound="most", units=_SECONDS, example="5ms", unit="ms"),
    "--max-memory": Kind(metric="memory", value="peak", bound="most", units=_BYTES, example="60MB", unit="MiB"),
    "--max-size": Kind(metric="file_size", value="bytes", bound="most", units=_BYTES, example="4MB", unit="MiB"),
    "--min-accuracy": Kind(
        metric="accuracy", value="accuracy", bound="least", units={"%": 0.01}, example="84%", unit="%"
    ),
    "--min-throughput": Kind(
        metric="throughput",
        value="images_per_second",
        bound="least",
        units={"/s": 1.0, "images/s": 1.0},
        example="500/s",
        unit="/s",
    ),
    "--max-energy": Kind(
        metric="energy",
        value="joules",
        bound="most",
        units={"uj": 1e-6, "µj": 1e-6, "mj": 1e-3, "j": 1.0},
        example="5mJ",
        unit="mJ",
    ),
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
        scale = self.kind.units[self.kind.unit.lower()]
        shown = (self.number if number is None else number) / scale
        if number is None:
            return f"{self.option} {_plain(shown)}{self.kind.unit}"
        step = 10.0 ** (math.floor(math.log10(abs(shown))) - 2) if shown else 1.0
        if self.kind.metric == "accuracy":
            step = 0.01
        rounded = (math.ceil if self.kind.bound == "most" else math.floor)(round(shown / step, 6)) * step
        return f"{self.option} {_plain(rounded)}{self.kind.unit}"


def _plain(number: float) -> str:
    """Up to six digits, no exponent, no zeros at the end."""
    text = f"{float(f'{number:.6g}'):.9f}"
    return text.rstrip("0").rstrip(".")


def parsed(option: str, text: str) -> float:
    """A number with its unit, in the column's stored unit. Raises UsageError, with an example, if it is none."""
    kind = KINDS[option]
    found = re.fullmatch(r"\s*([+-]?[0-9.,]*(?:e[+-]?[0-9]+)?)\s*([^\s0-9]*)\s*", text.lower())
    example = f"as in {option} {kind.example}"
    number, unit = found.groups() if found else ("", "")
    if not found or not number:
        raise UsageError(f"{option}: {text!r} is not a number with a unit; give one, {example}")
    if not unit:
        raise UsageError(f"{option}: {text} has no unit; add one ({', '.join(kind.units)}), {example}")
    if unit not in kind.units:
        raise UsageError(f"{option}: {unit!r} is no unit of it ({', '.join(kind.units)}); give one, {example}")
    try:
        # Decimal, so that 87.34% is the share 0.8734 and not a little more.
        value = float(Decimal(number) * Decimal(repr(kind.units[unit])))
    except (InvalidOperation, OverflowError):
        raise UsageError(f"{option}: {number!r} is not a number; give one, {example}") from None
    if not (math.isfinite(value) and value > 0) or (unit == "%" and value > 1):
        raise UsageError(f"{option}: {text} is out of range; give a number, {example}")
    return value


def limits_of(numbers: Mapping[str, float | None], percentile: int) -> tuple[Limit, ...]:
    """Those that were given, by option. Raises UsageError for a percentile without a latency."""
    if percentile != 50 and numbers.get("--max-latency") is None:
        raise UsageError("--percentile: is of a latency; add --max-latency, or leave it out")
    return tuple(
        Limit(option=option, number=number, percentile=percentile if KINDS[option].metric == "latency" else 50)
        for option, number in numbers.items()
        if number is not None
    )

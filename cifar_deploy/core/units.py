"""Numbers with a unit, as people type them: 5%, 10m, 4G, 60MB, 5ms. A refusal says what to type.

MB is 10^6 bytes and MiB is 2^20, as the standards have it. M alone is 2^20 too, as Docker, systemd and `ls -h` have it.
Capital and small letters are alike, but for M, which is never milli. The micro sign is a u.

Each function raises ValueError. `option` is the option that has the value, for the refusal to name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

_NUMBER = re.compile(
    r"([+-]?(?:\d[\d.,]{0,30}|\.\d{1,30})(?:e[+-]?\d{1,3}(?![\d.,]))?)[ \u00a0\u2009\u202f]*([^\s\d]*)",
    re.ASCII | re.IGNORECASE,
)

# Both are in use: the micro sign, and the Greek letter.
_MICRO = re.compile("[\u00b5\u03bc]")

_SECONDS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}
_BYTES: Mapping[str, float] = {
    "b": 1,
    **{f"{prefix}b": 10 ** (3 * power) for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}{suffix}": 2 ** (10 * power) for power, prefix in enumerate("kmgt", 1) for suffix in ("ib", "")},
}

# Waiting for longer is no request, and more than the system's clocks can count.
_LONGEST_S = 366 * 24 * 3600
# The system counts bytes in 64 bits, one of them for the sign.
_MOST_BYTES = 2**63 - 1
# Nobody means so few bytes: importing numpy takes more.
_FEW_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a number is of. `units` holds "" where a number may have none; `usual` is the one to add where it has to."""

    name: str
    units: Mapping[str, float]
    usual: str
    examples: str


_SHARE = _Kind(
    name="percentage", units={"": 1, "%": 0.01}, usual="%", examples="a percentage like 5%, or a fraction like 0.05"
)
_DURATION = _Kind(
    name="duration", units={"": 1, **_SECONDS, "m": 60, "min": 60, "h": 3600}, usual="s", examples="90s, 10m or 1.5h"
)
_LATENCY = _Kind(name="latency", units=_SECONDS, usual="ms", examples="5ms, or 250us")
_SIZE = _Kind(name="size", units=_BYTES, usual="MB", examples="60MB, or 512KiB")
_MEMORY = _Kind(name="size", units={"": 1, **_BYTES}, usual="M", examples="4G, or 512M")
_RATE = _Kind(name="rate", units={"/s": 1, "images/s": 1}, usual="/s", examples="500/s")
_ENERGY = _Kind(name="energy", units={"uj": 1e-6, "mj": 1e-3, "j": 1}, usual="mJ", examples="5mJ, or 800uJ")


def share(text: str, option: str = "") -> float:
    """A fraction of one: 2% or 0.02. It is above 0 and below 1."""
    number = slowdown(text, option)
    if number >= 1:
        raise ValueError(f"{text} is not below 100%; give a percentage like 2%, or a fraction like 0.02")
    return number


def accuracy(text: str, option: str = "") -> float:
    """A fraction of one: 84%, 0.84 or 100%. It is above 0."""
    number = slowdown(text, option)
    if number > 1:
        raise ValueError(f"{text} is above 100%; give a percentage like 84%, or a fraction like 0.84")
    return number


def slowdown(text: str, option: str = "") -> float:
    """How much more, as a fraction of one: 5%, 0.05 or 150%. A bare number of 1 or more might mean either."""
    number, unit = _split(text, _SHARE, option)
    if not unit and number >= 1:
        raise ValueError(_without_unit(text, _SHARE, option))
    return number


def duration(text: str, option: str = "") -> float:
    """Seconds, of 90, 90s, 10m, 1.5h or 500ms."""
    seconds, _ = _split(text, _DURATION, option)
    if seconds > _LONGEST_S:
        raise ValueError(f"{text} is longer than a year; give {_DURATION.examples}")
    return seconds


def latency(text: str, option: str = "") -> float:
    """Seconds, of 5ms, 250us or 0.5s. A bare number might be of any of them."""
    return _split(text, _LATENCY, option)[0]


def size(text: str, option: str = "") -> int:
    """Bytes, of 60MB, 1.5 GiB or 4M. A bare number might be of any of them."""
    return _bytes(text, _SIZE, option)[0]


def memory(text: str, option: str = "") -> int:
    """Bytes, as `size` has them, or a bare number of them that is not small: then it has lost its unit."""
    found, unit = _bytes(text, _MEMORY, option)
    if found < _FEW_BYTES and not unit:
        raise ValueError(_without_unit(text, _MEMORY, option))
    return found


def rate(text: str, option: str = "") -> float:
    """How many a second, of 500/s or 500 images/s."""
    return _split(text, _RATE, option)[0]


def energy(text: str, option: str = "") -> float:
    """Joules, of 5mJ, 800uJ or 0.5J."""
    return _split(text, _ENERGY, option)[0]


def _bytes(text: str, kind: _Kind, option: str) -> tuple[int, str]:
    found, unit = _split(text, kind, option)
    if not 1 <= found <= _MOST_BYTES:
        raise ValueError(f"{text} is no size; give {kind.examples}")
    return int(found), unit


def _split(text: str, kind: _Kind, option: str) -> tuple[float, str]:
    """The number in the first of the units, above zero, and the unit that was typed."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text} is no {kind.name}; give {kind.examples}")
    typed, unit = match[1], _MICRO.sub("u", match[2])
    factor = kind.units.get(unit.lower())
    if "," in typed:
        # 1,000 is a thousand to some and one to others.
        decimal = re.fullmatch(r"[+-]?\d*,\d{1,2}(?:e.*)?", typed, re.IGNORECASE)
        remedy = _typed(option, text.strip().replace(",", ".")) if decimal else f"give {kind.examples}"
        raise ValueError(f"{text} has a comma, and a number takes a point: {remedy}")
    if factor is None and not unit:
        raise ValueError(_without_unit(text, kind, option))
    if factor is None or (factor == 1e-3 and unit.startswith("M")):
        raise ValueError(f"{text} is no {kind.name}, since {match[2]} is no unit of it; give {kind.examples}")
    try:
        # Decimal, so that 87.34% is the share 0.8734 and not a little more.
        number = float(Decimal(typed) * Decimal(str(factor)))
    except ArithmeticError:
        raise ValueError(f"{text} is no {kind.name}; give {kind.examples}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{text} is no {kind.name} above zero; give {kind.examples}")
    return number, unit


def _without_unit(text: str, kind: _Kind, option: str) -> str:
    return f"{text}: add the unit: {_typed(option, f'{text.strip()}{kind.usual}')}"


def _typed(option: str, value: str) -> str:
    return f"{option} {value}" if option else value

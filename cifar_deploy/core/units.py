"""Numbers with a unit, as people type them: 5%, 10m, 4G. A refusal says what to type.

Each function raises ValueError. `option` is the option that has the value, for the refusal to name.
"""

import math
import re
from collections.abc import Mapping

_NUMBER = re.compile(
    r"([+-]?(?:\d[\d.,]{0,30}|\.\d{1,30})(?:e[+-]?\d{1,3}(?![\d.,]))?)[ \u00a0\u202f]?([^\s\d]*)",
    re.ASCII | re.IGNORECASE,
)

_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}
_BYTES = {
    f"{prefix}{suffix}": 2 ** (10 * power)
    for power, prefix in enumerate(("", "k", "m", "g", "t"))
    for suffix in ("", "b", "ib")
}

# Waiting for longer is no request, and more than the system's clocks can count.
_LONGEST_S = 366 * 24 * 3600
# The system counts bytes in 64 bits, one of them for the sign.
_MOST_BYTES = 2**63 - 1
# Nobody means so few bytes: importing numpy takes more.
_FEW_BYTES = 2**20


def share(text: str, option: str = "") -> float:
    """A fraction of one: 2% or 0.02. It is above 0 and below 1."""
    number = slowdown(text, option)
    if number >= 1:
        raise ValueError(f"{text} is not below 100%; give a percentage like 2%, or a fraction like 0.02")
    return number


def slowdown(text: str, option: str = "") -> float:
    """How much more, as a fraction of one: 5%, 0.05 or 150%. A bare number of 1 or more might mean either."""
    number, unit = _split(
        text, {"": 1, "%": 0.01}, "percentage", "a percentage like 5%, or a fraction like 0.05", option
    )
    if not unit and number >= 1:
        raise ValueError(f"{text}: add the unit: {_typed(option, f'{text.strip()}%')}")
    return number


def duration(text: str, option: str = "") -> float:
    """Seconds, of 90, 90s, 10m, 1.5h or 500ms."""
    seconds, _ = _split(text, _SECONDS, "duration", "90s, 10m or 1.5h", option)
    if seconds > _LONGEST_S:
        raise ValueError(f"{text} is longer than a year; give 90s, 10m or 1.5h")
    return seconds


def size(text: str, option: str = "") -> int:
    """Bytes, of 4G, 512M, 1.5 GiB or 4294967296."""
    found, _ = _split(text, _BYTES, "size", "4G, or 512M", option)
    if "e" in text.lower() or not 1 <= found <= _MOST_BYTES:
        raise ValueError(f"{text} is no size; give 4G, or 512M")
    return int(found)


def memory(text: str, option: str = "") -> int:
    """As `size`, of a process's memory: a bare small number has lost its unit."""
    found = size(text, option)
    if found < _FEW_BYTES and text.strip().isdecimal():
        raise ValueError(f"{text}: add the unit: {_typed(option, f'{text.strip()}M')}")
    return found


def _split(text: str, units: Mapping[str, float], what: str, examples: str, option: str) -> tuple[float, str]:
    """The number in the first of the units, above zero, and the unit that was typed."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text} is no {what}; give {examples}")
    typed, unit = match[1], match[2].lower()
    if "," in typed:
        # 1,000 is a thousand to some and one to others.
        decimal = re.fullmatch(r"[+-]?\d*,\d{1,2}(?:e.*)?", typed, re.IGNORECASE)
        remedy = _typed(option, text.strip().replace(",", ".")) if decimal else f"give {examples}"
        raise ValueError(f"{text} has a comma, and a number takes a point: {remedy}")
    if unit not in units:
        raise ValueError(f"{text} is no {what}, since {match[2]} is no unit of it; give {examples}")
    try:
        number = float(typed) * units[unit]
    except ValueError:
        raise ValueError(f"{text} is no {what}; give {examples}") from None
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{text} is no {what} above zero; give {examples}")
    return number, unit


def _typed(option: str, value: str) -> str:
    return f"{option} {value}" if option else value

"""A number with a unit is read as it was meant, or refused with what to type."""

from collections.abc import Callable
from typing import Any

import pytest

from cifar_deploy.core import units


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (units.slowdown, "5%", 0.05),
        (units.slowdown, "5 %", 0.05),
        (units.slowdown, "5\u00a0%", 0.05),
        (units.slowdown, " 5% ", 0.05),
        (units.slowdown, "+5%", 0.05),
        (units.slowdown, "0.05", 0.05),
        (units.slowdown, ".05", 0.05),
        (units.slowdown, "1e-2", 0.01),
        (units.slowdown, "0.5%", 0.005),
        (units.slowdown, "150%", 1.5),
        (units.share, "2%", 0.02),
        (units.share, "0.02", 0.02),
        (units.share, "99.9%", 0.999),
        (units.duration, "90", 90),
        (units.duration, "0.5", 0.5),
        (units.duration, "90s", 90),
        (units.duration, "10m", 600),
        (units.duration, "10 min", 600),
        (units.duration, "1.5h", 5400),
        (units.duration, "1.5H", 5400),
        (units.duration, "500ms", 0.5),
        (units.duration, "1e2", 100),
        (units.size, "4G", 4 * 2**30),
        (units.size, "1.5GiB", 3 * 2**29),
        (units.size, "512 m", 512 * 2**20),
        (units.size, "100", 100),
        (units.size, "2TB", 2**41),
        (units.memory, "4294967296", 2**32),
        (units.memory, "512K", 2**19),
    ],
)
def test_a_number_is_read_with_its_unit(parse: Callable[[str], float], text: str, expected: float) -> None:
    assert parse(text) == pytest.approx(expected, rel=1e-12)


_PERCENTAGE = "give a percentage like 5%, or a fraction like 0.05"
_DURATION = "give 90s, 10m or 1.5h"
_SIZE = "give 4G, or 512M"
REFUSED: list[tuple[str, str, str]] = [
    ("slowdown", "5", "5: add the unit: --it 5%"),
    ("slowdown", "1", "1: add the unit: --it 1%"),
    ("slowdown", "1.5", "1.5: add the unit: --it 1.5%"),
    ("slowdown", "5,0%", "5,0% has a comma, and a number takes a point: --it 5.0%"),
    ("slowdown", "0,05", "0,05 has a comma, and a number takes a point: --it 0.05"),
    ("slowdown", "1,000%", f"1,000% has a comma, and a number takes a point: {_PERCENTAGE}"),
    ("slowdown", "-5%", f"-5% is no percentage above zero; {_PERCENTAGE}"),
    ("slowdown", "0%", f"0% is no percentage above zero; {_PERCENTAGE}"),
    ("slowdown", "0", f"0 is no percentage above zero; {_PERCENTAGE}"),
    ("slowdown", "5 percent", f"5 percent is no percentage, since percent is no unit of it; {_PERCENTAGE}"),
    ("slowdown", "5m", f"5m is no percentage, since m is no unit of it; {_PERCENTAGE}"),
    ("slowdown", "1e400%", "1e400% is no percentage"),
    *(
        ("slowdown", text, f"{text} is no percentage; {_PERCENTAGE}")
        for text in ("nan", "inf", "-inf", "%", "", " ", "x")
    ),
    ("slowdown", "5.0.0%", f"5.0.0% is no percentage; {_PERCENTAGE}"),
    ("share", "100%", "100% is not below 100%; give a percentage like 2%, or a fraction like 0.02"),
    ("share", "2", "2: add the unit: --it 2%"),
    ("duration", "5min30s", f"5min30s is no duration; {_DURATION}"),
    ("duration", "5%", f"5% is no duration, since % is no unit of it; {_DURATION}"),
    ("duration", "2 weeks", f"2 weeks is no duration, since weeks is no unit of it; {_DURATION}"),
    ("duration", "1,5h", "1,5h has a comma, and a number takes a point: --it 1.5h"),
    ("duration", "0", f"0 is no duration above zero; {_DURATION}"),
    ("duration", "-5m", f"-5m is no duration above zero; {_DURATION}"),
    ("duration", "1e12", f"1e12 is longer than a year; {_DURATION}"),
    *(("duration", text, f"{text} is no duration; {_DURATION}") for text in ("nan", "inf", "", "soon", "m")),
    ("size", "4 apples", f"4 apples is no size, since apples is no unit of it; {_SIZE}"),
    ("size", "1,5G", "1,5G has a comma, and a number takes a point: --it 1.5G"),
    ("size", "0.5", f"0.5 is no size; {_SIZE}"),
    ("size", "-4G", f"-4G is no size above zero; {_SIZE}"),
    ("size", "1e9", f"1e9 is no size; {_SIZE}"),
    ("size", "99999999999T", f"99999999999T is no size; {_SIZE}"),
    *(("size", text, f"{text} is no size; {_SIZE}") for text in ("nan", "inf", "", "G", "a lot")),
    ("memory", "512", "512: add the unit: --it 512M"),
    ("memory", "4", "4: add the unit: --it 4M"),
]


@pytest.mark.parametrize(("kind", "text", "words"), REFUSED)
def test_what_is_no_such_number_is_refused_with_what_to_type(kind: str, text: str, words: str) -> None:
    parse: Any = getattr(units, kind)
    with pytest.raises(ValueError) as raised:
        parse(text, "--it")
    assert str(raised.value).startswith(words)

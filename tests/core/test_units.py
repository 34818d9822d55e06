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
        (units.duration, "90 \u2009s", 90),
        (units.duration, "250us", 0.00025),
        (units.latency, "5ms", 0.005),
        (units.latency, "5 ms", 0.005),
        (units.latency, "250us", 0.00025),
        (units.latency, "250\u00b5s", 0.00025),  # the micro sign
        (units.latency, "250\u03bcs", 0.00025),  # the Greek letter
        (units.latency, "800ns", 8e-7),
        (units.latency, "0.5S", 0.5),
        (units.size, "1.5kb", 1500),
        (units.size, "1.5kB", 1500),
        (units.size, "1.5KiB", 1536),
        (units.size, "1.5K", 1536),
        (units.size, "60MB", 60e6),
        (units.size, "60 MiB", 60 * 2**20),
        (units.size, "512 m", 512 * 2**20),
        (units.size, "4GB", 4e9),
        (units.size, "4G", 4 * 2**30),
        (units.size, "1.5GiB", 3 * 2**29),
        (units.size, "2TB", 2e12),
        (units.size, "100B", 100),
        (units.size, "1e3B", 1000),
        (units.memory, "4G", 4 * 2**30),
        (units.memory, "4GB", 4e9),
        (units.memory, "4294967296", 2**32),
        (units.memory, "1e9", 1e9),
        (units.memory, "512K", 2**19),
        (units.accuracy, "84%", 0.84),
        (units.accuracy, "0.84", 0.84),
        (units.accuracy, "100%", 1.0),
        (units.rate, "500/s", 500),
        (units.rate, "1e3 images/s", 1000),
        (units.energy, "5mJ", 0.005),
        (units.energy, "800\u00b5J", 0.0008),
        (units.energy, "0.5 J", 0.5),
    ],
)
def test_a_number_is_read_with_its_unit(parse: Callable[[str], float], text: str, expected: float) -> None:
    assert parse(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("text", "expected"), [("87.34%", 0.8734), ("0.7%", 0.007), ("84.18%", 0.8418)])
def test_a_percentage_is_the_nearest_number_and_no_more(text: str, expected: float) -> None:
    assert units.accuracy(text) == expected  # in binary, 0.7 * 0.01 is more than 0.007


def test_a_unit_means_the_same_wherever_it_is_given() -> None:
    for prefix, power in zip("kMGT", (1, 2, 3, 4), strict=True):
        for parse in (units.size, units.memory):
            found = [parse(f"3{prefix}{suffix}") for suffix in ("B", "iB", "")]
            assert found == [3 * 1000**power, 3 * 1024**power, 3 * 1024**power]
    for unit in ("ns", "us", "\u00b5s", "ms", "s"):
        assert units.latency(f"7{unit}") == units.duration(f"7{unit}")


_PERCENTAGE = "give a percentage like 5%, or a fraction like 0.05"
_DURATION = "give 90s, 10m or 1.5h"
_MEMORY = "give 4G, or 512M"
_SIZE = "give 60MB, or 512KiB"
_LATENCY = "give 5ms, or 250us"
_ENERGY = "give 5mJ, or 800uJ"
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
    ("size", "5", "5: add the unit: --it 5MB"),
    ("size", "60000000", "60000000: add the unit: --it 60000000MB"),
    ("size", "0.5B", f"0.5B is no size; {_SIZE}"),
    ("size", "-4G", f"-4G is no size above zero; {_SIZE}"),
    ("size", "99999999999T", f"99999999999T is no size; {_SIZE}"),
    ("size", "1e400T", f"1e400T is no size above zero; {_SIZE}"),
    ("size", "5%", f"5% is no size, since % is no unit of it; {_SIZE}"),
    *(("size", text, f"{text} is no size; {_SIZE}") for text in ("nan", "inf", "", "G", "a lot")),
    ("memory", "512", "512: add the unit: --it 512M"),
    ("memory", "4", "4: add the unit: --it 4M"),
    ("memory", "0.5", f"0.5 is no size; {_MEMORY}"),
    ("memory", "4 GHz", f"4 GHz is no size, since GHz is no unit of it; {_MEMORY}"),
    ("latency", "5", "5: add the unit: --it 5ms"),
    ("latency", "5 MS", f"5 MS is no latency, since MS is no unit of it; {_LATENCY}"),  # mega is not milli
    ("latency", "5m", f"5m is no latency, since m is no unit of it; {_LATENCY}"),  # minutes, or a lost s
    ("latency", "5MB", f"5MB is no latency, since MB is no unit of it; {_LATENCY}"),
    ("latency", "1,5ms", "1,5ms has a comma, and a number takes a point: --it 1.5ms"),
    ("latency", "5.1.2ms", f"5.1.2ms is no latency; {_LATENCY}"),
    ("latency", "0ms", f"0ms is no latency above zero; {_LATENCY}"),
    ("latency", "1e-999ms", f"1e-999ms is no latency above zero; {_LATENCY}"),
    ("latency", "1e999ms", f"1e999ms is no latency above zero; {_LATENCY}"),
    *(
        ("latency", text, f"{text} is no latency; {_LATENCY}")
        # Arabic-Indic and full-width digits, a minus sign that is no hyphen, and a fraction
        for text in ("nanms", "infms", "ms", "", "\u0665ms", "\uff15ms", "\u22125ms", "\u00bdms")
    ),
    ("accuracy", "84", "84: add the unit: --it 84%"),
    ("accuracy", "101%", "101% is above 100%; give a percentage like 84%, or a fraction like 0.84"),
    ("rate", "500", "500: add the unit: --it 500/s"),
    ("rate", "500/min", "500/min is no rate, since /min is no unit of it; give 500/s"),
    ("energy", "5", "5: add the unit: --it 5mJ"),
    ("energy", "5MJ", f"5MJ is no energy, since MJ is no unit of it; {_ENERGY}"),
    ("energy", "5mW", f"5mW is no energy, since mW is no unit of it; {_ENERGY}"),
]


@pytest.mark.parametrize(("kind", "text", "words"), REFUSED)
def test_what_is_no_such_number_is_refused_with_what_to_type(kind: str, text: str, words: str) -> None:
    parse: Any = getattr(units, kind)
    with pytest.raises(ValueError) as raised:
        parse(text, "--it")
    assert str(raised.value).startswith(words)

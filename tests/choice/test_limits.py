"""A limit says itself as a user would type it."""

import pytest

from cifar_deploy.choice.limits import KINDS, Limit, limits_of
from cifar_deploy.core.errors import UsageError


@pytest.mark.parametrize("typed", ["4MB", "60MB", "58.5MiB", "1MiB", "2000MB"])
def test_a_size_is_said_in_the_unit_that_makes_it_short(typed: str) -> None:
    number = KINDS["--max-size"].read(typed, "--max-size")
    assert Limit(option="--max-size", number=number).text() == f"--max-size {typed}"


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("number", [0.0123456, 0.25, 0.8734, 1.0])
def test_a_limit_is_read_again_as_it_is_said(option: str, number: float) -> None:
    kind = KINDS[option]
    limit = Limit(
        option=option, number=number if option == "--min-accuracy" else number * kind.scale(kind.units[0]) * 100
    )
    assert kind.read(limit.text().removeprefix(f"{option} "), option) == pytest.approx(limit.number, rel=1e-5)


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("number", [0.8734, 0.0123456, 0.999999])
def test_a_relaxed_limit_allows_the_number_that_it_was_relaxed_to(option: str, number: float) -> None:
    kind = KINDS[option]
    number = number if option == "--min-accuracy" else number * kind.scale(kind.units[0]) * 100
    typed = Limit(option=option, number=number).text(number).removeprefix(f"{option} ")
    assert Limit(option=option, number=kind.read(typed, option)).allows(number)


def test_a_percentile_needs_a_latency() -> None:
    with pytest.raises(UsageError, match="--percentile"):
        limits_of({"--max-latency": None, "--max-size": 5.0}, 95)
    (latency,) = limits_of({"--max-latency": 0.005, "--max-size": None}, 95)
    assert latency.value == "p95"

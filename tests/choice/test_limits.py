"""A limit needs a number and a unit, and says itself as a user would type it."""

import pytest

from cifar_deploy.choice.limits import KINDS, Limit, limits_of, parsed
from cifar_deploy.core.errors import UsageError


@pytest.mark.parametrize(
    ("option", "text", "number"),
    [
        ("--max-latency", "5ms", 0.005),
        ("--max-latency", "5 ms", 0.005),
        ("--max-latency", "250us", 0.00025),
        ("--max-latency", "0.5s", 0.5),
        ("--max-memory", "60MB", 60e6),
        ("--max-memory", "60MiB", 60 * 2**20),
        ("--max-size", "1.5kb", 1500),
        ("--min-accuracy", "84%", 0.84),
        ("--min-accuracy", "100%", 1.0),
        ("--min-throughput", "500/s", 500),
        ("--min-throughput", "1e3images/s", 1000),
        ("--max-energy", "5mJ", 0.005),
    ],
)
def test_a_number_with_its_unit_is_read(option: str, text: str, number: float) -> None:
    assert parsed(option, text) == pytest.approx(number)


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("text", ["5", "", "ms", "5 parsecs", "nan", "-5", "5,0", "1..2"])
def test_anything_else_is_refused_with_an_example(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^{option}: .*{KINDS[option].example}"):
        parsed(option, text)


@pytest.mark.parametrize("text", ["0ms", "-5ms", "nanms", "infms", "1e400ms", "1,5ms"])
def test_a_latency_is_a_positive_number(text: str) -> None:
    with pytest.raises(UsageError, match="as in --max-latency 5ms"):
        parsed("--max-latency", text)


def test_an_accuracy_is_at_most_all() -> None:
    with pytest.raises(UsageError, match="101% is out of range"):
        parsed("--min-accuracy", "101%")


@pytest.mark.parametrize("option", KINDS)
def test_every_example_is_read_and_said_again(option: str) -> None:
    kind = KINDS[option]
    limit = Limit(option=option, number=parsed(option, kind.example))
    assert parsed(option, limit.text().removeprefix(f"{option} ")) == pytest.approx(limit.number, rel=1e-5)


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("number", [0.8734, 0.0123456, 0.999999])
def test_a_relaxed_limit_allows_the_number_that_it_was_relaxed_to(option: str, number: float) -> None:
    scale = KINDS[option].units[KINDS[option].unit.lower()]
    number = number if option == "--min-accuracy" else number * scale * 100
    limit = Limit(option=option, number=number)
    typed = limit.text(number).removeprefix(f"{option} ")
    assert Limit(option=option, number=parsed(option, typed)).allows(number)


def test_a_percentile_needs_a_latency() -> None:
    with pytest.raises(UsageError, match="--percentile"):
        limits_of({"--max-latency": None, "--max-size": 5.0}, 95)
    (latency,) = limits_of({"--max-latency": 0.005, "--max-size": None}, 95)
    assert latency.value == "p95"

"""A round waits for a cool processor, for so long and no longer."""

from collections.abc import Iterator

import pytest

from cifar_deploy.core.cooling import cool_down
from cifar_deploy.core.records import Cooling


class Zone:
    """A thermal zone that shows these temperatures in turn, the last one for good. It counts what was slept."""

    def __init__(self, *shown: float | None) -> None:
        self._shown: Iterator[float | None] = iter(shown)
        self._last = shown[-1]
        self.slept_s = 0.0

    def read(self) -> float | None:
        return next(self._shown, self._last)

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


@pytest.mark.parametrize(
    ("shown", "first_c", "asked_c", "cooling"),
    [
        # The session begins now, whatever the heat.
        ([70.0], None, None, Cooling(before_c=70, after_c=70, seconds=0, reached=True)),
        # Cool enough: within the margin of the start.
        ([44.9], 40.0, None, Cooling(before_c=44.9, after_c=44.9, seconds=0, reached=True)),
        ([60.0, 50.0, 44.0], 40.0, None, Cooling(before_c=60, after_c=44, seconds=1.0, reached=True)),
        # It never gets there.
        ([71.0], 40.0, None, Cooling(before_c=71, after_c=71, seconds=3.0, reached=False)),
        # What was asked for counts, from the first round on, and against the start as well.
        ([60.0, 49.0], None, 50.0, Cooling(before_c=60, after_c=49, seconds=0.5, reached=True)),
        ([60.0], 70.0, 50.0, Cooling(before_c=60, after_c=60, seconds=3.0, reached=False)),
        ([60.0], 40.0, 65.0, Cooling(before_c=60, after_c=60, seconds=0, reached=True)),
        # A zone that is switched off meanwhile.
        ([60.0, None], 40.0, None, Cooling(before_c=60, after_c=60, seconds=0.5, reached=False)),
        # No temperature, no wait.
        ([None], 40.0, 30.0, None),
    ],
)
def test_a_round_begins_when_the_processor_is_cool_or_the_time_is_over(
    shown: list[float | None], first_c: float | None, asked_c: float | None, cooling: Cooling | None
) -> None:
    zone, heard = Zone(*shown), []
    found = cool_down(first_c, asked_c, 3.0, lambda *told: heard.append(told), zone.read, zone.sleep)
    assert found == cooling
    assert zone.slept_s == (cooling.seconds if cooling else 0)
    assert bool(heard) is bool(zone.slept_s), "who waits is told"

"""Before a round the processor cools down, so that a round does not pay for the heat of the one before.

A round waits until the hottest zone is at most `MARGIN_K` warmer than when the session began, or as cool as was asked for. It
waits for a limited time, and what came of it is recorded. Where no temperature can be read it does not wait.
"""

import time
from collections.abc import Callable

from cifar_deploy.core import gauges
from cifar_deploy.core.records import Cooling

MARGIN_K = 5.0

_POLL_S = 0.5


def cool_down(
    first_c: float | None,
    asked_c: float | None,
    longest_s: float,
    on_wait: Callable[[float, float], None] = lambda now_c, ceiling_c: None,
    read: Callable[[], float | None] = gauges.temperature_c,
    sleep: Callable[[float], None] = time.sleep,
) -> Cooling | None:
    """Wait until the processor is cool; None if its temperature cannot be read.

    `asked_c` is the ceiling that was asked for. Else `first_c` sets it: the temperature when the session began, None if it
    begins now. `on_wait` hears the temperature and the ceiling.
    """
    before = now = read()
    if before is None or now is None:
        return None
    ceiling_c = asked_c if asked_c is not None else (before if first_c is None else first_c) + MARGIN_K
    waited_s = 0.0
    while now > ceiling_c and waited_s < longest_s:
        on_wait(now, ceiling_c)
        part_s = min(_POLL_S, longest_s - waited_s)
        sleep(part_s)
        waited_s += part_s
        if (told := read()) is None:  # a zone that was switched off meanwhile
            break
        now = told
    return Cooling(before_c=before, after_c=now, seconds=waited_s, reached=now <= ceiling_c)

"""The gauges read what happened."""

import os
import subprocess
import sys
import time

import pytest

from cifar_deploy.core.disturbance import Watch


def test_a_watch_reads_every_gauge_that_linux_has() -> None:
    with Watch() as watch:
        time.sleep(0.05)
    found = watch.disturbance
    assert 0.05 <= found.seconds < 5
    assert 0 < found.calibration_before < 1 and 0 < found.calibration_after < 1
    assert abs(found.clock_jump) < 1
    if sys.platform == "linux":
        assert found.run_delay is not None and found.involuntary_switches is not None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the processor cannot be chosen here")
def test_a_neighbour_on_the_same_processor_shows_as_run_delay() -> None:
    allowed = os.sched_getaffinity(0)
    one = min(allowed)
    hog = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{one}}})\nwhile True: pass"])
    try:
        time.sleep(0.3)
        os.sched_setaffinity(0, {one})
        with Watch() as watch:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass
    finally:
        os.sched_setaffinity(0, allowed)
        hog.kill()
        hog.wait()
    assert watch.disturbance.run_delay is not None
    assert watch.disturbance.run_delay > 0.2

"""A process's memory, with /proc and without."""

from pathlib import Path

import pytest

from cifar_deploy.core import memory
from cifar_deploy.core.isolate import Worker
from tests import probes
from tests.conftest import need_package


def test_what_is_resident_grows_by_what_is_taken() -> None:
    before = memory.resident_bytes()
    held = b"x" * (64 * 2**20)
    after = memory.resident_bytes()
    assert before and after and len(held) - 4 * 2**20 < after - before < len(held) + 16 * 2**20


def test_a_peak_can_start_again() -> None:
    grown, restarted = Worker().call(probes.peak_after_a_moment)
    assert grown > 200 * 2**20 > restarted


def test_without_proc_psutil_says_what_is_resident_and_there_is_no_peak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need_package("psutil")
    right = memory.resident_bytes()
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    found = memory.resident_bytes()
    assert right and found and abs(found - right) < 16 * 2**20
    assert memory.peak_bytes() is None

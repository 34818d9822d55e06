"""A worker keeps to the processors that were asked for, and only those that it may use are asked for."""

import os
from pathlib import Path

import pytest

from cifar_deploy.core import affinity
from cifar_deploy.core.errors import Unavailable, UsageError
from cifar_deploy.core.isolate import Worker
from tests import probes
from tests.core.boards import JETSON, LAPTOP, RK3588, TOWER, written
from tests.in_process import run_here

HERE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@pytest.mark.parametrize(
    ("listed", "numbers"),
    [("0", (0,)), ("4-7,2", (2, 4, 5, 6, 7)), (" 1 , 1-2", (1, 2)), ("0-0", (0,)), ("10-11,9", (9, 10, 11))],
)
def test_a_list_is_read_as_the_kernel_writes_it(listed: str, numbers: tuple[int, ...]) -> None:
    assert affinity.parsed(listed) == numbers
    assert affinity.parsed(affinity.listed(numbers)) == numbers


def test_the_shortest_list_is_written() -> None:
    assert affinity.listed([7, 2, 5, 4, 6, 2]) == "2,4-7"


@pytest.mark.parametrize(
    "asked", ["", "-1", "1-", "2-1", "1-2-3", "one", "0x1", "1;2", "٣", "9999999", "0-99999999", "Big"]
)
def test_what_is_no_list_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match=r"--cpus: '.*' is no list of processors; give big, little, or numbers"):
        affinity.chosen(asked)


@pytest.mark.parametrize(
    ("board", "big", "little"),
    [
        # Two kinds by name, of which one has two frequencies.
        (RK3588, "4-7", "0-3"),
        (LAPTOP, "0-1", "2-3"),
        # By the kernel's own measure, where that is there: a small core may have the higher frequency.
        (
            {**LAPTOP, **{f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "512" if n < 2 else "1024" for n in range(4)}},
            "2-3",
            "0-1",
        ),
    ],
)
def test_big_and_little_cores_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: dict[str, str], big: str, little: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    root = written(tmp_path, board)
    assert affinity.chosen("big", root=root) == big
    assert affinity.chosen("little", root=root) == little


def test_of_big_cores_those_are_taken_that_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = written(tmp_path, RK3588)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5})
    assert affinity.chosen("big", root=root) == "5"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    with pytest.raises(UsageError, match=r"--cpus: 4-7 is not among the processors that this process may use \(0-1\)"):
        affinity.chosen("big", root=root)


@pytest.mark.parametrize("board", [JETSON, TOWER, {}])
def test_big_needs_two_kinds(tmp_path: Path, board: dict[str, str]) -> None:
    for word in ("big", "little"):
        with pytest.raises(UsageError, match=f"--cpus: {word} needs cores of two kinds"):
            affinity.chosen(word, root=written(tmp_path, board))


def test_kinds_without_a_speed_are_not_guessed(tmp_path: Path) -> None:
    without = {name: text for name, text in RK3588.items() if "cpufreq" not in name}
    with pytest.raises(UsageError, match="does not say which cores are faster; give their numbers"):
        affinity.chosen("big", root=written(tmp_path, without))


def test_a_system_that_pins_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(Unavailable, match="--cpus: this system cannot pin a process to processors; leave it out"):
        affinity.chosen("0")


@pytest.mark.skipif(not HERE, reason="this system pins nothing")
def test_a_worker_is_pinned_and_its_parent_is_not() -> None:
    last = HERE[-1]
    assert Worker(cpus=str(last)).call(probes.processors) == [last]
    assert Worker().call(probes.processors) == HERE
    assert sorted(os.sched_getaffinity(0)) == HERE


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cpus", "4096"], "--cpus: 4096 is not among the processors that this process may use"),
        (["--cpus", "fast"], "--cpus: 'fast' is no list of processors"),
        (
            ["--cpus", str(HERE[0] if HERE else 0), "--threads", "2"],
            "--threads: 2 is more than the 1 processor of --cpus",
        ),
    ],
)
def test_what_cannot_be_pinned_is_refused_before_any_work(tmp_path: Path, options: list[str], told: str) -> None:
    done = run_here("evaluate", *options, "--out", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and told in done.stderr

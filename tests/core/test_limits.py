"""A worker that takes more than it may is stopped, and called out of memory; one that does not, runs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_deploy.core import limits
from cifar_deploy.core.errors import UsageError, WorkerFailed
from cifar_deploy.core.isolate import Worker
from tests import probes
from tests.in_process import run_here

_MIB = 2**20


@pytest.fixture(params=["the strictest", "RLIMIT_DATA"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As this process may, and as it is where no cgroup may be made."""
    if request.param == "RLIMIT_DATA":

        def refuse(version: int, limit_bytes: int) -> None:
            raise PermissionError

        monkeypatch.setattr(limits, "_limited_group", refuse)
    limits._kept.cache_clear()
    yield str(request.param)
    limits._kept.cache_clear()


def test_a_worker_under_its_limit_runs_and_one_above_it_does_not(kind: str) -> None:
    with limits.memory(400 * _MIB) as enough:
        assert Worker(limit=enough).call(probes.hold, mebibytes=200) == 200 * _MIB
        counted = limits.counted_peak(enough)
        assert counted is None or 200 * _MIB < counted < 300 * _MIB
    with limits.memory(100 * _MIB) as too_little, pytest.raises(WorkerFailed) as caught:
        Worker(limit=too_little).call(probes.hold, mebibytes=200)
    assert caught.value.kind == "out of memory"
    if kind == "RLIMIT_DATA":
        assert (enough.kind, too_little.kind) == (kind, kind)
    assert not too_little.folder or not too_little.folder.exists()


def test_an_error_under_a_limit_passes_through_and_leaves_no_group() -> None:
    with pytest.raises(OSError, match="elsewhere"), limits.memory(100 * _MIB) as limit:
        raise OSError("elsewhere")
    assert not limit.folder or not limit.folder.exists()


def test_a_worker_has_a_limit_even_if_nobody_asked_for_one(kind: str) -> None:
    with limits.at_most(100 * _MIB), pytest.raises(WorkerFailed) as caught:
        Worker().call(probes.hold, mebibytes=200)
    assert caught.value.kind == "out of memory"
    assert re.search(
        r"under a limit of 100 MiB \(.+; --memory-limit or CIFAR_DEPLOY_MEMORY_LIMIT sets it\)", str(caught.value)
    )
    assert Worker().call(probes.hold, mebibytes=200) == 200 * _MIB


def test_an_error_that_is_not_of_memory_says_nothing_of_the_limit() -> None:
    with pytest.raises(WorkerFailed) as caught:
        Worker().call(probes.raise_value_error, message="odd")
    assert "limit" not in str(caught.value)


@pytest.mark.parametrize("value", ["4 apples", "-1", "0"])
def test_a_limit_that_is_no_size_is_a_usage_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, value)
    with pytest.raises(UsageError, match=f"CIFAR_DEPLOY_MEMORY_LIMIT: {value} is no size"):
        limits.usual()


@pytest.mark.parametrize(
    ("own", "limited", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": str(3 * 2**30)}, 3 * 2**30),
        ("0::/a/b\n", {"a/b/memory.max": "max"}, 8 * 2**30),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": str(2**30)}, 2**30),
        ("4:cpu,memory:/elsewhere\n", {"memory/memory.limit_in_bytes": str(5 * 2**30)}, 5 * 2**30),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 8 * 2**30),
    ],
)
def test_what_is_available_is_what_the_machine_and_the_cgroups_above_leave(
    own: str, limited: dict[str, str], expected: int, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:  {8 * 2**20} kB\n")
    for name, value in limited.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    assert limits.available_bytes(tmp_path, tmp_path / "own", tmp_path / "meminfo") == expected
    assert limits.available_bytes(tmp_path, tmp_path / "own", tmp_path / "absent") is None


def test_the_group_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    gone, mine = (tmp_path / f"cifar-deploy-{pid}-0123abcd" for pid in (2**22 + 1, os.getpid()))
    for folder in (gone, mine, tmp_path / "another"):
        folder.mkdir()
    limits._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", mine.name]


def test_on_a_small_machine_what_is_mapped_is_not_bounded_by_what_is_free(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing PyTorch maps more than it has resident."""
    monkeypatch.setattr(limits, "available_bytes", lambda: 100 * _MIB)
    limit = limits._unasked.__wrapped__()
    assert limit and limit.bytes == (4 * 2**30 if limit.kind == "RLIMIT_DATA" else 90 * _MIB)
    with limits.at_most(50 * _MIB):
        limit = limits.usual()
    assert limit and limit.bytes == 50 * _MIB


def test_the_workers_of_a_process_share_a_limit_which_is_gone_at_its_end() -> None:
    code = "from cifar_deploy.core import limits; assert limits.usual() is limits.usual(); print(limits.usual().folder)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n" or not Path(done.stdout.strip()).exists()


def test_the_option_limits_the_workers_of_its_command_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path))
    done = run_here("data", "--dataset", "digits", "--memory-limit", "40M")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "under a limit of 40 MiB" in done.stderr or "exit code" in done.stderr  # too little for Python itself
    assert limits.VARIABLE not in os.environ
    done = run_here("data", "--dataset", "digits", "--memory-limit", "a lot")
    assert done.returncode == 2 and "--memory-limit" in done.stderr


def test_a_limit_is_never_above_the_one_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(version: int, limit_bytes: int) -> Path:
        raise OSError

    monkeypatch.setattr(limits, "_limited_group", none)
    monkeypatch.setattr(limits.resource, "getrlimit", lambda which: (2**30, 2**31))
    with limits.memory(2**33) as limit:
        assert limit.bytes == 2**31 and str(2**21) in limit.command

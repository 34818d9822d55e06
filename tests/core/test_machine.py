"""How many threads this process may use, and what the machine says of itself."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from cifar_deploy.core import machine, variables
from cifar_deploy.core.errors import UsageError

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process might run on 8, wherever the tests run."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def threads(tmp_path: Path, own: str, quotas: dict[str, str]) -> int:
    (tmp_path / "own").write_text(own)
    for name, text in quotas.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return machine.allowed_threads(tmp_path / "cgroup", tmp_path / "own")


@pytest.mark.usefixtures("eight_processors")
@pytest.mark.parametrize(
    ("own", "quotas", "allowed"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "350000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        ("0::/a/b\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, 8),
        ("0::/\n", {"cpu.max": "damaged"}, 8),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("4:cpu:/absent\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("3:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("", {}, 8),
    ],
)
def test_the_quota_limits_the_threads(tmp_path: Path, own: str, quotas: dict[str, str], allowed: int) -> None:
    assert threads(tmp_path, own, quotas) == allowed


def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert machine.allowed_threads(tmp_path, tmp_path / "absent") == AFFINITY


def test_as_many_threads_as_allowed_are_accepted_and_one_more_is_not() -> None:
    allowed = machine.allowed_threads()
    assert machine.check_threads(allowed) == allowed
    with pytest.raises(UsageError, match=rf"^--threads: {allowed + 1} is more than the {allowed} "):
        machine.check_threads(allowed + 1)


def test_the_machine_is_described() -> None:
    described = machine.machine()
    assert described.cores == os.cpu_count()
    assert described.memory_bytes > 2**20
    assert described.processor and described.host


def test_only_installed_packages_have_a_version() -> None:
    versions = machine.versions(["numpy", "no-such-package"])
    assert set(versions) == {"cifar-deploy", "python", "numpy"}


def test_asking_for_the_commit_leaves_the_index_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refreshes the index locks it, and a command that is killed meanwhile would leave the lock."""
    source = tmp_path / "cifar_deploy" / "core" / "machine.py"
    source.parent.mkdir(parents=True)
    source.write_text("first")
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    os.utime(source, (1, 1))  # as it was, but for its time: the index is out of date
    before = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(machine, "__file__", str(source))
    found = machine.commit.__wrapped__()
    assert found and len(found) == 12
    assert (tmp_path / ".git" / "index").read_bytes() == before


def test_the_name_that_its_user_gives_it_tells_it_from_another_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    without = machine.machine()
    with machine.named("pi5-kitchen"):
        kitchen = machine.machine()
    monkeypatch.setenv(variables.MACHINE_NAME, "pi5-hall")
    hall = machine.machine()
    assert [each.name for each in (without, kitchen, hall)] == [None, "pi5-kitchen", "pi5-hall"]
    assert [each.title for each in (without, kitchen, hall)] == [without.host, "pi5-kitchen", "pi5-hall"]
    assert len({each.unit for each in (without, kitchen, hall)}) == 3
    assert "name" not in without.identity and kitchen.identity["name"] == "pi5-kitchen"
    assert str(kitchen).startswith("pi5-kitchen, ")


@pytest.mark.parametrize("name", ["../etc", "two words", "-v", "", "a" * 61, "b\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"--as: .* cannot name a machine; use at most 60 letters"):
        machine.named(name)


def test_a_new_kernel_makes_no_other_device_of_it() -> None:
    here = machine.machine()
    assert dataclasses.replace(here, system="Linux 99", python="3.99.0").unit == here.unit
    assert dataclasses.replace(here, emulated=True, architecture="aarch64").unit != here.unit

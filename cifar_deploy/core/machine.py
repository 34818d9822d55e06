"""The machine a number was measured on, the versions behind it, and how many threads this process may use."""

import contextlib
import dataclasses
import functools
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import cifar_deploy
from cifar_deploy.core import affinity, cgroups, hardware, packs, variables
from cifar_deploy.core.errors import Unsupported, UsageError, one_line
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Isa, Machine
from cifar_deploy.core.sysfs import ROOT

# Of x86, then of Arm: vectors, then what there is for 8 and 16 bits.
_INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)

# Levels of x86 instructions that a runtime may be held to, and what Linux calls what a processor needs for it. None of
# them has INT8 dot products (VNNI).
_NEEDS: dict[Isa, str | None] = {"sse41": None, "avx2": "avx2", "avx512": "avx512f"}


# Of a machine, as its user names it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def check_isa(isa: Isa) -> None:
    """Raises Unsupported if this processor lacks these instructions itself."""
    here, needs = machine(), _NEEDS[isa]
    if here.architecture not in ("x86_64", "AMD64"):
        raise Unsupported(f"--max-isa: {isa} is a level of x86 instructions, and this processor is {here.architecture}")
    if needs and here.instructions and needs not in here.instructions:
        raise Unsupported(f"--max-isa: this processor has no {isa} itself")


def machine() -> Machine:
    """This one, by the name that its user gave it."""
    name = os.environ.get(variables.MACHINE_NAME)
    return _this(check_name(name, variables.MACHINE_NAME) if name else None)


@functools.cache
def _this(name: str | None) -> Machine:
    return dataclasses.replace(described(), name=name)


def check_name(name: str, given_by: str) -> str:
    """`name`, if it can name a machine in tables and files; else UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{given_by}: {one_line(name, 80)!r} cannot name a machine; use at most 60 letters, digits, '.', '_' and '-'"
        )
    return name


def named(name: str) -> contextlib.AbstractContextManager[None]:
    """In the block, and in what is started there, this machine has the name."""
    return variables.set_to(variables.MACHINE_NAME, check_name(name, "--as"))


def described(root: Path = ROOT) -> Machine:
    """The machine, of which the system tells below `root`."""
    clusters, architecture = hardware.clusters(root), platform.machine()
    return Machine(
        host=platform.node(),
        processor=hardware.processor(clusters, root),
        cores=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()}",
        architecture=architecture,
        python=platform.python_version(),
        instructions=_instructions(root),
        id=hardware.identity(root),
        board=hardware.board(root),
        clusters=clusters,
        libc=hardware.libc(),
        bits=hardware.bits(),
        container=hardware.container(root),
        virtual=hardware.is_virtual(root),
        emulated=hardware.is_emulated(architecture, root),
    )


def _instructions(root: Path) -> tuple[str, ...]:
    """Those that each processor has: a thread may run on any. x86 says "flags", Arm "Features"."""
    told = [fields.get("flags") or fields.get("Features") for fields in hardware.cpuinfo(root)]
    shared = set.intersection(*(set(flags.split()) for flags in told if flags)) if any(told) else set()
    return tuple(name for name in _INSTRUCTIONS if name in shared)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def versions(packages: Iterable[str], path: Sequence[str] | None = None) -> dict[str, str]:
    """The installed version of each package that is installed, read from its metadata: nothing is imported.

    `path` is where an interpreter finds its packages; that of this one unless told.
    """
    found = {"cifar-deploy": cifar_deploy.__version__, "python": platform.python_version()}
    for package in packages:
        for distribution in metadata.distributions(name=package, path=list(sys.path if path is None else path)):
            found[package] = distribution.version
            break  # the first one is what is imported
    return found


@functools.cache
def commit() -> str | None:
    """The commit of this program's own source, "+" behind it if the source has changed since; None if installed."""
    if pack := packs.here():
        return pack.manifest.commit
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    try:
        # A status that is killed would leave its lock on the index: it shall take none.
        git = ["git", "--no-optional-locks", "-C", str(source)]
        asked = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "cifar_deploy"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode or changed.returncode:
        return None
    return asked.stdout.strip() + ("+" if changed.stdout.strip() else "")


def allowed_threads(mounted: Path = cgroups.MOUNTED, own: Path = cgroups.OWN) -> int:
    """Processors that this process may keep busy: its affinity, or its cgroup's quota if that is less."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        allowed = os.cpu_count() or 1
    quota = _cgroup_quota(mounted, own)
    return max(1, min(allowed, math.floor(quota))) if quota else allowed


def _cgroup_quota(mounted: Path, own: Path) -> float | None:
    """Processors' worth of time per period: the least of this cgroup's and its parents'."""
    quotas = [
        _quota_v2(place) if group.version == 2 else _quota_v1(place)
        for group in cgroups.own("cpu", mounted, own)
        for place in group.upwards()
    ]
    return min((quota for quota in quotas if quota), default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # absent at the root; "max" where there is no limit
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None


def check_threads(threads: int, option: str = "--threads", pinned: str | None = None) -> int:
    """`threads`, if this process may use as many; else UsageError. More threads than processors measure the queue.

    `pinned` is the list of processors that a worker is kept to.
    """
    allowed = allowed_threads()
    if pinned and threads > (of_pinned := len(affinity.parsed(pinned))):
        raise UsageError(
            f"{option}: {threads} is more than the {counted(of_pinned, 'processor')} of --cpus {pinned}; "
            f"give at most {of_pinned}"
        )
    if threads > allowed:
        raise UsageError(
            f"{option}: {threads} is more than the {allowed} this process may use "
            f"(affinity and cgroup quota); give at most {allowed}"
        )
    return threads


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""A limit on what a worker may take of memory, set from outside before it begins.

Every worker has one, since any may parse a file of somebody else's: a model of 100 bytes can ask for all the memory
there is. The usual limit is 90 % of the available memory. --memory-limit or CIFAR_DEPLOY_MEMORY_LIMIT replaces it.

Where this process may make a cgroup (version 2 or 1) below its own, the kernel counts what the worker alone has resident
and kills it when that is too much: pages of libraries that are in the system's cache already are charged to whoever
read them first, so a worker can run under somewhat less than its VmHWM. Elsewhere RLIMIT_DATA bounds what it may map for
itself, resident or not, which is more than it has resident: then a limit above the peak may be too little.
"""

import atexit
import contextlib
import functools
import os
import resource
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core import cgroups, units, variables
from cifar_deploy.core.errors import UsageError

_SHELL = "/bin/sh"  # POSIX has it there, whatever PATH says

VARIABLE = "CIFAR_DEPLOY_MEMORY_LIMIT"

# Of what is available: the rest is for the parent, and for the files that the kernel keeps in memory.
_SHARE = 0.9

# The least that RLIMIT_DATA is set to unasked: importing PyTorch maps 770 MiB, of which 510 are resident, and each of its
# threads maps a stack. A machine that has less memory must not refuse what would fit.
_LEAST_MAPPED = 4 * 2**30

# To verify a claimed peak: of the claim, and of what the kernel then counted. The first must be enough, the second not.
ABOVE = 1.05
BELOW = 0.9


@dataclass(frozen=True, kw_only=True)
class Limit:
    """`command` goes before a worker's own; `folder` is the cgroup that counts for it, if there is one."""

    kind: str  # for people
    bytes: int
    command: tuple[str, ...]
    folder: Path | None = None


def shown(bytes: int) -> str:
    return f"{bytes / 2**30:,.1f} GiB" if bytes >= 2**30 else f"{bytes / 2**20:,.0f} MiB"


def from_environment(variable: str, default: int) -> int:
    """What the variable says, in bytes. Raises UsageError if that is no size."""
    try:
        return units.memory(os.environ[variable]) if os.environ.get(variable) else default
    except ValueError as error:
        raise UsageError(f"{variable}: {error}") from error


def usual() -> "Limit | None":
    """The limit of a worker for which there is no reason for another. None where nobody can say what is available."""
    if asked := from_environment(VARIABLE, 0):
        return _kept(asked)
    return _unasked()


@functools.cache
def _unasked() -> "Limit | None":
    available = available_bytes()
    return _kept(int(_SHARE * available), _LEAST_MAPPED) if available else None


@functools.cache
def _kept(limit_bytes: int, least_mapped: int = 0) -> "Limit":
    """For all the workers of this process: the kernel keeps a group that is removed for as long as it caches its files."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(memory(limit_bytes, least_mapped))


def at_most(limit_bytes: int) -> contextlib.AbstractContextManager[None]:
    """In the block, the usual limit."""
    return variables.set_to(VARIABLE, str(limit_bytes))


def available_bytes(
    mounted: Path = cgroups.MOUNTED, own: Path = cgroups.OWN, machine: Path = Path("/proc/meminfo")
) -> int | None:
    """Memory that processes can still take without swapping, or this process's cgroup may if that is less.

    None without /proc (macOS).
    """
    try:
        facts = dict(line.split(":", 1) for line in machine.read_text().splitlines())
        found = [int(facts["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    for group in cgroups.own("memory", mounted, own):
        name, _ = _FILES[group.version]
        for place in group.upwards():
            with contextlib.suppress(OSError, ValueError):  # absent at the root; "max" where there is no limit
                found.append(int((place / name).read_text()))
    return min(found)


def counted_peak(limit: Limit) -> int | None:
    """The most bytes that the limit's cgroup was charged with so far; None where nothing counts it."""
    return cgroups.peak_bytes(limit.folder) if limit.folder else None


@contextlib.contextmanager
def memory(limit_bytes: int, least_mapped: int = 0) -> Iterator[Limit]:
    """The strictest limit that this process may set; where that bounds what is mapped, not below `least_mapped`."""
    for version in _FILES:
        try:
            folder = _limited_group(version, limit_bytes)
        except OSError:  # not mounted, not ours, or without a memory controller
            continue
        try:
            # The shell joins the group, then becomes the worker: nothing of it is outside.
            join = 'echo $$ > "$1" && shift && exec "$@"'
            command = (_SHELL, "-c", join, "sh", str(folder / "cgroup.procs"))
            yield Limit(kind=f"cgroup v{version}", bytes=limit_bytes, command=command, folder=folder)
        finally:
            _remove(folder)
        return
    limit_bytes = max(limit_bytes, least_mapped)
    join = 'ulimit -d "$1" && shift && exec "$@"'
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:  # set by a batch system, say: it can only be lowered
        limit_bytes = min(limit_bytes, hard)
    yield Limit(kind="RLIMIT_DATA", bytes=limit_bytes, command=(_SHELL, "-c", join, "sh", str(limit_bytes // 1024)))


# By the version of cgroups, the files that hold the limit, and what keeps the kernel from swapping instead.
_FILES = {2: ("memory.max", "memory.swap.max"), 1: ("memory.limit_in_bytes", "memory.swappiness")}


def _limited_group(version: int, limit_bytes: int) -> Path:
    limit, swap = _FILES[version]
    folder = _new_group(version)
    try:
        _write(folder / limit, limit_bytes)
        with contextlib.suppress(OSError):  # absent without swap
            _write(folder / swap, 0)
    except OSError:
        _remove(folder)
        raise
    return folder


def _new_group(version: int) -> Path:
    """A group below this process's own. Raises OSError if there is none, or it may not be made."""
    for group in cgroups.own("memory"):
        if group.version == version:
            _sweep(group.folder)
            folder = group.folder / f"cifar-deploy-{os.getpid()}-{secrets.token_hex(4)}"
            folder.mkdir()
            return folder
    raise FileNotFoundError(f"no cgroup of version {version}")


def _write(file: Path, value: int) -> None:
    """Into a file that the kernel has made: where it has not, the folder is no cgroup of this kind."""
    with open(file, "r+") as opened:
        opened.write(str(value))


def _sweep(own: Path) -> None:
    """Remove the groups that killed processes left; one that still has a worker in it stays."""
    for folder in own.glob("cifar-deploy-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()

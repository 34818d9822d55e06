"""A limit on what a worker may take of memory, set from outside before it begins.

Where this process may make a cgroup (version 2 or 1) below its own, the kernel counts what the worker alone has resident
and kills it when that is too much: pages of libraries that are in the system's cache already are charged to whoever
read them first, so a worker can run under somewhat less than its VmHWM. Elsewhere RLIMIT_DATA bounds what it may map for
itself, resident or not, which is more than it has resident: then a limit above the peak may be too little.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")

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


def counted_peak(limit: Limit) -> int | None:
    """The most bytes that the limit's cgroup was charged with so far; None where nothing counts it."""
    if limit.folder:
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                return int((limit.folder / name).read_text())
    return None


@contextlib.contextmanager
def memory(limit_bytes: int) -> Iterator[Limit]:
    """The strictest limit that this process may set."""
    for kind, make in (("cgroup v2", _version_2), ("cgroup v1", _version_1)):
        try:
            folder = make(limit_bytes)
        except OSError:  # not mounted, not ours, or without a memory controller
            continue
        try:
            # The shell joins the group, then becomes the worker: nothing of it is outside.
            join = 'echo $$ > "$1" && shift && exec "$@"'
            command = ("sh", "-c", join, "sh", str(folder / "cgroup.procs"))
            yield Limit(kind=kind, bytes=limit_bytes, command=command, folder=folder)
        finally:
            _remove(folder)
        return
    join = 'ulimit -d "$1" && shift && exec "$@"'
    yield Limit(kind="RLIMIT_DATA", bytes=limit_bytes, command=("sh", "-c", join, "sh", str(limit_bytes // 1024)))


def _version_2(limit_bytes: int) -> Path:
    folder = _new_group(_CGROUPS, "0")
    try:
        _write(folder / "memory.max", limit_bytes)
        with contextlib.suppress(OSError):  # absent without swap
            _write(folder / "memory.swap.max", 0)
    except OSError:
        _remove(folder)
        raise
    return folder


def _version_1(limit_bytes: int) -> Path:
    folder = _new_group(_CGROUPS / "memory", "memory")
    try:
        _write(folder / "memory.limit_in_bytes", limit_bytes)
        with contextlib.suppress(OSError):
            _write(folder / "memory.swappiness", 0)
    except OSError:
        _remove(folder)
        raise
    return folder


def _new_group(top: Path, wanted: str) -> Path:
    """A group below this process's own. Raises OSError if there is none, or it may not be made."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if wanted in (number, *controllers.split(",")):
            folder = top / path.lstrip("/") / f"cifar-deploy-{os.getpid()}-{secrets.token_hex(4)}"
            folder.mkdir()
            return folder
    raise FileNotFoundError(f"no cgroup {wanted}")


def _write(file: Path, value: int) -> None:
    """Into a file that the kernel has made: where it has not, the folder is no cgroup of this kind."""
    with open(file, "r+") as opened:
        opened.write(str(value))


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()

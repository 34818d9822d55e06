"""The cgroups of this process: what /proc/self/cgroup says, and where the kernel shows them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of this process, in one hierarchy."""

    version: Literal[1, 2]
    top: Path  # of the hierarchy
    folder: Path  # may be absent: a container shows the path that its host knows

    def upwards(self) -> Iterator[Path]:
        """This group and those above it: the limit of each holds."""
        for place in (self.folder, *self.folder.parents):
            yield place
            if place == self.top:
                break


def own(controller: Literal["cpu", "memory"], mounted: Path = MOUNTED, own: Path = OWN) -> list[Group]:
    """The groups that may limit `controller`: version 2's, and the controller's own of version 1. None without cgroups."""
    found = []
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
        for number, controllers, path in lines:
            if number == "0" and not controllers:
                found.append(Group(version=2, top=mounted, folder=mounted / path.lstrip("/")))
            elif controller in controllers.split(","):
                top = mounted / controller
                found.append(Group(version=1, top=top, folder=top / path.lstrip("/")))
    except (OSError, ValueError):
        return []
    return found


def oom_kills(folder: Path | None = None) -> int:
    """How often the kernel has killed a process of a group for memory; of this process's own unless told another."""
    folders = [folder] if folder else [group.folder for group in own("memory")]
    for place in folders:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                return int(dict(line.split() for line in (place / name).read_text().splitlines()).get("oom_kill", 0))
    return 0


def peak_bytes(folder: Path) -> int | None:
    """The most bytes that a group was charged with so far; None where nothing counts it."""
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int((folder / name).read_text())
    return None

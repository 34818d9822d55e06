"""Processors that a worker is pinned to, as the kernel numbers and lists them: 4-7,2.

Nothing here imports more than a worker needs, which pins itself before it loads anything.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from cifar_deploy.core.errors import Unavailable, UsageError
from cifar_deploy.core.sysfs import ROOT

BIG, LITTLE = "big", "little"

_DIGITS = 6  # fewer than these in a processor's number

# Below this ratio of the highest frequencies, cores of one name are of one kind: some are allowed a little more than others.
_UNLIKE = 1.1


def parsed(listed: str) -> tuple[int, ...]:
    """The processor numbers of a list, sorted. Raises ValueError for any other text."""
    found: set[int] = set()
    for part in listed.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) < _DIGITS for end in ends):
            raise ValueError(f"{listed!r} is no list of processors")
        if int(ends[0]) > int(ends[-1]):
            raise ValueError(f"{listed!r} is no list of processors")
        found.update(range(int(ends[0]), int(ends[-1]) + 1))
    return tuple(sorted(found))


def listed(numbers: Iterable[int]) -> str:
    """The shortest list of the numbers."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def check(asked: str, option: str = "--cpus") -> None:
    """Raises UsageError for what is neither big, little nor a list, on whatever machine."""
    try:
        if asked not in (BIG, LITTLE):
            parsed(asked)
    except ValueError as error:
        raise UsageError(f"{option}: {error}; give {BIG}, {LITTLE}, or numbers such as 4-7,2") from None


def chosen(asked: str, option: str = "--cpus", root: Path = ROOT) -> str:
    """This machine's processors for `big`, `little` or a list, as a list.

    Raises UsageError if it names processors that this process may not use, or a kind of core that is not told apart here;
    Unavailable where the system pins no process.
    """
    check(asked, option)
    if not hasattr(os, "sched_setaffinity"):
        raise Unavailable(f"{option}: this system cannot pin a process to processors; leave it out")
    allowed = os.sched_getaffinity(0)
    if asked in (BIG, LITTLE):
        # Of those cores, the ones that this process may use.
        numbers = _of_kind(asked, option, root)
        numbers = numbers & allowed or numbers
    else:
        numbers = set(parsed(asked))
    if outside := numbers - allowed:
        raise UsageError(
            f"{option}: {listed(outside)} is not among the processors that this process may use ({listed(allowed)}); "
            "give some of these"
        )
    return listed(numbers)


def pin(listed: str) -> None:
    """Keep this process, and all that it starts from now on, to these processors."""
    os.sched_setaffinity(0, parsed(listed))


def _of_kind(word: str, option: str, root: Path) -> set[int]:
    """The fastest or the slowest cores, by their kind's name; of one name, by their highest frequency."""
    from cifar_deploy.core import hardware

    kinds = hardware.kinds(root)
    names = {kind.cores.name for kind in kinds}
    speeds = [kind.capacity or kind.cores.max_hz or 0.0 for kind in kinds] or [0.0]
    if len(names) < 2 and max(speeds) <= _UNLIKE * min(speeds):
        raise UsageError(
            f"{option}: {word} needs cores of two kinds, and the system tells of one; give numbers such as 0-1"
        )
    if not min(speeds) or max(speeds) == min(speeds):
        raise UsageError(f"{option}: the system does not say which cores are faster; give their numbers, such as 4-7")
    picked = kinds[0] if word == BIG else kinds[-1]
    alike = [kind for kind in kinds if kind.cores.name == picked.cores.name] if len(names) > 1 else [picked]
    return {number for kind in alike for number in kind.numbers}

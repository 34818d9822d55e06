"""What earlier versions wrote, as this version would have: from JSON to JSON, before any type is asked.

A step leads from one version to the next. It is given all things of a file twice: first to learn from each, then to
turn each. So a thing may be turned by the fields of another one: the cells of a session, say, are keys of jobs, and change
with them. A thing is a line of results.jsonl or a whole record (checkpoint.json, artifact.json ...); its kind is the
name of its type in small letters ("run", "artifact", "begun").

Files may be somebody else's: a step may meet anything. What it raises over a thing leaves that thing out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.version_2 import From2

# Rises when a field changes its meaning or place, not when one with a default is added. It is that of every record.
VERSION = 3

# What a record has that does not say: only results.jsonl said, before version 3.
UNNUMBERED = 2


class Thing(NamedTuple):
    """A line or a record of some version, without its checksum."""

    version: int
    kind: str
    fields: dict[str, Any]


class Step(Protocol):
    """From one version to the next. Made anew for each file."""

    def learn(self, kind: str, fields: dict[str, Any]) -> None:
        """Look at a thing of the file; nothing is turned before all were looked at."""

    def turn(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """A thing as the next version has it. `fields` stays as it is."""


class _From1:
    """Version 2 measured in rounds: a line is a run, of a session if it is timed."""

    def learn(self, kind: str, fields: dict[str, Any]) -> None:
        """Nothing."""

    def turn(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"session": None, "round": 0, "control": False, **fields}


_STEPS: Mapping[int, type[Step]] = {1: _From1, 2: From2}

# What looking into JSON raises that is not what it should be.
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, Corrupt)


def checked(version: Any) -> int:
    """Raises Corrupt if it is no version."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Corrupt("is not a record (it says no version)")
    return version


def upgraded(things: Mapping[int, Thing]) -> tuple[dict[int, Thing], dict[int, str]]:
    """The things of a file as of this version or a newer one, by line; and why others cannot be turned."""
    found = {number: thing for number, thing in things.items() if thing.version >= VERSION}
    left_out: dict[int, str] = {}
    old: dict[int, Thing] = {}
    for version, make in _STEPS.items():
        old |= {number: thing for number, thing in things.items() if thing.version == version}
        step = make()
        for thing in old.values():
            try:
                step.learn(thing.kind, thing.fields)
            except _ODD:
                continue  # it will not be turned either, or not be read
        for number, thing in list(old.items()):
            try:
                old[number] = Thing(version + 1, thing.kind, step.turn(thing.kind, thing.fields))
            except _ODD as error:
                left_out[number] = f"is not a {thing.kind} of version {version} ({type(error).__name__}: {error})"
                del old[number]
    return {**found, **old}, left_out


def upgraded_record(kind: str, version: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that is alone in its file. Raises Corrupt."""
    found, left_out = upgraded({1: Thing(checked(version), kind, fields)})
    if left_out:
        raise Corrupt(left_out[1])
    return found[1].fields


def newer(version: Any) -> str | None:
    """What to say of a version that is newer than this one."""
    if isinstance(version, int) and version > VERSION:
        return f"was written by a newer cifar-deploy (version {version}, not {VERSION})"
    return None


# The unknown fields that a note names; it counts the others.
_TOLD = 3


def note(version: Any, unknown: Iterable[str]) -> str | None:
    """What to say of a record that was read, though it is newer or has unknown fields; None if it is neither."""
    fields: Sequence[str] = tuple(dict.fromkeys(unknown))
    told = [newer(version)]
    if fields:
        more = f" and {len(fields) - _TOLD:,} more" if len(fields) > _TOLD else ""
        told.append(f"holds what this version does not know, which is set aside: {', '.join(fields[:_TOLD])}{more}")
    return "; ".join(filter(None, told)) or None

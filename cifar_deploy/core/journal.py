"""reports/results.jsonl: a line for each run, and one for each thing that runs have in common.

    {"integrity": "sha256", "version": 3, "kind": "machine", "key": "7b0c…", "host": …, "checksum": …}
    {"integrity": "sha256", "version": 3, "kind": "run", "job": {…, "machine": {"ref": "7b0c…"}}, …, "checksum": …}

An artifact, its checkpoint, a machine and a session are written before the first run that holds them, all in one
write, and referred to by their key: the first 16 hex digits of the sha256 of their fields. A reference is looked up in
the whole file, before its line and behind it. The same thing may be there twice, so two files can be joined (cat A B).
A thing whose line is damaged is written again with the next run that holds it, which mends the earlier runs too.
A thing holds none of its own kind, so references cannot form a circle. A record written in full is read as well.
"""

import contextlib
import json
import marshal
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from cifar_deploy.core import files, sealing, untrusted, upgrades
from cifar_deploy.core.codec import fields_to_json, from_json
from cifar_deploy.core.errors import Corrupt, by_reason
from cifar_deploy.core.records import Artifact, Checkpoint, Machine, Result, Run, Session
from cifar_deploy.core.upgrades import Thing

Fault: TypeAlias = Callable[[Run], str | None]  # why a run is not to be used, or None

# Written once, under their names in small letters. No field of theirs is called as one of a line's own.
POOLED: Mapping[str, type] = {kind.__name__.lower(): kind for kind in (Machine, Checkpoint, Artifact, Session)}
_RUN = "run"

# A folder may be somebody else's: far more than the results that a day's rounds leave.
_LARGEST_BYTES = 2**30

_KEY_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What a results.jsonl holds: its runs, oldest first, and why other lines are left out, or only read in part."""

    runs: Sequence[Run] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)  # by the line's number, counted from 1
    notes: Mapping[int, str] = field(default_factory=dict)  # likewise, of lines that are read

    def told(self) -> list[str]:
        """What is left out or read in part, a text for each reason."""
        return [*_told(self.left_out, " left out: "), *_told(self.notes, ": ")]

    def warn(self, path: Path) -> None:
        for told in self.told():
            warnings.warn(f"{path}: {told}")


def _told(reasons: Mapping[int, str], what: str) -> list[str]:
    return [f"line{'s' if count > 1 else ''} {those}{what}{reason}" for reason, those, count in by_reason(reasons)]


def read_lines(path: Path, fault: Fault | None = None) -> Lines:
    """Of a results.jsonl, as far as it can be read. `fault` may find more to leave out."""
    return Journal(path).lines(fault)


class Journal:
    """A results.jsonl. It is read when it is first asked for, and again only if somebody else has changed it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = _Content()
        self._state: _State | None = None  # of the file, when it was read or written last

    def lines(self, fault: Fault | None = None) -> Lines:
        """As `read_lines`. A file that is not there has none."""
        self._read()
        return self._content.lines(fault)

    def append(self, *runs: Run) -> None:
        """Add runs, and what they hold that the file does not, and sync. A line torn by an earlier crash is cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with files.errors_named(self._path), files.open_to_append(self._path) as file:
            _mend_end(file)
            self._read()
            added, lines = self._content.lines_for(runs)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
            self._content.add(lines)
            # What was written again may be what other lines lacked.
            heals = added and self._content.left_out
            self._state = None if heals else _state(os.fstat(file.fileno()))

    def _read(self) -> None:
        state = _state(self._path.stat()) if self._path.exists() else None
        if state is None or state != self._state:
            self._content = _Content()
            if state is not None:
                self._content.add(untrusted.read_bytes(self._path, _LARGEST_BYTES))
            self._state = state


_State: TypeAlias = tuple[int, int, int, int]


def _state(status: os.stat_result) -> _State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Content:
    """The lines of a file so far."""

    def __init__(self) -> None:
        self.left_out: dict[int, str] = {}
        self._runs: dict[int, Run] = {}
        self._notes: dict[int, str] = {}
        self._things = _Things()
        self._count = 0

    def add(self, content: bytes) -> None:
        """Read more lines. References of theirs may lead to lines that were added before."""
        found: dict[int, Thing] = {}
        keys: dict[int, str] = {}
        for number, line in enumerate(content.split(b"\n"), start=self._count + 1):
            if line.strip():
                try:
                    found[number], keys[number] = _parsed(line)
                except Corrupt as error:
                    self.left_out[number] = str(error)
        self._count += content.count(b"\n")
        found, not_turned = upgrades.upgraded(found)
        self.left_out |= not_turned
        pooled = {number: thing for number, thing in sorted(found.items()) if thing.kind in POOLED}
        for number, thing in pooled.items():
            self._things.offer(keys[number], thing)
        for number, thing in pooled.items():
            with self._reading(number, thing) as unknown:
                unknown += self._things.read(thing.kind, keys[number]).unknown
        for number, thing in sorted(found.items()):
            if thing.kind not in POOLED:
                with self._reading(number, thing) as unknown:
                    self._runs[number] = self._run(thing, unknown)

    @contextlib.contextmanager
    def _reading(self, number: int, thing: Thing) -> Iterator[list[str]]:
        """Remember what a line is left out for, or what is unknown in it."""
        unknown: list[str] = []
        try:
            yield unknown
        except Corrupt as error:
            newer = upgrades.newer(thing.version)
            self.left_out[number] = f"{newer}: {error}" if newer else str(error)
        else:
            if note := upgrades.note(thing.version, unknown):
                self._notes[number] = note

    def _run(self, thing: Thing, unknown: list[str]) -> Run:
        if thing.kind != _RUN:
            raise Corrupt(f"is of an unknown kind ({thing.kind[:80]!r})")
        return from_json(Run, thing.fields, unknown=unknown, pool=self._things)

    def lines(self, fault: Fault | None) -> Lines:
        runs, left_out = [], dict(self.left_out)
        for number, run in self._runs.items():
            if reason := fault and fault(run):
                left_out[number] = reason
            else:
                runs.append(run)
        notes = {number: self._notes[number] for number in sorted(self._notes.keys() - left_out.keys())}
        return Lines(runs=runs, left_out=dict(sorted(left_out.items())), notes=notes)

    def lines_for(self, runs: Iterable[Run]) -> tuple[bool, bytes]:
        """What to append for runs, and whether that is more than their own lines."""
        things: dict[str, bytes] = {}

        def refer(record: Any) -> Any:
            kind = type(record).__name__.lower()
            if POOLED.get(kind) is not type(record):
                return None
            fields = fields_to_json(record, refer)
            key = _key(fields)
            if not self._things.has(kind, key) and key not in things:
                things[key] = _line({"kind": kind, "key": key, **fields})
            return {"ref": key}

        own = [_line({"kind": _RUN, **fields_to_json(run, refer)}) for run in runs]
        return bool(things), b"".join((*things.values(), *own))


class _Read(NamedTuple):
    thing: Any
    unknown: list[str]


class _Things:
    """What runs refer to, each read once and shared by all that refer to it. (A codec.Pool.)"""

    kinds = frozenset(POOLED.values())

    def __init__(self) -> None:
        self._offered: dict[tuple[str, str], Thing] = {}
        self._read: dict[tuple[str, str], _Read] = {}
        self._unreadable: dict[tuple[str, str], str] = {}
        self._whole: dict[tuple[type, bytes], Any] = {}

    def has(self, kind: str, key: str) -> bool:
        return (kind, key) in self._read

    def offer(self, key: str, thing: Thing) -> None:
        """Keep the line of a thing, to be read when it is first needed."""
        self._offered.setdefault((thing.kind, key), thing)

    def read(self, kind: str, key: str) -> _Read:
        """Raises Corrupt if what was offered is none of its kind."""
        place = kind, key
        if place in self._unreadable:
            raise Corrupt(self._unreadable[place])
        if place not in self._read:
            unknown: list[str] = []
            try:
                thing: Any = from_json(POOLED[kind], self._offered[place].fields, unknown=unknown, pool=self)
            except Corrupt as error:
                self._unreadable[place] = str(error)
                raise
            self._read[place] = _Read(thing, unknown)
        return self._read[place]

    def record(self, kind: type, value: Any, read: Callable[[Any], Any]) -> Any:
        """See codec.Pool."""
        if not isinstance(value, dict) or value.keys() != {"ref"}:
            return self._shared(kind, value, read)
        name, key = kind.__name__.lower(), str(value["ref"])
        if (name, key) in self._offered:
            with contextlib.suppress(Corrupt):  # its own line says what is wrong with it
                return self.read(name, key).thing
        raise Corrupt(f"is {name} {key[:80]!r}, which is on no line that can be read")

    def _shared(self, kind: type, value: Any, read: Callable[[Any], Any]) -> Any:
        """As version 2 wrote it, on each line again: the same bytes of marshal are the same values, and of the same types."""
        content = kind, marshal.dumps(value, 2)  # version 2 says nothing of which values are the same object
        if content not in self._whole:
            self._whole[content] = read(value)
        return self._whole[content]


def _key(fields: Mapping[str, Any]) -> str:
    return sealing.digest(fields)[:_KEY_DIGITS]


def _line(fields: Mapping[str, Any]) -> bytes:
    record = sealing.sealed({"version": upgrades.VERSION, **fields})
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parsed(line: bytes) -> tuple[Thing, str]:
    """What a line holds, and its key, which is empty for what has none. Raises Corrupt."""
    sealed = sealing.parsed(line)
    if not isinstance(sealed, dict) or "version" not in sealed:
        raise Corrupt("is not a result")
    version = upgrades.checked(sealed["version"])
    fields = {**sealing.opened(sealed)}
    del fields["version"]
    if version < upgrades.VERSION and "kind" not in fields:
        return Thing(version, _RUN, fields), ""  # there was no other
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise Corrupt("is not a result (it says no kind)")
    if kind not in POOLED:
        return Thing(version, kind, fields), ""
    if (key := fields.pop("key", None)) != _key(fields):
        raise Corrupt(f"is damaged (its key {str(key)[:80]!r} is not that of the {kind} that it holds)")
    return Thing(version, kind, fields), str(key)


def _mend_end(file: BinaryIO) -> None:
    """Cut off a line that a crash has torn; one that only lacks its newline gets that."""
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read() == b"\n":
        return
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    try:
        sealing.opened(sealing.parsed(content[start:]))
    except Corrupt:
        file.truncate(start)
    else:
        file.write(b"\n")
        file.flush()


def grouped(runs: Iterable[Run]) -> list[Result]:
    """Runs of the same job, session and role as one result, by round. Of two in the same round the newer one counts."""
    found: dict[tuple[str, Session | None, bool], dict[int, Run]] = {}
    for run in runs:
        identity = (run.job.key, run.session, run.control)
        rounds = found.pop(identity, {})  # so that the order is that of the newest run
        found[identity] = {**rounds, run.round: run}
    return [
        Result(job=rounds[max(rounds)].job, runs=tuple(rounds[index] for index in sorted(rounds)))
        for rounds in found.values()
    ]

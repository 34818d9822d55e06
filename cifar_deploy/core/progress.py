"""How far a worker is, for the parent to show: a small file in the worker's folder, replaced as it goes on.

A worker that reports is alive: its time limit is one without progress.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

FILE = "progress.json"

# Often enough to look alive, rare enough to cost nothing beside a training step.
_INTERVAL_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units; `message` says what is going on, `milestone` is a line worth keeping on the screen."""

    done: int
    total: int
    message: str = ""
    milestones: tuple[str, ...] = ()


OnProgress: TypeAlias = Callable[[Progress], None]


def within(outer: Progress, on_progress: OnProgress | None) -> OnProgress | None:
    """Shows the progress of a worker as a part of `outer`, whose message it continues."""
    if not on_progress:
        return None

    def show(inner: Progress) -> None:
        what = inner.message or f"{min(inner.done, inner.total):,} of {inner.total:,}"
        on_progress(replace(outer, message=f"{outer.message}: {what}"))

    return show


class Reporter:
    """The worker's end. In a process that is no worker it does nothing."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._last = 0.0
        self._at = (0, 1)
        self._milestones: tuple[str, ...] = ()

    def __call__(self, done: int, total: int, message: str = "", milestone: str | None = None) -> None:
        if milestone:
            self._milestones += (milestone,)
        self._at = (done, total)
        due = milestone is not None or done >= total or time.monotonic() - self._last >= _INTERVAL_S
        if self.folder is None or not due:
            return
        self._last = time.monotonic()
        part = self.folder / (FILE + ".part")
        record = Progress(done=done, total=total, message=message, milestones=self._milestones)
        with contextlib.suppress(OSError):  # a full disk: what is shown is no reason to lose what is done
            part.write_text(json.dumps(asdict(record)))
            os.replace(part, self.folder / FILE)

    def alive(self, message: str) -> None:
        """Report that work goes on, as far along as at the last report."""
        done, total = self._at
        self(done, total, message)


report = Reporter()


def read(folder: Path) -> Progress | None:
    try:
        record = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return None
    return Progress(**{**record, "milestones": tuple(record["milestones"])})


def duration(seconds: float) -> str:
    """For people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def counted(count: int, noun: str) -> str:
    """1 round, 2 rounds."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

"""Everything that is expected to go wrong, and the exit code of each.

A message names the thing, the cause and the way out: "<file or option>: <what is wrong>; <what to do>".
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

# How a row of a report can end other than well.
FailureKind = Literal[
    "unsupported",  # the pair cannot run anywhere: this runtime has no such device
    "unavailable",  # it could run, but not here: a package or a device is missing
    "export error",
    "load error",
    "wrong output",
    "crashed",
    "timed out",
    "out of memory",
    "failed",  # any other exception, named in the reason
]

LONGEST_LINE = 300
_LONG_LIST = 200  # of names in a line


class DeployError(Exception):
    """The command was well formed but could not be completed."""

    exit_code = 1
    kind: FailureKind = "failed"


class UsageError(DeployError):
    """The command line is wrong; decided before any work."""

    exit_code = 2


class UnknownName(UsageError):
    """A network, format, backend ... that does not exist."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], or_else: str = "") -> "UnknownName":
        """With the nearest of the known names; without a near one, with all of them and what else there may be."""
        known = list(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        if near:
            hint = f"did you mean {near[0]!r}?"
        else:
            listed = ", ".join(known)
            hint = f"there are: {listed if len(listed) < _LONG_LIST else few(known)}{or_else}"
        return cls(f"{name}: no {kind} has this name; {hint}")


class Busy(DeployError):
    """Another process works in the same folder."""


class DataError(DeployError):
    """A data set that is missing, damaged or not what the program can train on."""


class Corrupt(DeployError):
    """A file is not the one its record describes."""

    kind: FailureKind = "load error"


class Untrusted(DeployError):
    """A file that is a program, and that this user did not export."""

    kind: FailureKind = "load error"


class Unwritable(DeployError):
    """A file could not be written: the disk is full, or takes no more for another reason."""


class Diverged(DeployError):
    """The loss is no longer a number."""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that is missing here: the reason, and the command that mends it if one can."""

    reason: str
    command: str | None

    def __str__(self) -> str:
        return f"{self.reason}; run `{self.command}`" if self.command else self.reason


class Unavailable(DeployError):
    """Something could be done elsewhere, but not here."""

    kind: FailureKind = "unavailable"


class Unsupported(DeployError):
    """Something that no machine could do."""

    kind: FailureKind = "unsupported"


class ExportError(DeployError):
    """A converter refused the network, or wrote something else than was asked for."""

    kind: FailureKind = "export error"


class LoadError(DeployError):
    """A runtime refused the file."""

    kind: FailureKind = "load error"


class WrongOutput(DeployError):
    """An artifact answers, but not as the network it was made from."""

    kind: FailureKind = "wrong output"


class WorkerFailed(DeployError):
    """A worker process gave no answer.

    `kind` says how it ended, `log` holds the end of what it printed, its traceback included.
    """

    def __init__(self, message: str, kind: FailureKind = "failed", log: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.log = log


class Terminated(BaseException):
    """SIGTERM. Like KeyboardInterrupt, not to be caught by `except Exception`."""


@contextlib.contextmanager
def raised_as(expected: Callable[[Exception], DeployError]) -> Iterator[None]:
    """An exception of foreign code in the block is raised as `expected(exception)`.

    A DeployError and a lack of memory are raised as they are.
    """
    try:
        yield
    except DeployError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise expected(error) from error


def loading(what: str, backend: str) -> contextlib.AbstractContextManager[None]:
    """An exception of a runtime in the block is raised as LoadError."""
    return raised_as(lambda error: LoadError(f"{what}: {backend} cannot load it ({type(error).__name__}: {error})"))


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch and the runtimes report it in words of their own."""
    words = ("out of memory", "allocate memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def printable(text: str) -> str:
    """`text` on one line, with every character escaped that a terminal, an editor or a page would not show as itself.

    These are control characters (escape sequences), format characters (text direction, zero width), line separators and
    the surrogates that stand for bytes that are no UTF-8. Names come from files and may hold anything.
    """
    if text.isprintable():  # nearly all of them
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """`text`, printable and of at most `longest` characters.

    A longer one loses its middle: the start names the file or option, and the end says what is wrong and what to do.
    """
    text = printable(re.sub(r"\s*\n\s*", " ", text.strip()))
    if len(text) <= longest:
        return text
    remedy = text.rfind("; ")
    cause = text.rfind(": ", 0, max(remedy, 0))
    ends = [len(text) - start for start in (cause, remedy) if start >= 0]
    kept = next((end for end in ends if end <= longest * 2 // 3), longest // 3)
    return f"{text[: longest - 1 - kept]}…{text[len(text) - kept :]}"


_TOLD = 3  # of many, so many are named
_LONGEST_NAME = 80


def few(names: Sequence[object]) -> str:
    """The first few names, printable and cut if they are long, and how many more there are."""
    shown = [printable(str(name)) for name in names[:_TOLD]]
    half = _LONGEST_NAME // 2
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}" for name in shown]
    return ", ".join(shown) + (f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else "")


def by_reason(reasons: Mapping[Any, str]) -> Iterator[tuple[str, str, int]]:
    """Each reason with those that it is given for: the first few of them in words, and how many they are."""
    found: dict[str, list[object]] = {}
    for one, reason in reasons.items():
        found.setdefault(reason, []).append(one)
    for reason, those in found.items():
        yield reason, few(those), len(those)


def by_name(name: str) -> type[DeployError] | None:
    """The failure of this class name, to raise in the parent what a worker raised."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, DeployError) and found is not WorkerFailed:
        return found
    return None

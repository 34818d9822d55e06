"""The process as its caller sees it: signals, standard streams, exit code.

It imports next to nothing, so that a signal is answered before the rest of the program is imported.
"""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

# A terminal that closes asks for the same as SIGTERM.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
_WORDS = {130: "interrupted", 143: "terminated"}

# Tidying up kills the worker and deletes temporary files. What takes longer may be ended by a second signal.
_PATIENCE_S = 10.0

_is_raising = False
_code: int | None = None  # the exit code, once a signal has come
_since = 0.0


class Interrupted(KeyboardInterrupt):
    """SIGINT. Python ends by the signal itself, whatever its exit code, once a bare KeyboardInterrupt has left `exec`."""


def begin() -> None:
    """Take over signals and streams, as early as can be. A second call does nothing more."""
    for number in _EXIT_CODES:
        # What is ignored stays ignored: Ctrl-C of what runs in the background, the terminal's end under nohup.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = _unraisable
    _open_streams()


def end(code: int) -> NoReturn:
    """Leave with this exit code, whatever signals still come."""
    for number in _EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
    lost_output()
    sys.exit(code)


@contextlib.contextmanager
def signals_raised() -> Iterator[None]:
    """The first signal in the block raises Interrupted or Terminated; outside of it, it ends the process at once."""
    global _is_raising
    _is_raising = True
    try:
        yield
    finally:
        _is_raising = False


def lost_output() -> OSError | None:
    """Why stdout does not take the rest of what was printed, if it does not. Such a stream is /dev/null from then on."""
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _to_null(stream.fileno())
            if stream is sys.stdout:
                lost = error
    return lost


def complain(line: str) -> None:
    """A line on stderr. A stderr that takes none stops nothing."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """An error as a line on stderr, with the rank where there are several."""
    from cifar_deploy.core import ranks
    from cifar_deploy.core.errors import one_line

    who = f"rank {ranks.rank()}: " if ranks.count() > 1 else ""
    complain(one_line(f"cifar-deploy: error: {who}{message}"))


def _on_signal(number: int, _: object) -> None:
    global _code, _since
    if _code is not None:
        if time.monotonic() - _since > _PATIENCE_S:
            _end_at_once(_code)
        return
    _code, _since = _EXIT_CODES[signal.Signals(number)], time.monotonic()
    if not _is_raising:
        _end_at_once(_code)
    if number == signal.SIGINT:
        raise Interrupted
    from cifar_deploy.core.errors import Terminated

    raise Terminated


def _unraisable(raised: Any) -> None:
    """A signal that comes while Python calls a destructor raises nothing, since nobody could catch it."""
    if _code is not None and not issubclass(raised.exc_type, Exception):
        _end_at_once(_code)
    sys.__unraisablehook__(raised)


def _end_at_once(code: int) -> NoReturn:
    """Workers see that this process is gone, and end too."""
    with contextlib.suppress(OSError):
        os.write(2, f"cifar-deploy: error: {_WORDS[code]}; give the same command again\n".encode())
    os._exit(code)


def _open_streams() -> None:
    """A standard stream that is closed is /dev/null: else the next file that is opened would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _to_null(number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, _Stdout):
        encoding, by_line = sys.stdout.encoding, sys.stdout.line_buffering
        sys.stdout = _Stdout(sys.stdout.detach(), encoding, "backslashreplace", line_buffering=by_line)


class _Stdout(io.TextIOWrapper):
    """Writes an escape for what its encoding lacks, and gives its name to the error of a full disk."""

    def write(self, text: str) -> int:
        with _stdout_named():
            return super().write(text)

    def flush(self) -> None:
        with _stdout_named():
            super().flush()


@contextlib.contextmanager
def _stdout_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = "stdout"
        raise


def _to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)

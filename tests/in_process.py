"""A command line through the program's real entry, in the tests' own process: without the second that a start takes.

The program may keep what it likes in its process, which ends with the command. Here it does not end, so `run_here` puts
all of it back as it was:

- signal handlers, sys.unraisablehook, the standard streams, sys.argv, sys.path and modules from the working directory;
- the working directory, the environment (`--memory-limit` sets a variable) and the folder that tempfile remembers;
- warning filters, the root logger's handlers and level, logging.raiseExceptions;
- the names that trust was given, the log file of steps, process's signal that has come, and every functools cache of the program.

What is left out: the tree of commands and the page's template, which nothing changes and which take longer to make than to
use; and the kernel's groups of core.limits, which a process makes once for all its workers.
"""

import contextlib
import functools
import gc
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import __main__, cli, process, steps
from cifar_deploy.core import interpreter, launch, limits, progress, trust, worker
from cifar_deploy.reports import html

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CONSTANT = (cli.tree, html._template)
# What Python itself ignores, where nobody asks for more.
_IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def run_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a user gives it, and what it prints. A signal that comes meanwhile is the tester's Ctrl-C."""
    words = list(map(str, arguments))
    output, errors = io.BytesIO(), io.BytesIO()
    code: Any = 0
    with as_in_a_new_process(cwd or Path.cwd()):
        sys.argv = ["cifar-deploy", *words]
        sys.stdout = io.TextIOWrapper(output, encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(errors, encoding="utf-8", write_through=True)
        try:
            __main__.main()
        except SystemExit as end:
            code = end.code
        interrupted = process._code is not None
        texts = [_text(stream) for stream in (output, errors)]
    if interrupted:
        raise KeyboardInterrupt
    return subprocess.CompletedProcess(words, code, *texts)


@contextlib.contextmanager
def workers_here() -> Iterator[None]:
    """In the block the workers are this process, which has imported torch, and not a fresh Python each.

    For tests of what a worker does, which hold wherever it does it. Nothing is proved of time or memory, of crashes, or of
    what a worker imports. A worker of another interpreter is a process as ever.
    """
    apart = launch.Local.start

    @contextlib.contextmanager
    def start(local: launch.Local, folder: Path, setting: launch.Setting) -> Iterator[launch.Running]:
        if setting.interpreter != interpreter.running():
            with apart(local, folder, setting) as running:
                yield running
            return
        with open(folder / "log.txt", "w") as log, _as_a_worker(folder, setting):
            sys.stdout = sys.stderr = log
            worker.answer(folder)
        yield _Ended()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.Local, "start", start)
        yield


class _Ended:
    status = 0

    def ended(self, timeout_s: float) -> bool:
        return True


@contextlib.contextmanager
def _as_a_worker(folder: Path, setting: launch.Setting) -> Iterator[None]:
    """What a worker changes, kept: the environment, the streams, torch's threads and seed, and the progress told.

    Existing objects are frozen first. A real worker collects little garbage before it measures.
    """
    import torch

    with _keep_environment():  # the import adds a variable
        # It remembers the temporary folder of its import, and that of a worker is gone soon.
        import torch._inductor.codecache

    threads, seed = torch.get_num_threads(), torch.get_rng_state()
    streams = sys.stdout, sys.stderr
    with _keep_environment(), warnings.catch_warnings():
        os.environ.update(launch._environment(folder, setting))
        progress.report.__init__()  # type: ignore[misc]
        gc.freeze()
        try:
            yield
        finally:
            progress.report.__init__()  # type: ignore[misc]
            sys.stdout, sys.stderr = streams
            torch.set_num_threads(threads)
            torch.set_rng_state(seed)


def _text(stream: io.BytesIO) -> str:
    """As subprocess gives it: every end of a line is \\n."""
    return io.TextIOWrapper(io.BytesIO(stream.getvalue()), encoding="utf-8").read()


@contextlib.contextmanager
def as_in_a_new_process(cwd: Path) -> Iterator[None]:
    """All that a command or script changes in the block is put back at its end."""
    with contextlib.ExitStack() as back:
        for keep in (_keep_interpreter, _keep_environment, _keep_logging, _keep_program):
            back.enter_context(keep())
        back.enter_context(_modules_of(cwd))
        os.chdir(cwd)
        yield


@contextlib.contextmanager
def _keep_interpreter() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    kept = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "argv", "unraisablehook")}
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in _IGNORED:
            warnings.simplefilter("ignore", category)
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(sys, name, value)
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _keep_environment() -> Iterator[None]:
    try:
        here: str | None = os.getcwd()
    except OSError:
        here = None
    before, temporary = dict(os.environ), tempfile.tempdir
    tempfile.tempdir = None  # TMPDIR is heeded
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if here is not None:
            os.chdir(here)


@contextlib.contextmanager
def _keep_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    root.handlers = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, logging.raiseExceptions = handlers, raises
        root.setLevel(level)


@contextlib.contextmanager
def _keep_program() -> Iterator[None]:
    given, log_file = set(trust._given), steps.log_file
    trust._given.clear()
    steps.log_file = None
    _forget()
    try:
        yield
    finally:
        trust._given.clear()
        trust._given.update(given)
        steps.log_file = log_file
        process._code, process._is_raising, process._since = None, False, 0.0
        _forget()


def _forget() -> None:
    """Empty the program's caches."""
    for name in [name for name in sys.modules if name.startswith("cifar_deploy.")]:
        for kept in _caches(name):
            kept.cache_clear()


@functools.cache
def _caches(name: str) -> tuple["functools._lru_cache_wrapper[Any]", ...]:
    """The functools caches of a module. They are looked for once: looking at each command took 10 ms."""
    values = vars(sys.modules[name]).values() if name != limits.__name__ else ()
    found = (value for value in values if isinstance(value, functools._lru_cache_wrapper))
    return tuple(kept for kept in found if kept not in _CONSTANT)


@contextlib.contextmanager
def _modules_of(folder: Path) -> Iterator[None]:
    """Those that lie in the folder can be imported, and are gone at the end."""
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == folder:
                del sys.modules[name]

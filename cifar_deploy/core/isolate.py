"""The parent's side: call a function in a fresh Python, and survive however it ends. `worker` holds the protocol."""

import inspect
import json
import logging
import os
import signal
import time
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from cifar_deploy.core import cgroups, errors, files, interpreter, limits, progress, ranks, trust
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.defaults import TIMEOUT_S
from cifar_deploy.core.errors import FailureKind, WorkerFailed
from cifar_deploy.core.interpreter import Interpreter
from cifar_deploy.core.launch import LOCAL, Launcher, Running, Setting
from cifar_deploy.core.limits import Limit
from cifar_deploy.core.progress import OnProgress

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_POLL_S = 0.25
_LOG_LINES = 20
_LOG_BYTES = 2**16


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A fresh Python for each call: how it is started, and how long it may be silent."""

    what: str | None = None  # that it does, for the messages about its end; None: the name of the function
    interpreter: Interpreter | None = None  # None: the Python that runs now
    pool_threads: int = 1  # see Setting
    variables: Mapping[str, str] = field(default_factory=dict)  # see Setting
    limit: Limit | None = None  # None: the usual limit (see core.limits)
    cpus: str | None = None  # see Setting
    timeout_s: float | None = None  # without progress; None: TIMEOUT_S, plus the time to join other ranks
    on_progress: OnProgress | None = None
    launcher: Launcher = LOCAL

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function`, of a module that a fresh Python can import, and return its value.

        An expected failure (a DeployError) is raised here as it was there. Raises WorkerFailed, with the kind and the end
        of the log, if the function raised anything else, the process died, or the time is over; then the whole process
        group is killed.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
        answer = self._ask(name, to_json(arguments))
        return typing.cast(T, from_json(typing.get_type_hints(function, include_extras=True)["return"], answer))

    def _ask(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The worker's answer to one request, as JSON."""
        limit = self.limit or limits.usual()
        timeout_s = self.timeout_s
        if timeout_s is None:
            timeout_s = TIMEOUT_S if ranks.count() == 1 else TIMEOUT_S + ranks.JOIN_S
        setting = Setting(
            interpreter=self.interpreter or interpreter.running(),
            pool_threads=self.pool_threads,
            variables=self.variables,
            limit=limit,
            cpus=self.cpus,
        )
        with files.temporary_folder() as folder:
            request = {"function": name, "arguments": arguments, "given": trust.given()}
            with files.errors_named(folder / "request.json"):
                (folder / "request.json").write_text(json.dumps(request))
            counting = limit.folder if limit else None
            kills = cgroups.oom_kills(counting)
            with self.launcher.start(folder, setting) as running:
                in_time = _wait(running, folder, timeout_s, self.on_progress)
            tail = _tail(folder / "log.txt")
            if not in_time:
                log.warning("%s: no progress for %s s, killed\n%s", name, timeout_s, tail)
                raise WorkerFailed(f"{self.what or name}: no progress for {timeout_s:g} s; killed", "timed out", tail)
            if not (folder / "reply.json").exists():
                with files.errors_named(folder / "reply.json"):
                    files.raise_if_full(folder / "reply.part")  # half an answer on a full disk
                kind, how = _ending(running.status, killed_for_memory=cgroups.oom_kills(counting) > kills)
                log.warning("%s: %s\n%s", name, how, tail)
                raise WorkerFailed(f"{self.what or name}{_under(limit, kind)}: the worker {how}", kind, tail)
            answer = json.loads((folder / "reply.json").read_text())
        if "error" in answer:
            raise _as_raised(self.what or name, answer["error"], limit, tail)
        return answer["value"]


def _wait(running: Running, folder: Path, timeout_s: float, on_progress: OnProgress | None) -> bool:
    """Wait for the worker's end, showing its progress; False if it made none for `timeout_s`."""
    seen: progress.Progress | None = None
    deadline = time.monotonic() + timeout_s
    while not running.ended(min(_POLL_S, max(0.0, deadline - time.monotonic()))):
        latest = progress.read(folder)
        if latest != seen:
            seen = latest
            deadline = time.monotonic() + timeout_s
            if on_progress and latest:
                on_progress(latest)
        elif time.monotonic() >= deadline:
            return False
    latest = progress.read(folder)
    if on_progress and latest and latest != seen:
        on_progress(latest)
    return True


def _ending(status: int, *, killed_for_memory: bool) -> tuple[FailureKind, str]:
    if status >= 0:
        return "crashed", f"left with exit code {status} and without an answer"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        # Only the kernel's own counter proves it: anyone can send SIGKILL.
        if killed_for_memory:
            return "out of memory", "was killed by the kernel, out of memory"
        return "crashed", "was killed (SIGKILL), perhaps out of memory"
    return "crashed", f"died of {name}"


def _tail(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(-min(_LOG_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return "\n".join(file.read(_LOG_BYTES).decode(errors="replace").splitlines()[-_LOG_LINES:])


def _as_raised(what: str, error: dict[str, str], limit: Limit | None, tail: str) -> errors.DeployError:
    if expected := errors.by_name(error["type"]):
        return expected(error["message"])
    log.warning("%s raised %s\n%s", what, error["type"], tail)
    kind: Any = error["kind"]
    return WorkerFailed(f"{what}{_under(limit, kind)}: {error['type']}: {error['message']}", kind, tail)


def _under(limit: Limit | None, kind: FailureKind) -> str:
    """The limit that may have been too little, and what sets it."""
    if not limit or kind != "out of memory":
        return ""
    return f" under a limit of {limits.shown(limit.bytes)} ({limit.kind}; --memory-limit or {limits.VARIABLE} sets it)"

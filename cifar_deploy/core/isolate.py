"""The parent's side: call a function in a fresh Python, and survive however it ends. `worker` holds the protocol."""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cifar_deploy.core import (
    cache,
    cgroups,
    descendants,
    errors,
    files,
    interpreter,
    limits,
    locks,
    progress,
    ranks,
    trust,
)
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import FailureKind, WorkerFailed
from cifar_deploy.core.interpreter import Interpreter
from cifar_deploy.core.limits import Limit
from cifar_deploy.core.progress import OnProgress

T = TypeVar("T")

log = logging.getLogger(__name__)

# Without a new line of progress for so long, a worker hangs.
TIMEOUT_S = 600.0

# Every library that sizes a pool from the machine reads one of these when it loads.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

# ONNX Runtime (since 1.29) reports its use to its maker, from a thread beside what is measured, unless told not to.
_SILENT = {"ORT_DISABLE_TELEMETRY": "1"}

_POLL_S = 0.25
_LOG_LINES = 20
_LOG_BYTES = 2**16


def call(
    function: str,
    reply: type[T],
    *,
    pool_threads: int = 1,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
    limit: Limit | None = None,
    variables: Mapping[str, str] | None = None,
    started_with: Interpreter | None = None,
    **arguments: Any,
) -> T:
    """Run `function` ("package.module:name") in a fresh Python and return its value.

    `started_with` is the Python, this one unless told; `limit` bounds the worker's memory, the usual one unless told (see
    core.limits); `pool_threads` is what OMP_NUM_THREADS and its kin say before any library loads, and `variables` of the environment are set then too;
    `timeout_s` is the longest time without progress, TIMEOUT_S unless told, and with other ranks as long as one may wait
    for them to join besides. An expected failure (a DeployError) is raised here as it was there. Raises WorkerFailed, with
    the kind and the end of the log, if the function raised anything else, the process died, or the time is over; then the
    whole process group is killed.
    """
    if timeout_s is None:
        timeout_s = TIMEOUT_S if ranks.count() == 1 else TIMEOUT_S + ranks.JOIN_S
    limit = limit or limits.usual()
    with files.scratch() as folder:
        request = {"function": function, "arguments": to_json(arguments), "given": trust.given()}
        with files.naming(folder / "request.json"):
            (folder / "request.json").write_text(json.dumps(request))
        counting = limit.folder if limit else None
        kills = cgroups.oom_kills(counting)
        python = started_with or interpreter.running()
        with _started(folder, python, pool_threads, limit, variables or {}) as process:
            in_time = _wait(process, folder, timeout_s, on_progress)
        tail = _tail(folder / "log.txt")
        if not in_time:
            log.warning("%s: no progress for %s s, killed\n%s", function, timeout_s, tail)
            raise WorkerFailed(f"{function}: no progress for {timeout_s:g} s; killed", "timed out", tail)
        if not (folder / "reply.json").exists():
            with files.naming(folder / "reply.json"):
                files.ask_for_room(folder / "reply.part")  # half an answer on a full disk
            kind, how = _ending(process.returncode, killed_for_memory=cgroups.oom_kills(counting) > kills)
            log.warning("%s: %s\n%s", function, how, tail)
            raise WorkerFailed(f"{function}{_under(limit, kind)}: the worker {how}", kind, tail)
        answer = json.loads((folder / "reply.json").read_text())
    if "error" in answer:
        raise _as_raised(function, answer["error"], limit, tail)
    return from_json(reply, answer["value"])


@contextlib.contextmanager
def _started(
    folder: Path, started_with: Interpreter, pool_threads: int, limit: Limit | None, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The worker, running; at the end of the block it and all that it started are gone."""
    package_parent = str(Path(__file__).parents[2])
    if package_parent in interpreter.package_folders():
        package_parent = ""  # found anyway, and what lies beside it must not come before an environment's own packages
    # Its temporary files lie in the folder of the call, since a worker that is killed deletes none.
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {
        # What torch.compile has made is for later workers, too; it would keep it among the temporary files.
        "TORCHINDUCTOR_CACHE_DIR": str(cache.folder() / "torchinductor"),
        **os.environ,
        "TMPDIR": str(temporary),
        descendants.VARIABLE: str(folder),
        **_SILENT,
        **variables,
        **dict.fromkeys(_THREAD_VARIABLES, str(pool_threads)),
        "PYTHONFAULTHANDLER": "1",  # a segmentation fault leaves a traceback in the log
        "PYTHONPATH": os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")])),
    }
    with open(folder / "log.txt", "wb") as output:
        process = subprocess.Popen(
            # -P: a file json.py in the user's folder is not the json that we import.
            [
                *(limit.command if limit else ()),
                started_with.python,
                "-P",
                "-m",
                "cifar_deploy.core.worker",
                str(folder),
            ],
            stdin=subprocess.PIPE,  # never written: its end tells the worker that we are gone
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=tuple(locks.INHERITED),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        descendants.kill(str(folder))
        assert process.stdin is not None
        process.stdin.close()


def _wait(process: subprocess.Popen[bytes], folder: Path, timeout_s: float, on_progress: OnProgress | None) -> bool:
    """Wait for the worker's end, showing its progress; False if it made none for `timeout_s`."""
    seen: progress.Progress | None = None
    deadline = time.monotonic() + timeout_s
    while not _ended(process, min(_POLL_S, max(0.0, deadline - time.monotonic()))):
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


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Sleep until the process ends or the time is over; without spinning where the kernel has pidfds."""
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
        return process.poll() is not None
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], timeout_s)
    finally:
        os.close(descriptor)
    return process.poll() is not None


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


def _as_raised(function: str, error: dict[str, str], limit: Limit | None, tail: str) -> errors.DeployError:
    if expected := errors.by_name(error["type"]):
        return expected(error["message"])
    log.warning("%s raised %s\n%s", function, error["type"], tail)
    kind: Any = error["kind"]
    return WorkerFailed(f"{function}{_under(limit, kind)}: {error['type']}: {error['message']}", kind, tail)


def _under(limit: Limit | None, kind: FailureKind) -> str:
    """The limit that may have been too little, and what sets it."""
    if not limit or kind != "out of memory":
        return ""
    return f" under a limit of {limits.shown(limit.bytes)} ({limit.kind}; {limits.VARIABLE} sets it)"

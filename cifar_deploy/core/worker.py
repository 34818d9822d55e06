"""The child's side of one call: `python -m cifar_deploy.core.worker FOLDER [CPUS]`.

It keeps to the processors of the list CPUS (see core.affinity), if there is one. The folder belongs to this call alone.

    request.json    read: {"function": "package.module:name", "arguments": {...}, "given": ["module:object", ...]}
    progress.json   written now and then, if the function reports progress
    reply.json      written last, whole or not at all: {"value": ...},
                    or {"error": {"type": ..., "kind": ..., "message": ...}}
    log.txt         stdout and stderr, the traceback of an error included
    temporary/      TMPDIR, for whatever the function and its libraries put aside

Arguments and value are records or plain values; the function's annotations say how to read them. `given` is the code of
others that this command was asked for (see core.trust). Standard input is a
pipe whose other end the parent holds: when it closes, the parent is gone, and so is this process with all that it
started. Without a reply, the exit status tells how it ended.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
import typing
from pathlib import Path

from cifar_deploy.core import affinity, descendants, memory, progress, trust
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import DeployError, FailureKind, is_out_of_memory

# Of a worker and its parent, the kernel shall choose the worker when memory runs out: a row is lost, not the run.
_OOM_SCORE_ADJ = "500"


def main(folder: Path, pinned: str | None = None) -> None:
    if pinned:
        affinity.pin(pinned)
    memory.remember_interpreter()
    _end_with_parent()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJ)
    answer(folder)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Runtimes have been seen to crash in their destructors; the answer is given, so leave without them.
    os._exit(0)


def answer(folder: Path) -> None:
    """Do what the request in the folder asks for, and leave the reply there."""
    progress.report.folder = folder
    request = json.loads((folder / "request.json").read_text())
    trust.give(request["given"])
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(function)
        arguments = {key: from_json(hints[key], value) for key, value in request["arguments"].items()}
        reply = json.dumps({"value": to_json(function(**arguments))})
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk takes no log, and the answer matters more
            traceback.print_exc()
        reply = json.dumps({"error": {"type": type(error).__name__, "kind": _kind(error), "message": str(error)}})

    part = folder / "reply.part"
    part.write_text(reply)
    part.rename(folder / "reply.json")  # whole or absent, never half


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, DeployError):
        return error.kind
    if is_out_of_memory(error):
        return "out of memory"
    return "failed"


def _end_with_parent() -> None:
    def wait() -> None:
        while os.read(0, 4096):
            pass
        if call := os.environ.get(descendants.VARIABLE):
            descendants.kill(call)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

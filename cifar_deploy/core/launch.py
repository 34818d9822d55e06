"""Who starts a worker, and where: a launcher. The local one starts a process beside this one.

A launcher is given the folder of a call, which holds request.json (see core.worker). When it says that the worker has
ended, reply.json and log.txt are in that folder too. Meanwhile progress.json may appear there.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cifar_deploy.core import cache, descendants, interpreter, locks
from cifar_deploy.core.interpreter import Interpreter
from cifar_deploy.core.limits import Limit

# Every library that sizes a pool from the machine reads one of these when it loads.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

# -P: a file json.py in the user's folder is not the json that we import. Python 3.10, on a device, has no such option; there a
# worker starts in the folder of its call.
_ON_ITS_OWN = ("-P",) if hasattr(sys.flags, "safe_path") else ()

# ONNX Runtime (since 1.29) and MLflow (since 3.2) report their use to their makers, from a thread beside what is measured,
# unless told not to.
_SILENT = {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a worker is started with."""

    interpreter: Interpreter
    pool_threads: int = 1  # what OMP_NUM_THREADS and its kin say before any library loads
    variables: Mapping[str, str] = field(default_factory=dict)  # of the environment, set before that too
    limit: Limit | None = None
    cpus: str | None = None  # the list of processors that it is kept to: see core.affinity


class Running(Protocol):
    """A worker that was started."""

    def ended(self, timeout_s: float) -> bool:
        """Whether it has ended, after at most so long a sleep."""

    @property
    def status(self) -> int:
        """The exit status of one that has ended; negative: the signal."""


class Launcher(Protocol):
    def start(self, folder: Path, setting: Setting) -> contextlib.AbstractContextManager[Running]:
        """The worker, running; at the end of the block it and all that it started are gone."""


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ended(self, timeout_s: float) -> bool:
        """Without spinning where the kernel has pidfds."""
        if not hasattr(os, "pidfd_open"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            return self._process.poll() is not None
        descriptor = os.pidfd_open(self._process.pid)
        try:
            select.select([descriptor], [], [], timeout_s)
        finally:
            os.close(descriptor)
        return self._process.poll() is not None

    @property
    def status(self) -> int:
        return self._process.returncode


class Local:
    """A process of this machine, which inherits the locks and ends with this one."""

    @contextlib.contextmanager
    def start(self, folder: Path, setting: Setting) -> Iterator[_Process]:
        with open(folder / "log.txt", "wb") as output:
            process = subprocess.Popen(
                [
                    *(setting.limit.command if setting.limit else ()),
                    *(setting.interpreter.python, *_ON_ITS_OWN, "-m", "cifar_deploy.core.worker", str(folder)),
                    *([setting.cpus] if setting.cpus else ()),
                ],
                stdin=subprocess.PIPE,  # never written: its end tells the worker that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(folder, setting),
                cwd=None if _ON_ITS_OWN else folder,
                pass_fds=tuple(locks.INHERITED),
                start_new_session=True,
            )
        try:
            yield _Process(process)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            descendants.kill(str(folder))
            assert process.stdin is not None
            process.stdin.close()


LOCAL = Local()


def _environment(folder: Path, setting: Setting) -> dict[str, str]:
    package_parent = str(Path(__file__).parents[2])
    if package_parent in interpreter.package_folders():
        package_parent = ""  # found anyway, and what lies beside it must not come before an environment's own packages
    # Its temporary files lie in the folder of the call, since a worker that is killed deletes none.
    temporary = folder / "temporary"
    temporary.mkdir()
    return {
        # What torch.compile has made is for later workers, too; it would keep it among the temporary files.
        "TORCHINDUCTOR_CACHE_DIR": str(cache.folder() / "torchinductor"),
        **os.environ,
        "TMPDIR": str(temporary),
        descendants.VARIABLE: str(folder),
        **_SILENT,
        **setting.variables,
        **dict.fromkeys(_THREAD_VARIABLES, str(setting.pool_threads)),
        "PYTHONFAULTHANDLER": "1",  # a segmentation fault leaves a traceback in the log
        "PYTHONPATH": os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")])),
    }

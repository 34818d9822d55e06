"""Interpreters with packages of their own, for what cannot live with the others."""

import os

from cifar_deploy.core import environment, files
from cifar_deploy.core.environment import Made
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.workers import install as worker

# pip says nothing while it downloads a file, however large.
_INSTALL_TIMEOUT_S = 3600.0


def create_environment(name: str, *, force: bool = False, on_progress: OnProgress | None = None) -> Outcome[Made]:
    """An interpreter of its own for packages that cannot live with the others, made now or found from before.

    Raises DeployError, in pip's words, if they cannot be installed; then what was there before is still there.
    """
    wanted = ENVIRONMENTS[ENVIRONMENTS.given(name)]
    with environment.locked():
        if not force and not wanted.lack() and (made := wanted.made()):
            return Outcome(value=made, reused=True)
        with files.staging(wanted.folder) as box:
            made = Worker(what=f"environment {name}", timeout_s=_INSTALL_TIMEOUT_S, on_progress=on_progress).call(
                worker.install, wanted, box / "new"
            )
            os.sync()  # thousands of files shall be on the disk before their folder's name says that they are whole
            if wanted.folder.exists():
                wanted.folder.rename(box / "old")
            (box / "new").rename(wanted.folder)
    return Outcome(value=made, reused=False)

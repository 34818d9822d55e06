"""An environment's packages -> an interpreter that has them, in a process of its own."""

import importlib.util
import json
import platform
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from cifar_deploy.core import codec, environment, machine
from cifar_deploy.core.environment import Environment, Made
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.interpreter import package_folders
from cifar_deploy.core.progress import report

_STEPS = 3


def install(wanted: Environment, folder: Path) -> Made:
    """Make the environment in `folder`, which may be moved afterwards: nothing is started in it but its Python.

    Raises DeployError, in pip's words, if the packages cannot be installed, or if they cannot be imported.
    """
    report(0, _STEPS, "making a virtual environment")
    # The parent's pip serves, where it has one.
    venv.create(folder, symlinks=True, with_pip=importlib.util.find_spec("pip") is None)
    own = environment.own_packages(folder)
    # Not the bare folders, for then what is installed there as editable would be missing.
    parents = "".join(f"import site; site.addsitedir({place!r})\n" for place in package_folders())
    (own / "parent.pth").write_text(parents)
    # pip takes the parent's packages for broken where this environment has another version of what they need.
    pip = ("-m", "pip", "install", "--no-input", "--no-warn-conflicts", "--progress-bar", "off", *wanted.packages)
    if failed := _run(folder, pip, lambda line: report(1, _STEPS, line[:80])):
        raise DeployError(f"environment {wanted.name}: pip cannot install {' '.join(wanted.packages)} ({failed})")
    report(2, _STEPS, f"importing {', '.join(wanted.brings)}")
    if failed := _run(folder, ("-c", f"import {', '.join(wanted.brings)}")):
        raise DeployError(f"environment {wanted.name}: {', '.join(wanted.brings)} cannot be imported ({failed})")
    made = Made(
        packages=wanted.packages,
        parent=sys.prefix,
        python=platform.python_version(),
        path=_path_behind(folder),
        versions={found.name: found.version for found in metadata.distributions(path=[str(own)])},
        bytes=environment.size_bytes(folder),
        finished=machine.now(),
    )
    codec.save(folder / environment.RECORD, made)
    return made


def _path_behind(folder: Path) -> tuple[str, ...]:
    """Where the environment's Python looks for packages that are not its own."""
    asked = [str(environment.python_in(folder)), "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    path = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return tuple(place for place in path if not Path(place).is_relative_to(folder))


def _run(folder: Path, arguments: Sequence[str], on_line: Callable[[str], object] = lambda line: None) -> str | None:
    """Start the environment's Python; None if it ends well, else what it says went wrong. Its lines are kept in the log."""
    # -I: neither the user's folder nor PYTHONPATH shall lend it packages that its workers may do without.
    process = subprocess.Popen(
        [environment.python_in(folder), "-I", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    lines = []
    for line in map(str.strip, process.stdout):
        if line:
            print(line)
            lines.append(line)
            on_line(line)
    if process.wait() == 0:
        return None
    # pip's first error is the cause, and what follows from it comes behind; a traceback ends with its cause.
    return next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "it said nothing")

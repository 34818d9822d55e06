"""A Python that a worker can be started with, and where it finds its packages."""

import os
import site
import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    python: str
    path: tuple[str, ...]  # folders, the first one first


# What starts workers, where that is not the Python that runs: under an emulator, a script that starts the emulator.
VARIABLE = "CIFAR_DEPLOY_PYTHON"


def running() -> Interpreter:
    return Interpreter(python=os.environ.get(VARIABLE) or sys.executable, path=tuple(sys.path))


def package_folders() -> tuple[str, ...]:
    """Where packages are installed that the running interpreter finds."""
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(folder for folder in folders if folder in sys.path)

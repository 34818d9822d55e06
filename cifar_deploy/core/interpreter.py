"""A Python that a worker can be started with, and where it finds its packages."""

import site
import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    python: str
    path: tuple[str, ...]  # folders, the first one first


def running() -> Interpreter:
    return Interpreter(python=sys.executable, path=tuple(sys.path))


def package_folders() -> tuple[str, ...]:
    """Where packages are installed that the running interpreter finds."""
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(folder for folder in folders if folder in sys.path)

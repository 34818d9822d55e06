"""Interpreters beside the running one, for packages that cannot live together with all others.

An environment is a small virtual environment that lies over the packages of the interpreter that made it, its parent: its
own come first on the path, so that only what the parent lacks, or has in another version, is installed in it. Workers
are started with it; the parent of the workers never imports from it.

    environments/NAME/                    in the user's cache, whole or not there
    environments/NAME/environment.json    what it was made of, and for which parent
    environments/.lock                    held by the one process that makes or removes one
"""

import contextlib
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core import cache, codec, files
from cifar_deploy.core.errors import Corrupt, Lack, UsageError
from cifar_deploy.core.interpreter import Interpreter
from cifar_deploy.core.locks import Lock

RECORD = "environment.json"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an environment was made of, and for which parent."""

    packages: tuple[str, ...]  # that were asked for
    parent: str  # the prefix of the interpreter over whose packages it lies
    python: str  # its version, the parent's too
    path: tuple[str, ...]  # where it looks for packages behind its own
    versions: Mapping[str, str]  # of all that was installed in it
    bytes: int
    finished: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    name: str  # that `env create` takes, and of its folder
    summary: str
    packages: tuple[str, ...]  # as pip takes them, pinned
    brings: tuple[str, ...]  # import names, which must work before it counts as made

    @property
    def folder(self) -> Path:
        return root() / self.name

    @property
    def interpreter(self) -> Interpreter:
        """What a worker in it is started with, once it is made."""
        made = self.made()
        path = (str(own_packages(self.folder)), *(made.path if made else ()))
        return Interpreter(python=str(python_in(self.folder)), path=path)

    def made(self) -> Made | None:
        """The record of the one that is here; None if there is none, or it cannot be read."""
        with contextlib.suppress(FileNotFoundError, Corrupt):
            return codec.load(Made, self.folder / RECORD, "make it again")
        return None

    def lack(self) -> Lack | None:
        """Why it cannot be used by this interpreter, and what mends it; None if it can."""
        if stale := self._staleness(self.made()):
            return Lack(reason=stale, command=f"cifar-deploy env create {self.name}")
        return None

    def _staleness(self, made: Made | None) -> str | None:
        if not made:
            return f"environment {self.name} is not made"
        if made.parent != sys.prefix:
            return f"environment {self.name} is stale: it lies over {made.parent}, not over {sys.prefix}"
        if made.python != platform.python_version():
            return f"environment {self.name} is stale: it is for Python {made.python}, not {platform.python_version()}"
        if made.packages != self.packages:
            return (
                f"environment {self.name} is stale: it holds {' '.join(made.packages)}, not {' '.join(self.packages)}"
            )
        if not python_in(self.folder).exists():  # a link to an interpreter that was removed
            return f"environment {self.name} is stale: its Python is gone"
        return None


def root() -> Path:
    return cache.folder() / "environments"


def python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def own_packages(folder: Path) -> Path:
    """Where an environment in `folder` has the packages that are its own."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """To make or remove an environment. What a killed process left half-made is deleted."""
    with Lock(root() / ".lock", f"{root()}: another cifar-deploy is at work here; wait until it is done"):
        files.sweep(root(), deep=False)
        yield


def remove(environment: Environment) -> None:
    """Raises UsageError if it is not here."""
    absent = UsageError(f"{environment.name}: is not made; see `cifar-deploy env list`")
    if not environment.folder.exists():
        raise absent
    with locked():
        if not environment.folder.exists():  # removed by another process
            raise absent
        with files.staging(environment.folder) as box:
            environment.folder.rename(box / "old")  # whole until it is gone


def size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))

"""Which code may run: that which this user asked for. A record beside a file proves nothing, both came from the same place.

Two kinds of code come out of files:

- a program, TorchScript's say: it runs if its hash is in the user's own record of exports;
- a module:object that a record names, a network's say: it is imported if the name was given on this command line, or
  stands in the user's own record with the place where the module was found then.

Both records are kept in the user's state folder, where whoever hands over an output folder cannot write.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.errors import Untrusted

if TYPE_CHECKING:
    from cifar_deploy.core.records import File

# In the same folder: the ids of packs that were made here (see core.packs).
_PACKS = "packs.txt"

# Names that this command was given, or its parent: a worker gets them with its request.
_given: set[str] = set()


def record_path() -> Path:
    return _folder() / "exported.sha256"


def code_path() -> Path:
    return _folder() / "code.tsv"


def _folder() -> Path:
    if own := os.environ.get("CIFAR_DEPLOY_STATE"):
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cifar-deploy"


def remember(sha256: str) -> None:
    """Note a program file that this user's own export has just written."""
    _add(record_path(), sha256, "only `cifar-deploy evaluate --trust` will run it")


def knows(sha256: str) -> bool:
    """Whether this user exported the program file of this hash."""
    return sha256 in _lines(record_path())


def remember_pack(id: str) -> None:
    """Note a pack that was made here: results of another one say so when they come home."""
    _add(_folder() / _PACKS, id, "results of this pack will be called foreign")


def knows_pack(id: str) -> bool:
    """Whether this user has made the pack of this id."""
    return id in _lines(_folder() / _PACKS)


def check(path: Path, sha256: str) -> None:
    """Raises Untrusted unless this user exported the file of this hash."""
    if not knows(sha256):
        raise Untrusted(
            f"{path}: is a program, and not one that you exported; export it yourself, or trust it (`evaluate --trust`, `bench --trust`)"
        )


def give(names: Iterable[str]) -> None:
    """Allow each module:object for this command and its workers."""
    _given.update(name for name in names if ":" in name)


def given() -> list[str]:
    return sorted(_given)


def remember_code(name: str, place: str) -> None:
    """Note where the module of a module:object lies that was given on the command line, for later commands."""
    line = f"{name}\t{place}"
    if line in _lines(code_path()):
        return
    _add(code_path(), line, f"later commands will ask for it, as `cifar-deploy evaluate --trust-code {name}`")


def check_files(paths: Mapping[str, Path], files: Iterable[File]) -> None:
    """As `check`, of each file of a program, which lies at its `paths`."""
    for file in files:
        check(paths[file.name], file.sha256)


def check_code(kind: str, name: str, place: str) -> None:
    """Raises Untrusted unless module:object `name` was given, or was before while its module lay in the same place."""
    if name not in _given and not (place and f"{name}\t{place}" in _lines(code_path())):
        raise Untrusted(
            f"{name}: a record names this {kind}, which is code that you have not given; "
            f"if you trust it, add --trust-code {name}"
        )


def _add(path: Path, line: str, without: str) -> None:
    """Add a line to a record. If that fails, warn with the consequence, `without`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(os.fsencode(f"{line}\n"))
    except OSError as error:
        warnings.warn(f"{path}: cannot be written ({error.strerror}); {without}")


def _lines(path: Path) -> set[str]:
    return set(os.fsdecode(path.read_bytes()).split("\n")) if path.exists() else set()

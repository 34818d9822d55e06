"""Files that appear whole or not at all.

Every file is written beside its target as NAME.tmp.<pid>.<random>, synced, and renamed over it; the folder is synced
last. What a killed process leaves behind is found by its name and deleted by the next one that holds the lock.
Temporary files that are no part of a result lie in a `scratch` folder, among the system's.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cifar_deploy.core.errors import Corrupt, Unwritable

_LEFTOVER = re.compile(r"\.tmp\.\d+\.[0-9a-f]{8}$")

_SCRATCH = "cifar-deploy-scratch-"
_YOUNG_S = 60.0


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to; `path` is replaced by it if the block ends well, and untouched if not.

    Raises Unwritable if the disk takes no more.
    """
    part = _temporary(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        except Exception:
            ask_for_room(part)
            raise
        finally:
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Writing `path`: an error of the system in the block is raised as Unwritable, with the path's name."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{path}: cannot be written ({error.strerror or error}); make room or give another folder, and run it again"
        ) from error


def ask_for_room(path: Path) -> None:
    """Raises the system's own error if it lets `path` grow no further.

    Libraries report a full disk each in its own words (torch.save: "unexpected pos"), or abort. Whoever meets an error
    while a file is written asks here, before the half of it is deleted, whether that was the cause.
    """
    if path.is_file():
        with open(path, "ab") as file:
            file.write(bytes(2**16))


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, on the same file system, to make files in; gone at the end of the block."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = _temporary(folder)
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder among the system's temporary ones, gone at the end of the block.

    It is locked as long as its process lives: so `sweep_scratch` knows those of the killed.
    """
    # What a process that is still dying holds on to is for a later one to delete.
    with (
        tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as held,
    ):
        with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps there either
            held.enter_context(_locked(Path(name)))
        yield Path(name)


def sweep_scratch() -> None:
    """Delete the scratch folders of killed processes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError), _locked(folder):
            if time.time() - folder.stat().st_mtime > _YOUNG_S:  # else perhaps just made, and not locked yet
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError if another process holds `folder`, or it is another user's."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp.{os.getpid()}.{secrets.token_hex(4)}")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. The file itself is already committed, so failing is a warning."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        warnings.warn(f"{folder}: could not be synced ({error.strerror}); a power cut may undo the last file")


def write_text(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises Corrupt if the file is not JSON, FileNotFoundError if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Corrupt(f"{path}: is not valid JSON ({error}); delete it and run the command again") from error


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard(folder: Path) -> None:
    """Delete a folder: under its own name it is there whole or not at all, and what is left of it is for the next sweep.

    One that is not there is no error.
    """
    leftover = _temporary(folder)
    try:
        folder.rename(leftover)
    except FileNotFoundError:
        return
    shutil.rmtree(leftover, ignore_errors=True)


def sweep(folder: Path, *, deep: bool = True) -> None:
    """Delete what killed processes left half-written below `folder`, or just in it. Only for who holds its lock."""
    for leftover in list(folder.rglob("*.tmp.*") if deep else folder.glob("*.tmp.*")):
        if is_leftover(leftover.name):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    return _LEFTOVER.search(name) is not None

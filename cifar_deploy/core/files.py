"""Files that appear whole or not at all.

Every file is written beside its target as NAME.tmp.<pid>.<random>, synced, and renamed over it; the folder is synced
last. What a killed process leaves behind is found by its name and deleted by the next one that holds the lock.
Temporary files that are no part of a result lie in a `scratch` folder, among the system's.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import Unwritable

_LEFTOVER = re.compile(r"\.tmp\.\d+\.[0-9a-f]{8}$")

_SCRATCH = "cifar-deploy-scratch-"
_YOUNG_S = 60.0


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to; `path` is replaced by it if the block ends well, and untouched if not.

    Raises Unwritable if the disk takes no more.
    """
    part = _temporary(path)
    with errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            sync(part)
            os.replace(part, path)
        except Exception:
            raise_if_full(part)
            raise
        finally:
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Writing `path`: an error of the system in the block is raised as Unwritable, with the path's name."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{path}: cannot be written ({error.strerror or error}); make room or give another folder, and run it again"
        ) from error


def raise_if_full(path: Path) -> None:
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
def temporary_folder() -> Iterator[Path]:
    """A folder among the system's temporary ones, gone at the end of the block.

    It is locked as long as its process lives: so `sweep_temporary_folders` knows those of the killed.
    """
    # What a process that is still dying holds on to is for a later one to delete.
    with (
        tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as held,
    ):
        with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps there either
            held.enter_context(_locked(Path(name)))
        yield Path(name)


def sweep_temporary_folders() -> None:
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


def sync(path: Path) -> None:
    """Wait until a file is on the disk. Raises OSError."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


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
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def exchange(new: Path, place: Path) -> None:
    """Let the folder `new` take the place of the folder `place`, which is then found under the name of `new`.

    It is one step where the system has one (Linux); elsewhere two, of which the first is undone if the second fails.
    Raises OSError; then `place` is as it was.
    """
    if not place.exists():
        new.rename(place)
    elif not _exchanged(new, place):
        old = _temporary(place)
        shutil.move(place, old)  # a copy where a folder of a container's image cannot be renamed
        try:
            new.rename(place)
        except OSError:
            old.rename(place)
            raise
        old.rename(new)
    sync_folder(place.parent)


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchanged(first: Path, second: Path) -> bool:
    """Swap two names, by Linux's renameat2. False where the system or the file system cannot."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(second))


def open_to_append(path: Path) -> BinaryIO:
    """The file, made if need be, open for reading and for writing at its end: itself, and not what a link leads to.

    Raises OSError, and Corrupt as `untrusted.open_regular`.
    """
    descriptor = os.open(
        path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644
    )
    try:
        untrusted.check_regular(path, os.fstat(descriptor))
        return open(descriptor, "a+b")
    except BaseException:
        os.close(descriptor)
        raise


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
            with contextlib.suppress(OSError):
                remove(leftover)


def remove(path: Path) -> None:
    """Delete a file or a folder, whichever it is; a link, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    return _LEFTOVER.search(name) is not None

"""Files that appear whole or not at all.

Every file is written beside its target as NAME.tmp.<pid>.<random>, synced, and renamed over it; the folder is synced
last. What a killed process leaves behind is found by its name and deleted by the next one that holds the lock.
Temporary files that are no part of a result lie in a `scratch` folder, among the system's.

A path from outside is opened by `open_regular`, or read by `read_bytes`: a link to a device never ends, and a pipe blocks.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from cifar_deploy.core.errors import Corrupt, Unwritable, UsageError

_LEFTOVER = re.compile(r"\.tmp\.\d+\.[0-9a-f]{8}$")

_SCRATCH = "cifar-deploy-scratch-"
_YOUNG_S = 60.0

# 1,000 times the largest record of our own. Parsed JSON can take 100 times its bytes.
_LARGEST_RECORD = 16 * 2**20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


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
            sync(part)
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
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises Corrupt if the file is not JSON, or too large for a record, FileNotFoundError if it is not there."""
    return _read(path, parsed, "delete it and run the command again")


def parsed(text: bytes) -> Any:
    """JSON in UTF-8. Raises Corrupt, which names no file, for anything else."""
    try:
        return json.loads(text.decode())
    except ValueError as error:
        raise Corrupt(f"is not valid JSON ({error})") from error
    except RecursionError:
        raise Corrupt("is not valid JSON (nested too deeply)") from None


# A record's first field says that it has a checksum, and its last one holds it: no cut takes both and leaves a record.
_INTEGRITY, _ALGORITHM = "integrity", "sha256"
_CHECKSUM = "checksum"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum: a flipped bit passes every parser."""
    return {_INTEGRITY: _ALGORITHM, **record, _CHECKSUM: _digest(record)}


def opened(record: Any) -> Any:
    """The record without its checksum. Raises Corrupt if it is not the one that was sealed.

    One that says nothing of a checksum is of before there were any, and is returned as it is.
    """
    if not isinstance(record, dict) or not {_INTEGRITY, _CHECKSUM} & record.keys():
        return record
    content = {name: value for name, value in record.items() if name not in (_INTEGRITY, _CHECKSUM)}
    if (record.get(_INTEGRITY), record.get(_CHECKSUM)) != (_ALGORITHM, _digest(content)):
        raise Corrupt("is damaged (its checksum differs)")
    return content


def _digest(record: Mapping[str, Any]) -> str:
    # Of the values, not of the text: spaces and the order of the fields mean nothing.
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    write_json(path, sealed(record))


def read_record(path: Path, remedy: str) -> Any:
    """What `write_record` wrote.

    Raises Corrupt, with the remedy, if it is damaged or too large for a record, FileNotFoundError if it is not there.
    """
    return _read(path, lambda content: opened(parsed(content)), remedy)


def _read(path: Path, parse: Callable[[bytes], Any], remedy: str) -> Any:
    content = read_bytes(path, _LARGEST_RECORD)
    try:
        return parse(content)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}; {remedy}") from error


def sha256(path: Path) -> str:
    """Raises Corrupt if it is no regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The file of this name in `folder`. Raises Corrupt if the name, which a record gives, leads anywhere else."""
    if name in ("", ".", "..") or {"/", "\\", "\0"} & set(name):
        raise Corrupt(f"{folder}: its record names the file {name!r}, which is no name of a file in it; do not use it")
    path = folder / name
    if path.is_symlink():
        raise Corrupt(f"{path}: is a link; put the file itself there")
    return path


def link(source: Path, target: Path) -> None:
    """Let `target` be the regular file `source` too: as a hard link, or a copy where the file system has none."""
    if not stat.S_ISREG(source.lstat().st_mode):
        raise Corrupt(f"{source}: is not a regular file; put the file itself there")
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)


def exchange(new: Path, place: Path) -> None:
    """Let the folder `new` take the place of the folder `place`, which is then found under the name of `new`.

    It is one step where the system has one (Linux); elsewhere two, of which the first is undone if the second fails.
    Raises OSError; then `place` is as it was.
    """
    if not place.exists():
        new.rename(place)
    elif not _exchanged(new, place):
        old = _temporary(place)
        place.rename(old)
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
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(second))


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading. Raises Corrupt if it is a folder, a device, a pipe or a socket, or a link to one.

    Nothing blocks: another kind of file is told before it is opened, and one that was exchanged meanwhile after.
    """
    _check_regular(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        _check_regular(path, os.fstat(descriptor))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_to_append(path: Path) -> BinaryIO:
    """The file, made if need be, open for reading and for writing at its end: itself, and not what a link leads to.

    Raises OSError, and Corrupt as `open_regular`.
    """
    descriptor = os.open(
        path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644
    )
    try:
        _check_regular(path, os.fstat(descriptor))
        return open(descriptor, "a+b")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise Corrupt(f"{path}: is {kind}, and not a regular file; replace or remove it")


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file. Raises Corrupt if it is larger, before it is read."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise Corrupt(f"{path}: is {size:,} bytes, and at most {most_bytes:,} are read; replace or remove it")
        return file.read(size)


def check_named(path: Path, remedy: str, option: str | None = None) -> None:
    """Check a path that the command line names, by an option or as an argument.

    Raises UsageError with the remedy if nothing is there, Corrupt if there is a link that leads nowhere, or if it cannot
    be looked at.
    """
    what = f"{option}: {path}" if option else f"{path}:"
    try:
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise Corrupt(f"{what} cannot be read ({error.strerror}); mend that, or give another") from error
        for part in (path, *path.parents):
            if os.path.islink(part) and not os.path.exists(part):
                raise Corrupt(
                    f"{what} cannot be read ({part.name} is a link that leads nowhere); mend that, or give another"
                ) from error
        raise UsageError(f"{what} does not exist; {remedy}") from error


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

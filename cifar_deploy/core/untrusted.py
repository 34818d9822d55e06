"""What comes from outside is read as far as it is a regular file, of a bounded size, where it should be.

A link to a device never ends, a pipe blocks, and a name in somebody else's record may lead anywhere.
"""

import errno
import hashlib
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path

from cifar_deploy.core.errors import Corrupt, UsageError

_PART_BYTES = 2**20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading. Raises Corrupt if it is a folder, a device, a pipe or a socket, or a link to one.

    Nothing blocks: another kind of file is told before it is opened, and one that was exchanged meanwhile after.
    """
    check_regular(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        check_regular(path, os.fstat(descriptor))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path, status: os.stat_result) -> None:
    """Raises Corrupt, with the kind, unless `status` is a regular file's."""
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
    except (OSError, NotImplementedError):
        shutil.copyfile(source, target, follow_symlinks=False)


def sha256(path: Path) -> str:
    """Raises Corrupt if it is no regular file."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()

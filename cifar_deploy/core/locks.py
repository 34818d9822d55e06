"""Locks on files, which outlive a killed parent for as long as its workers run."""

import contextlib
import fcntl
import os
import platform
import re
import stat
from pathlib import Path

from cifar_deploy.core import machine
from cifar_deploy.core.errors import Busy

# Descriptors that every worker inherits.
INHERITED: set[int] = set()

_SIGNED = re.compile(r"process (\d+) on ([\w.-]+), ([\dT:+-]+)")


class Lock:
    """An exclusive lock on a file, gone when its last holder is: this process and the workers that inherit it.

    The file says who holds it. It is written to as the very file that it is: no link leads it elsewhere.
    """

    def __init__(self, path: Path, busy: str | None) -> None:
        """Waits for the lock if `busy` is None, else raises Busy with that message, and the holder in it, if it is held."""
        self._path = path
        self._busy = busy

    def __enter__(self) -> "Lock":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        while not self._is_there():  # its holder deleted it while this process waited
            os.close(self._descriptor)
            self._open()
        self._sign()
        INHERITED.add(self._descriptor)
        return self

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if self._busy else 0))
        except BlockingIOError:
            what, separator, remedy = str(self._busy).rpartition("; ")
            busy = Busy(f"{what}{self._holder()}{separator}{remedy}")
            os.close(self._descriptor)
            raise busy from None

    def _is_there(self) -> bool:
        """Whether the file that is locked is the one of that name."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self._path))
        return False

    def __exit__(self, *_: object) -> None:
        INHERITED.discard(self._descriptor)
        os.close(self._descriptor)

    def _sign(self) -> None:
        signature = f"process {os.getpid()} on {platform.node()}, {machine.now()}\n"
        status = os.fstat(self._descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, and its holder is not known
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, signature.encode(), 0)

    def _holder(self) -> str:
        """Who holds the lock, as far as the file says."""
        with contextlib.suppress(OSError):
            text = os.pread(self._descriptor, 300, 0).decode(errors="replace").strip()
            if signed := _SIGNED.fullmatch(text):
                return f" (process {signed[1]} on {signed[2]}, since {signed[3]})"
        return ""

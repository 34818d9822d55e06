"""Where a device's results land: results.jsonl and raw/, as they come, until they are imported.

What is there is a whole start of what the device has: of results.jsonl whole lines, in raw/ whole files.
"""

import base64
import binascii
import contextlib
import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_deploy.core import files
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.frames import Frame
from cifar_deploy.remote.home import RAW, RESULTS

_RAW = re.compile(rf"{RAW}/[A-Za-z0-9][A-Za-z0-9.+-]{{0,120}}\.npz")
_LARGEST_BYTES = 2**30
_MOST_FILES = 100_000


class Landing:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / RESULTS
        self._received_bytes = 0
        self._files: set[str] = set()

    def has(self) -> Mapping[str, Any]:
        """For the device, so that it goes on from there."""
        content = self.results.read_bytes() if self.results.exists() else b""
        raw = sorted(path.name for path in (self.folder / RAW).glob("*.npz"))
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "raw": raw}

    def take(self, frame: Frame) -> bool:
        """Whether results became whole by this frame (see remote.home). Raises DeployError for what is not as it should be."""
        path = self._path(frame.get("file", str))
        with files.errors_named(path):
            if frame.kind == "part":
                self._write(path, frame)
                return False
            self._check(path, frame)
        return path == self.results

    def _path(self, name: str) -> Path:
        if name != RESULTS and not _RAW.fullmatch(name):
            raise DeployError(f"the device sends a file {name[:80]!r}, which is none of its results")
        return self.folder / name

    def _write(self, path: Path, frame: Frame) -> None:
        try:
            content = base64.b64decode(frame.get("base64", str), validate=True)
        except binascii.Error as error:
            raise DeployError(f"the device sends a part of {path.name} that is no base64") from error
        self._received_bytes += len(content)
        if self._received_bytes > _LARGEST_BYTES:
            raise DeployError(f"the device sends more than {_LARGEST_BYTES:,} bytes of results")
        self._files.add(path.name)
        if len(self._files) > _MOST_FILES:
            raise DeployError(f"the device sends more than {_MOST_FILES:,} files")
        place, offset = self._part(path), frame.get("offset", int)
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "r+b" if place.exists() else "x+b") as file:
            if not 0 <= offset <= file.seek(0, 2):
                raise DeployError(f"the device sends {path.name} from byte {offset:,} on, which is not the next")
            file.truncate(offset)
            file.seek(offset)
            file.write(content)

    def _check(self, path: Path, frame: Frame) -> None:
        place = self._part(path)
        content = place.read_bytes() if place.exists() else b""
        if (len(content), hashlib.sha256(content).hexdigest()) != (frame.get("bytes", int), frame.get("sha256", str)):
            place.unlink(missing_ok=True)
            raise DeployError(f"{path.name} arrived with another sha256; give the same command again")
        files.sync(place)
        if place != path:
            place.replace(path)

    def _part(self, path: Path) -> Path:
        """Lines are whole as they come; a file of samples gets its name when it is."""
        return path if path == self.results else path.with_name(f"{path.name}.part")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

"""The two newest versions of a file that is written again and again: if the newest is damaged, there is the one before.

    state.1.pt, state.2.pt        the versions
    state.1.json, state.2.json    the size and hash of each, written after it: what has no record does not count

A flipped bit passes every parser (200 of 200 were accepted): only the hash finds it, before anything is parsed.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cifar_deploy.core import codec, files
from cifar_deploy.core.errors import Corrupt, is_out_of_memory
from cifar_deploy.core.records import File
from cifar_deploy.core.store import described, verified

T = TypeVar("T")


class Generations:
    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        self._folder = folder
        self._stem = stem
        self._suffix = suffix
        self._good: int | None = None  # the version that was last written, or could be read

    def write(self, save: Callable[[Path], None]) -> None:
        """Add a version, by `save(path)`. Kept are this one and the last good one before it, nothing else.

        Where versions may be there already, `newest` has to be called first. Raises Unwritable; what was there before stays.
        """
        known = self._numbers()
        number = 1 + max(known, default=0)
        with files.atomic_write(self._version(number)) as part:
            save(part)
        codec.save(self._record(number), described(self._version(number)))
        before, self._good = self._good, number
        for old in known:
            if old != before:
                # Its record first: a version without one does not count, and the other way round would be damage.
                self._record(old).unlink(missing_ok=True)
                self._version(old).unlink(missing_ok=True)

    def newest(self, load: Callable[[Path], T], on_damage: Callable[[str], None]) -> T | None:
        """What `load(path)` makes of the newest version that is whole and that it does not fail for; None if none is there.

        `on_damage` is told of each that is passed over. Raises Corrupt if versions are there, and none is any good, and the
        system's own error if that is what keeps one from being read.
        """
        recorded = [number for number in self._numbers() if self._record(number).exists()]
        for number in sorted(recorded, reverse=True):
            path = self._version(number)
            try:
                loaded = load(verified(path, codec.load(File, self._record(number), "delete it"), "delete it"))
            except Corrupt as error:
                on_damage(str(error).split(";")[0])
            except Exception as error:  # whatever a version of another program makes the loader raise
                if isinstance(error, OSError) or is_out_of_memory(error):
                    raise
                on_damage(f"{path}: cannot be read ({type(error).__name__})")
            else:
                self._good = number
                return loaded
        if recorded:
            raise Corrupt(f"{self._folder}: none of the saved versions can be read; start over with --force")
        return None

    def _numbers(self) -> list[int]:
        """Of all that are there, whole or not."""
        name = re.compile(rf"{re.escape(self._stem)}\.([0-9]+)(\.json|{re.escape(self._suffix)})")
        found = (name.fullmatch(path.name) for path in self._folder.glob(f"{self._stem}.*"))
        return sorted({int(match[1]) for match in found if match})

    def _version(self, number: int) -> Path:
        return self._folder / f"{self._stem}.{number}{self._suffix}"

    def _record(self, number: int) -> Path:
        return self._folder / f"{self._stem}.{number}.json"

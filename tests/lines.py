"""A results file as whoever made it could have written it: changed, with checksums and keys that fit."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from cifar_deploy.core import sealing
from cifar_deploy.core.journal import POOLED

Way: TypeAlias = tuple[str, ...]


class WholeLines:
    """The runs of a results file as JSON, each with all that it refers to in it, to be changed and written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = 0
        self._kinds: dict[Way, str] = {}  # of what is referred to, by its place below a run
        things, runs = {}, []
        for line in path.read_text().splitlines():
            record = sealing.opened(json.loads(line))
            self._version, kind = record.pop("version"), record.pop("kind")
            if kind in POOLED:
                things[record.pop("key")] = kind, record
            else:
                runs.append(record)
        self.records = [self._with_all(run, things, ()) for run in runs]

    def _with_all(self, value: Any, things: dict[str, tuple[str, Any]], way: Way) -> Any:
        if not isinstance(value, dict):
            return copy.deepcopy(value)
        if value.keys() == {"ref"}:
            self._kinds[way], value = things[value["ref"]]
        return {name: self._with_all(item, things, (*way, name)) for name, item in value.items()}

    def write(self) -> None:
        lines = dict.fromkeys(line for record in self.records for line in self._lines(record))
        self._path.write_text("".join(f"{line}\n" for line in lines))

    def _lines(self, record: Any) -> Iterator[str]:
        record = copy.deepcopy(record)
        for way in sorted(self._kinds, key=len, reverse=True):  # a checkpoint is in the artifact that refers to it
            *before, last = way
            holder = record
            for name in before:
                holder = holder.get(name) if isinstance(holder, dict) else None
            if isinstance(holder, dict) and isinstance(holder.get(last), dict):
                key = sealing.digest(holder[last])[:16]
                yield self._line({"kind": self._kinds[way], "key": key, **holder[last]})
                holder[last] = {"ref": key}
        yield self._line({"kind": "run", **record})

    def _line(self, fields: dict[str, Any]) -> str:
        return json.dumps(sealing.sealed({"version": self._version, **fields}))

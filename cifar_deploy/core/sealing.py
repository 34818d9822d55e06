"""Records on disk: JSON with a checksum of its own.

A flipped bit passes every parser. The checksum finds damage; it does not prove who wrote a record.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cifar_deploy.core import files, untrusted
from cifar_deploy.core.errors import Corrupt

# 1,000 times the largest record of our own. Parsed JSON can take 100 times its bytes.
_LARGEST_RECORD = 16 * 2**20

# A record's first field says that it has a checksum, and its last one holds it: no cut takes both and leaves a record.
_INTEGRITY, _ALGORITHM = "integrity", "sha256"

_CHECKSUM = "checksum"


def write_json(path: Path, value: Any) -> None:
    files.write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises Corrupt if the file is not JSON, or too large for a record, FileNotFoundError if it is not there."""
    return _read(path, parsed, "delete it and run the command again")


def parsed(text: bytes) -> Any:
    """JSON in UTF-8, no field twice in a record. Raises Corrupt, which names no file, for anything else."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_fields)
    except ValueError as error:
        raise Corrupt(f"is not valid JSON ({error})") from error
    except RecursionError:
        raise Corrupt("is not valid JSON (nested too deeply)") from None


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # Of two lines whose middle was lost, json would take the second for the whole, and its checksum would be right.
        raise Corrupt("is damaged (it has a field twice)")
    return fields


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum."""
    return {_INTEGRITY: _ALGORITHM, **record, _CHECKSUM: digest(record)}


def opened(record: Any) -> Any:
    """The record without its checksum. Raises Corrupt if it differs from the one that was sealed.

    A record of an early version has no checksum and is returned unchanged.
    """
    if not isinstance(record, dict) or not {_INTEGRITY, _CHECKSUM} & record.keys():
        return record
    content = {name: value for name, value in record.items() if name not in (_INTEGRITY, _CHECKSUM)}
    if (record.get(_INTEGRITY), record.get(_CHECKSUM)) != (_ALGORITHM, digest(content)):
        raise Corrupt("is damaged (its checksum differs)")
    return content


def digest(record: Mapping[str, Any]) -> str:
    """The sha256 of a record's fields and values, in hex. Raises Corrupt if it is nested too deeply."""
    try:
        # The checksum covers values, not text: spaces and the order of fields do not matter.
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise Corrupt("is nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    write_json(path, sealed(record))


def read_record(path: Path, remedy: str) -> Any:
    """What `write_record` wrote.

    Raises Corrupt, with the remedy, if it is damaged or too large for a record, FileNotFoundError if it is not there.
    """
    return _read(path, lambda content: opened(parsed(content)), remedy)


def _read(path: Path, parse: Callable[[bytes], Any], remedy: str) -> Any:
    content = untrusted.read_bytes(path, _LARGEST_RECORD)
    try:
        return parse(content)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}; {remedy}") from error

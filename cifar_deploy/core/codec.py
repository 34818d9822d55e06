"""Records to JSON and back, checked field by field against their types."""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

from cifar_deploy.core import sealing
from cifar_deploy.core.errors import Corrupt

T = TypeVar("T")


class Check(Protocol):
    """What a field's type cannot say. It stands in the field's annotation, and `from_json` asks it."""

    def fault(self, value: Any) -> str | None:
        """Why `value` cannot be the field's, or None."""


def to_json(value: Any) -> Any:
    """Records, tuples and mappings as what `json` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def load(kind: type[T], path: Path, remedy: str) -> T:
    """The record in a file that `sealing.write_record` wrote.

    Raises Corrupt, with the file's name, the cause and `remedy`, if it is damaged or of another kind; FileNotFoundError
    if it is not there.
    """
    record = sealing.read_record(path, remedy)
    try:
        return from_json(kind, record)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}; {remedy}") from error


def from_json(kind: type[T], value: Any) -> T:
    """The reverse of `to_json`, for a type made of records, tuples, mappings, options and plain values.

    Raises Corrupt, naming the field, where the value does not fit the type or the type's `Check`.
    """
    return typing.cast(T, _from_json(kind, value, kind.__name__ if isinstance(kind, type) else str(kind)))


def _from_json(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        plain, *checks = inner
        found = _from_json(plain, value, where)
        for fault in filter(None, (check.fault(found) for check in checks)):
            raise Corrupt(f"{where}: {_short(value)} {fault}")
        return found
    if origin in (types.UnionType, typing.Union):
        return _of_union(inner, value, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if origin is tuple:
        if isinstance(value, list):
            return tuple(_from_json(inner[0], item, where) for item in value)
    elif origin is list:
        if isinstance(value, list):
            return [_from_json(inner[0], item, where) for item in value]
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {
                _from_json(str, key, where): _from_json(inner[1], item, f"{where}.{key}") for key, item in value.items()
            }
    elif origin is Literal:
        if isinstance(value, (str, int)) and value in inner:
            return value
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                if math.isfinite(number := float(value)):
                    return number
    elif kind is Path:
        if isinstance(value, str):
            return Path(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LARGEST_INT_BITS:
            return value
    elif kind is str:
        # JSON can hold half a character (a lone surrogate), which no file of text can.
        if isinstance(value, str) and value == value.encode("utf-8", "replace").decode():
            return value
    elif isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise Corrupt(f"{where}: {_short(value)} is not {_named(kind)}")


# As in every other format; a larger one overflows wherever it meets a float.
_LARGEST_INT_BITS = 63


def _of_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """As the first of the options that takes it; else the fault that the last of those tells that is not merely None."""
    told: Corrupt | None = None
    for option in options:
        try:
            return _from_json(option, value, where)
        except Corrupt as error:
            if option is not type(None):
                told = error
    assert told
    raise told


def _record(kind: type, value: Any, where: str) -> Any:
    fields = _fields(kind)
    if not isinstance(value, dict):
        raise Corrupt(f"{where}: {_short(value)} is not a record")
    if unknown := sorted(value.keys() - fields.keys()):
        raise Corrupt(f"{where}: not a record of this version (it has {', '.join(map(_short, unknown[:3]))})")
    missing = {f.name for f in dataclasses.fields(kind) if _is_needed(f)} - value.keys()
    if missing:
        raise Corrupt(f"{where}: lacks {', '.join(sorted(missing))}")
    return kind(**{name: _from_json(fields[name], item, f"{where}.{name}") for name, item in value.items()})


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _short(value: Any) -> str:
    return f"{str(value)[:80]!r}"


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


_hints: dict[type, dict[str, Any]] = {}


def _fields(kind: type) -> dict[str, Any]:
    if kind not in _hints:
        _hints[kind] = typing.get_type_hints(kind, include_extras=True)
    return _hints[kind]

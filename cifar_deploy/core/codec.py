"""Records to JSON and back, checked field by field against their types."""

import dataclasses
import functools
import json
import math
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from cifar_deploy.core import sealing, upgrades
from cifar_deploy.core.errors import Corrupt

T = TypeVar("T")

# Given a record, what stands for it in JSON, or None: the record itself does.
Refer: TypeAlias = Callable[[Any], Any]


class Check(Protocol):
    """What a field's type cannot say. It stands in the field's annotation, and `from_json` asks it."""

    def fault(self, value: Any) -> str | None:
        """Why `value` cannot be the field's, or None."""


class Pool(Protocol):
    """Records that JSON refers to instead of repeating them."""

    kinds: frozenset[type]

    def record(self, kind: type, value: Any, read: Callable[[Any], Any]) -> Any:
        """The record of a kind that `value` refers to, or that `read` makes of a `value` that is no reference.

        Raises Corrupt.
        """


def to_json(value: Any, refer: Refer | None = None) -> Any:
    """Records, tuples and mappings as what `json` writes. A NamedTuple is an object, as a dataclass is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if refer and (reference := refer(value)) is not None:
            return reference
        return fields_to_json(value, refer)
    if isinstance(value, Mapping):
        return {str(key): to_json(item, refer) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict(), refer)
    if isinstance(value, (list, tuple)):
        return [to_json(item, refer) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def fields_to_json(record: Any, refer: Refer | None = None) -> dict[str, Any]:
    """As `to_json`, of a record that nothing else stands for."""
    return {field.name: to_json(getattr(record, field.name), refer) for field in dataclasses.fields(record)}


def save(path: Path, record: Any) -> None:
    """Write a record with a checksum and the version that it is of."""
    sealing.write_record(path, {"version": upgrades.VERSION, **to_json(record)})


def warn(path: Path, note: str) -> None:
    warnings.warn(f"{path}: {note}")


def load(kind: type[T], path: Path, remedy: str, tell: Callable[[Path, str], None] = warn) -> T:
    """The record in a file that `save` or `sealing.write_record` wrote. `tell` hears what was set aside of a newer one.

    Raises Corrupt, with the file's name, the cause and `remedy`, if it is damaged or of another kind; FileNotFoundError
    if it is not there.
    """
    record, version = sealing.read_record(path, remedy), upgrades.UNNUMBERED
    unknown: list[str] = []
    try:
        if isinstance(record, dict):
            version = record.pop("version", version)
            record = upgrades.upgraded_record(kind.__name__.lower(), version, record)
        found = from_json(kind, record, unknown=unknown)
    except Corrupt as error:
        if newer := upgrades.newer(version):
            raise Corrupt(f"{path}: {newer}: {error}; update cifar-deploy") from error
        raise Corrupt(f"{path}: {error}; {remedy}") from error
    if note := upgrades.note(version, unknown):
        tell(path, note)
    return found


def from_json(kind: type[T], value: Any, *, unknown: list[str] | None = None, pool: Pool | None = None) -> T:
    """The reverse of `to_json`, for a type made of records, tuples, mappings, options and plain values.

    A field that a record's type does not have is a fault; with `unknown` it is added there and set aside. Records of
    the kinds of `pool` are looked up there.

    Raises Corrupt, naming the field, where the value does not fit the type or the type's `Check`.
    """
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    try:
        return typing.cast(T, _reader(kind)(value, _Context(unknown, pool)))
    except _Misfit as error:
        raise Corrupt(f"{'.'.join((name, *reversed(error.way)))}: {error.text}") from None
    except RecursionError:  # while a value is shown
        raise Corrupt(f"{name}: is nested too deeply") from None


class _Context(NamedTuple):
    unknown: list[str] | None
    pool: Pool | None


class _Misfit(Exception):
    """A value that does not fit. `way` leads to it, its last field first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.way: list[str] = []


_Reader: TypeAlias = Callable[[Any, _Context], Any]


def _reader(kind: Any) -> _Reader:
    """What reads values of a type. Those of records are made once: to look at a type takes longer than to read a value."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda value, context: value
    if origin is Annotated:
        return _checked(_reader(inner[0]), inner[1:])
    if origin in (types.UnionType, typing.Union):
        return _of_union(inner)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind)
    if origin in (tuple, list):
        return _sequence(kind, origin, _reader(inner[0]))
    if origin in (dict, Mapping):
        return _mapping(kind, _reader(inner[1]))
    if origin is Literal:
        return _plain(kind, lambda value: isinstance(value, (str, int)) and value in inner)
    if kind is float:
        return _float
    if kind is Path:
        return lambda value, context: Path(_path(value, context))
    if kind is int:
        return _plain(kind, _is_int)
    if kind is str:
        return _text
    return _plain(
        kind,
        lambda value: (
            isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        ),
    )


def _plain(kind: Any, fits: Callable[[Any], bool]) -> _Reader:
    """For a value that is what its JSON is."""

    def read(value: Any, context: _Context) -> Any:
        if fits(value):
            return value
        raise _no(value, kind)

    return read


# As in every other format; a larger one overflows wherever it meets a float.
_LARGEST_INT_BITS = 63


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LARGEST_INT_BITS


def _is_text(value: Any) -> bool:
    # JSON can hold half a character (a lone surrogate), which no file of text can.
    return isinstance(value, str) and (value.isascii() or value == value.encode("utf-8", "replace").decode())


_text, _path = _plain(str, _is_text), _plain(Path, lambda value: isinstance(value, str))


def _float(value: Any, context: _Context) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise _no(value, float)


def _checked(read: _Reader, checks: Sequence[Check]) -> _Reader:
    def read_checked(value: Any, context: _Context) -> Any:
        found = read(value, context)
        for check in checks:
            if fault := check.fault(found):
                raise _Misfit(f"{_short(value)} {fault}")
        return found

    return read_checked


def _sequence(kind: Any, make: Callable[[Iterable[Any]], Any], item: _Reader) -> _Reader:
    def read(value: Any, context: _Context) -> Any:
        if not isinstance(value, list):
            raise _no(value, kind)
        return make([item(one, context) for one in value])

    return read


def _mapping(kind: Any, item: _Reader) -> _Reader:
    def read(value: Any, context: _Context) -> Any:
        if not isinstance(value, dict):
            raise _no(value, kind)
        found = {}
        for key, one in value.items():
            _text(key, context)
            try:
                found[key] = item(one, context)
            except _Misfit as error:
                error.way.append(key)
                raise
        return found

    return read


def _tag(kind: Any) -> str | None:
    """The one value of a record's field `kind`, if it has such a field: what tells it from the others of a union."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    values = typing.get_args(typing.get_type_hints(kind).get("kind"))
    return values[0] if len(values) == 1 else None


def _of_tagged(readers: Mapping[str, _Reader], with_none: bool) -> _Reader:
    """As the one whose `kind` the value says."""

    def read(value: Any, context: _Context) -> Any:
        if value is None and with_none:
            return None
        if not isinstance(value, dict):
            raise _Misfit(f"{_short(value)} is not a record")
        if not isinstance(tag := value.get("kind"), str) or tag not in readers:
            raise _Misfit(f"its kind {_short(tag)} is none of {', '.join(readers)}")
        return readers[tag](value, context)

    return read


def _of_union(options: tuple[Any, ...]) -> _Reader:
    """As the first of the options that takes it; else the fault that the last of those tells that is not merely None."""
    with_none = type(None) in options
    options = tuple(option for option in options if option is not type(None))
    tags = {_tag(option): option for option in options}
    if len(tags) == len(options) > 1 and None not in tags:
        return _of_tagged({str(tag): _reader(option) for tag, option in tags.items()}, with_none)
    readers = [_reader(option) for option in options]

    def read(value: Any, context: _Context) -> Any:
        if value is None and with_none:
            return None
        if len(readers) == 1:
            return readers[0](value, context)
        told: _Misfit | None = None
        # A field that is unknown to one may be what tells it from another: taken is whichever sets aside the least.
        nearest: tuple[Any, list[str]] | None = None
        for reader in readers:
            unknown: list[str] | None = None if context.unknown is None else []
            try:
                found = reader(value, context._replace(unknown=unknown))
            except _Misfit as error:
                # The fault that lies the deepest is that of the kind which the value comes nearest to.
                if told is None or len(error.way) >= len(told.way):
                    told = error
                continue
            if not unknown:
                return found
            if nearest is None or len(unknown) < len(nearest[1]):
                nearest = (found, unknown)
        if nearest is not None and context.unknown is not None:
            context.unknown.extend(nearest[1])
            return nearest[0]
        assert told
        raise told

    return read


@functools.cache
def _record(kind: type) -> _Reader:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields}
    needed = {field.name for field in fields if _is_needed(field)}

    def read(value: Any, context: _Context) -> Any:
        if not isinstance(value, dict):
            raise _Misfit(f"{_short(value)} is not a record")
        unknown = value.keys() - readers.keys()
        if unknown and context.unknown is None:
            raise _Misfit(f"has unknown fields ({_some(unknown)})")
        if missing := needed - value.keys():
            also = f" (and has {_some(unknown)})" if unknown else ""
            raise _Misfit(f"lacks {', '.join(sorted(missing))}{also}")
        if unknown and context.unknown is not None:
            context.unknown.extend(f"{kind.__name__}.{_plainly(name)}" for name in sorted(unknown))
        values = {}
        for name, item in value.items():
            if name in readers:
                try:
                    values[name] = readers[name](item, context)
                except _Misfit as error:
                    error.way.append(name)
                    raise
        return kind(**values)

    def read_pooled(value: Any, context: _Context) -> Any:
        if context.pool is None or kind not in context.pool.kinds:
            return read(value, context)
        try:
            return context.pool.record(kind, value, lambda whole: read(whole, context))
        except Corrupt as error:
            raise _Misfit(str(error)) from error

    return read_pooled


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _no(value: Any, kind: Any) -> _Misfit:
    return _Misfit(f"{_short(value)} is not {_in_words(kind)}")


_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    tuple: "a list",
    list: "a list",
    dict: "an object",
    Mapping: "an object",
}


def _in_words(kind: Any) -> str:
    """A type as the people say who read JSON, and not Python."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return _WORDS.get(origin or kind) or str(getattr(kind, "__name__", kind))


def _short(value: Any) -> str:
    """The beginning of a value, as it stands in the file."""
    return repr(value[:80]) if isinstance(value, str) else json.dumps(value, default=str)[:80]


def _some(names: Iterable[str]) -> str:
    return ", ".join(map(_short, sorted(names)[:3]))


def _plainly(name: str) -> str:
    """A name that somebody else has given, as it can be shown."""
    return name if name.isidentifier() and len(name) <= 80 else _short(name)

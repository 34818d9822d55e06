"""Types to JSON Schema (draft 2020-12): what `core.codec.to_json` makes of values of them.

A list holds items of one kind, and the keys of an object are names: a tuple of unlike items has no schema, and neither
has a mapping whose keys are not strings. A number of which nothing is known but its type may be null, which stands for
infinity and NaN.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cifar_deploy.core.records import NotEmpty, Within

Schema: TypeAlias = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},
}


def schema_of(kind: type) -> Schema:
    """The schema of a record. Raises TypeError if values of a type in it have none."""
    definitions: dict[str, tuple[type, Schema]] = {}
    whole = _record(kind, definitions)
    found = {name: schema for name, (_, schema) in sorted(definitions.items())}
    return {"$schema": _DRAFT, "title": kind.__name__, **whole, **({"$defs": found} if found else {})}


_Definitions: TypeAlias = dict[str, tuple[type, Schema]]


def _schema(kind: Any, definitions: _Definitions) -> Schema:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if origin is Annotated:
        return _checked(inner[0], inner[1:], definitions)
    if origin in (types.UnionType, typing.Union):
        return _union(inner, definitions)
    if origin is Literal:
        return {"const": inner[0]} if len(inner) == 1 else {"enum": list(inner)}
    if origin is list or (origin is tuple and inner[1:] == (...,)):
        return {"type": "array", "items": _schema(inner[0], definitions)}
    if origin in (dict, Mapping) and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], definitions)}
    if _fields(kind):
        return _reference(kind, definitions)
    raise TypeError(f"{kind}: has no JSON Schema")


def _fields(kind: Any) -> list[str]:
    """Of a dataclass or a NamedTuple; [] of anything else."""
    if not isinstance(kind, type):
        return []
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(getattr(kind, "_fields", ()))


def _reference(kind: type, definitions: _Definitions) -> Schema:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = kind, {}  # so that a record may hold its like
        definitions[name][1].update(_record(kind, definitions))
    if definitions[name][0] is not kind:
        raise TypeError(f"{name}: is the name of two types")
    return {"$ref": f"#/$defs/{name}"}


def _record(kind: type, definitions: _Definitions) -> Schema:
    """All fields are there: `to_json` writes those that have their defaults, too."""
    hints, names = typing.get_type_hints(kind, include_extras=True), _fields(kind)
    described = (kind.__doc__ or "").partition("\n")[0].strip()
    return {
        # A class without a docstring has its signature for one.
        **({"description": described} if described and not described.startswith(f"{kind.__name__}(") else {}),
        "type": "object",
        "properties": {name: _schema(hints[name], definitions) for name in names},
        "required": names,
    }


def _union(options: tuple[Any, ...], definitions: _Definitions) -> Schema:
    found = [
        {"type": "null"} if option is type(None) else _schema(option, definitions) for option in dict.fromkeys(options)
    ]
    if not all(schema.keys() == {"type"} for schema in found):
        return {"anyOf": found}
    names = [
        name for schema in found for name in ([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    ]
    return {"type": list(dict.fromkeys(names))}


def _checked(kind: Any, checks: tuple[Any, ...], definitions: _Definitions) -> Schema:
    """With what JSON Schema can say of the checks."""
    found = _schema(kind, definitions)
    for check in checks:
        if isinstance(check, Within):
            found["type"] = "integer" if kind is int else "number"  # a finite one, and so never null
            low = "exclusiveMinimum" if check.open else "minimum"
            found |= {
                key: limit for key, limit in ((low, check.least), ("maximum", check.most)) if math.isfinite(limit)
            }
        elif isinstance(check, NotEmpty):
            found["minItems"] = 1
    return found

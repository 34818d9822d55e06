"""A schema says what to_json makes of a type, and a type whose JSON would be hard to read has none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from cifar_deploy.core.codec import to_json
from cifar_deploy.core.records import NotEmpty, Within
from cifar_deploy.core.schema import schema_of
from tests.conftest import need_package


class Place(NamedTuple):
    """Where it is."""

    name: str
    floor: int | None = None


@dataclass(frozen=True)
class Cat:
    lives: Annotated[int, Within(least=0, most=9)]
    kind: Literal["cat"] = "cat"


@dataclass(frozen=True)
class Dog:
    """A dog.

    It barks.
    """

    friends: "tuple[Cat | Dog, ...]" = ()
    kind: Literal["dog"] = "dog"


@dataclass(frozen=True)
class House:
    place: Place
    pets: Annotated[tuple[Cat | Dog, ...], NotEmpty()]
    rent: Annotated[float, Within(least=0, open=True)]
    weight: float
    words: Mapping[str, Literal["big", "small"]]
    key: Path | None
    is_old: bool = False


HOUSE = House(
    place=Place(name="here"),
    pets=(Cat(lives=9), Dog(friends=(Dog(),))),
    rent=0.5,
    weight=1.0,
    words={"one": "big"},
    key=None,
)


def test_a_schema_says_what_the_type_says() -> None:
    schema = schema_of(House)
    properties, definitions = schema["properties"], schema["$defs"]
    assert schema["required"] == ["place", "pets", "rent", "weight", "words", "key", "is_old"]
    assert properties["rent"] == {"type": "number", "exclusiveMinimum": 0}
    assert properties["weight"] == {"type": ["number", "null"]}, "infinity is null"
    assert properties["words"] == {"type": "object", "additionalProperties": {"enum": ["big", "small"]}}
    assert properties["key"] == {"type": ["string", "null"]} and properties["is_old"] == {"type": "boolean"}
    assert properties["pets"] == {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]},
        "minItems": 1,
    }
    assert definitions["Cat"]["properties"]["lives"] == {"type": "integer", "minimum": 0, "maximum": 9}
    assert definitions["Dog"]["properties"]["kind"] == {"const": "dog"}
    assert definitions["Place"]["properties"]["floor"] == {"type": ["integer", "null"]}
    assert {name: each.get("description") for name, each in definitions.items()} == {
        "Cat": None,
        "Dog": "A dog.",
        "Place": "Where it is.",
    }


def test_what_to_json_makes_is_valid_and_what_does_not_fit_is_not() -> None:
    need_package("jsonschema")
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema_of(House))
    written = json.loads(json.dumps(to_json(HOUSE)))
    assert written["place"] == {"name": "here", "floor": None}
    validator.validate(written)
    for field, wrong in (("rent", 0), ("pets", []), ("words", {"one": "huge"}), ("place", ["here", None]), ("key", 1)):
        assert not validator.is_valid({**written, field: wrong}), field
    assert not validator.is_valid({name: value for name, value in written.items() if name != "key"})


def a_record(kind: Any) -> type:
    return dataclass(type("Record", (), {"__annotations__": {"field": kind}}))


@pytest.mark.parametrize(
    "kind",
    [tuple[int, str], tuple[int, int], Mapping[Place, str], dict[int, str], Any, object, tuple[tuple[int, int], ...]],
    ids=str,
)
def test_a_positional_list_and_a_key_that_is_no_name_have_no_schema(kind: Any) -> None:
    with pytest.raises(TypeError, match="has no JSON Schema"):
        schema_of(a_record(kind))


def test_two_types_of_one_name_are_refused() -> None:
    first, second = a_record(int), a_record(str)
    both = dataclass(type("Both", (), {"__annotations__": {"first": first, "second": second}}))
    with pytest.raises(TypeError, match="Record: is the name of two types"):
        schema_of(both)

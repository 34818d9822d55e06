"""Records go to JSON and back unchanged, and what does not fit is named."""

import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from cifar_deploy.core import codec, sealing, upgrades
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import (
    Checkpoint,
    Data,
    Failure,
    Job,
    Positive,
    Recipe,
    Run,
    Share,
    Time,
    Training,
    Trial,
    UnderIsa,
)
from tests.probes import a_checkpoint, a_job, a_run


def through_text(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value)))


@pytest.mark.parametrize("failure", [None, Failure(kind="timed out", reason="no progress", log="…\nend")])
def test_a_block_comes_back_equal(failure: Failure | None) -> None:
    result = a_run(failure=failure)
    back = from_json(Run, through_text(result))
    assert back == result
    checkpoint = back.job.artifact.checkpoint
    assert checkpoint and isinstance(checkpoint.training.data.classes, tuple)
    assert isinstance(checkpoint.curve, tuple)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int | float | None, 3),
        (int | float | None, 0.5),
        (int | float | None, None),
        (Mapping[str, int | None], {"a": 1, "b": None}),
        (dict[str, tuple[float, ...]], {"a": (0.5,)}),
        (tuple[str, ...], ("a", "b")),
        (list[str], ["a"]),
        (Literal["a", "b"], "b"),
        (Path, Path("a/b")),
        (Any, {"a": [1]}),
        (type(None), None),
    ],
    ids=str,
)
def test_a_value_comes_back_equal(kind: Any, value: Any) -> None:
    back = from_json(kind, through_text(value))
    assert back == value and type(back) is type(value)


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    assert isinstance(from_json(float, 3), float)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Literal["a"], "b"),
        (Literal["a"], ["a"]),
        (int, "1"),
        (int, True),
        (int, 2**64),
        (float, "1"),
        (float, float("nan")),
        (float, 10**400),
        (str, "half a character: \ud800"),
        (dict[str, int], {"\ud800": 1}),
        (int | None, "x"),
        (tuple[int, ...], 5),
        (Share, 1.1),
        (Positive, 0),
        (Positive | None, 0),
        (Time, "2026-01-01T00:00:00"),
    ],
    ids=ascii,
)
def test_a_value_of_another_type_is_corrupt(kind: Any, value: Any) -> None:
    with pytest.raises(Corrupt):
        from_json(kind, value)


def test_a_missing_field_is_named() -> None:
    record = through_text(a_checkpoint().training.data)
    del record["classes"]
    with pytest.raises(Corrupt, match="Data: lacks classes"):
        from_json(Data, record)


def test_an_unknown_field_is_a_fault_between_a_worker_and_its_parent() -> None:
    record = {**through_text(a_checkpoint().training.data), "colour": "red"}
    with pytest.raises(Corrupt, match=r"Data: has unknown fields \('colour'\)"):
        from_json(Data, record)


def test_an_unknown_field_of_a_newer_record_is_set_aside_and_named() -> None:
    record = through_text(a_checkpoint())
    record["training"]["recipe"]["colour"] = record["curve"][1]["mood"] = "red"
    unknown: list[str] = []
    assert from_json(Checkpoint, record, unknown=unknown) == a_checkpoint()
    assert unknown == ["Recipe.colour", "Epoch.mood"]


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    pass


@dataclass(frozen=True, kw_only=True)
class Limited:
    bytes: int
    where: str = "above"


@pytest.mark.parametrize("kind", [Ordinary | Limited, Limited | Ordinary], ids=str)
@pytest.mark.parametrize("value", [Ordinary(), Limited(bytes=3), Limited(bytes=3, where="below")], ids=str)
@pytest.mark.parametrize("more", [{}, {"colour": "red"}], ids=str)
def test_of_several_kinds_the_one_that_knows_most_of_a_record_takes_it(kind: Any, value: Any, more: Any) -> None:
    unknown: list[str] = []
    assert from_json(kind, {**to_json(value), **more}, unknown=unknown) == value
    assert unknown == [f"{type(value).__name__}.{name}" for name in more]
    if not more:
        assert from_json(kind, to_json(value)) == value


@pytest.mark.parametrize("kind", [None, "odd", 3, ["ordinary"]], ids=str)
def test_a_record_of_a_union_is_the_one_that_its_kind_says(kind: Any) -> None:
    trial = {"kind": "under isa", "isa": "avx2"}
    assert from_json(Trial, trial) == UnderIsa(isa="avx2")  # type: ignore[arg-type]
    with pytest.raises(Corrupt, match=r"isa: 'neon' is not"):
        from_json(Trial, {**trial, "isa": "neon"})  # type: ignore[arg-type]
    with pytest.raises(Corrupt, match="is none of ordinary, under limit, sustained, under isa"):
        from_json(Trial, {**trial, "kind": kind})  # type: ignore[arg-type]


def test_a_wrong_field_is_named_with_its_path() -> None:
    record = through_text(a_run())
    record["job"]["artifact"]["origin"]["checkpoint"]["training"]["recipe"]["epochs"] = "two"
    with pytest.raises(Corrupt, match=r"Run\.job\.artifact\.origin\.checkpoint\.training\.recipe\.epochs: 'two'"):
        from_json(Run, record)


def test_a_literal_field_that_is_none_of_its_values_is_named() -> None:
    recipe = {**through_text(a_checkpoint().training.recipe), "optimizer": "lion"}
    with pytest.raises(Corrupt, match=r"Recipe\.optimizer: 'lion'"):
        from_json(Recipe, recipe)


def test_a_field_with_a_default_may_be_absent() -> None:
    recipe = a_checkpoint().training.recipe
    record = through_text(recipe)
    del record["limit_train"]
    assert from_json(Recipe, record) == recipe


def test_every_field_with_a_default_or_a_default_factory_may_be_absent() -> None:
    def without_defaults(value: Any) -> Any:
        if isinstance(value, tuple):
            return [without_defaults(item) for item in value]
        if not dataclasses.is_dataclass(value):
            return to_json(value)
        needed = [
            field.name
            for field in dataclasses.fields(value)
            if field.name == "kind"  # what tells it from the others of its union
            or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
        ]
        return {name: without_defaults(getattr(value, name)) for name in needed}

    job = dataclasses.replace(a_job(), seconds=None)
    record = without_defaults(job)
    assert "trial" not in record and "backend_options" not in record and "choices" not in record["artifact"]
    assert from_json(Job, record) == job


class Twice:
    """A pool of recipes, as core.journal has one of machines."""

    kinds = frozenset({Recipe})

    def __init__(self) -> None:
        self.known: dict[str, Recipe] = {}

    def refer(self, value: Any) -> Any:
        if not isinstance(value, Recipe):
            return None
        self.known[value.name] = value
        return {"ref": value.name}

    def record(self, kind: type, value: Any, read: Callable[[Any], Any]) -> Any:
        if value.keys() != {"ref"}:
            return read(value)
        if value["ref"] not in self.known:
            raise Corrupt("is nowhere")
        return self.known[value["ref"]]


def test_what_a_pool_holds_is_referred_to_and_the_same_object_again() -> None:
    pool, training = Twice(), a_checkpoint().training
    record = json.loads(json.dumps(to_json(training, pool.refer)))
    assert record["recipe"] == {"ref": "adam"}
    back = from_json(Training, record, pool=pool)
    assert back == training and back.recipe is training.recipe
    assert from_json(Training, to_json(training), pool=pool) == training
    with pytest.raises(Corrupt, match=r"^Training\.recipe: is nowhere$"):
        from_json(Training, {**record, "recipe": {"ref": "sgd"}}, pool=pool)
    with pytest.raises(Corrupt, match=r"^Training\.recipe: lacks .*\(and has 'ref'\)$"):
        from_json(Training, record, unknown=[])
    with pytest.raises(Corrupt, match=r"^Training\.recipe\.epochs: 'two'"):
        from_json(Training, {**record, "recipe": {**to_json(training.recipe), "epochs": "two"}}, pool=pool)


# Records alone in their files


def test_a_saved_record_says_its_version_and_comes_back(tmp_path: Path) -> None:
    codec.save(tmp_path / "x.json", a_checkpoint())
    assert sealing.read_record(tmp_path / "x.json", "")["version"] == upgrades.VERSION
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.load(Checkpoint, tmp_path / "x.json", "restore it") == a_checkpoint()


def test_a_record_of_before_there_were_versions_is_read(tmp_path: Path) -> None:
    sealing.write_record(tmp_path / "x.json", to_json(a_checkpoint()))
    assert codec.load(Checkpoint, tmp_path / "x.json", "restore it") == a_checkpoint()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"colour": "red"}, ["Checkpoint.colour"]),
        ({"version": 99}, ["newer cifar-deploy (version 99, not"]),
        ({"version": 99, "colour": "red"}, ["version 99", "Checkpoint.colour"]),
    ],
    ids=str,
)
def test_a_newer_record_is_read_with_a_warning_that_names_the_file_and_the_field(
    more: dict[str, Any], told: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    sealing.write_record(path, {"version": upgrades.VERSION, **to_json(a_checkpoint()), **more})
    with pytest.warns(UserWarning) as warned:
        assert codec.load(Checkpoint, path, "restore it") == a_checkpoint()
    (text,) = (str(one.message) for one in warned)
    assert text.startswith(f"{path}: ") and all(part in text for part in told) and "restore" not in text


def test_a_newer_record_that_cannot_be_read_asks_for_an_update(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    sealing.write_record(path, {"version": 99, "anything": "else"})
    with pytest.raises(Corrupt, match=r"x\.json: was written by a newer .* lacks .*; update cifar-deploy$"):
        codec.load(Checkpoint, path, "delete it")


@pytest.mark.parametrize("version", [0, -1, True, "3", None, [], 2.5], ids=repr)
def test_a_version_that_is_none_makes_no_record(version: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    sealing.write_record(path, {**to_json(a_checkpoint()), "version": version})
    with pytest.raises(Corrupt, match=r"x\.json: .*no version.*; restore it$"):
        codec.load(Checkpoint, path, "restore it")


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (int, "x", "'x' is not a whole number"),
        (int, None, "null is not a whole number"),
        (float, True, "true is not a number"),
        (str, 3, "3 is not text"),
        (bool, "yes", "'yes' is not true or false"),
        (tuple[str, ...], {"a": 1}, '{"a": 1} is not a list'),
        (Mapping[str, int], [], "[] is not an object"),
        (Literal["adam", "sgd"], "lion", "'lion' is not one of adam, sgd"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_the_words_of_json(kind: Any, value: Any, told: str) -> None:
    with pytest.raises(Corrupt, match=re.escape(told)):
        from_json(kind, value)

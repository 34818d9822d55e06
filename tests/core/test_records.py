"""Records go to JSON and back unchanged, and what does not fit is named."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import Block, Data, Failure, Positive, Recipe, Share, Time, UnderIsa
from tests.probes import a_block, a_checkpoint, a_job


def through_text(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value)))


@pytest.mark.parametrize("failure", [None, Failure(kind="timed out", reason="no progress", log="…\nend")])
def test_a_block_comes_back_equal(failure: Failure | None) -> None:
    result = a_block(failure=failure)
    back = from_json(Block, through_text(result))
    assert back == result
    checkpoint = back.job.artifact.checkpoint
    assert checkpoint and isinstance(checkpoint.training.data.classes, tuple)
    assert isinstance(checkpoint.curve, tuple)


def test_a_job_keeps_its_key() -> None:
    job = a_job()
    assert from_json(type(job), through_text(job)).key == job.key


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "memory"},
        {"threads": 2},
        {"batch_size": 8},
        {"protocol": 2},
        {"seconds": 0.1},
        {"trial": UnderIsa(isa="avx2")},
        {"versions": {}},
    ],
)
def test_another_question_has_another_key(change: dict[str, Any]) -> None:
    job = a_job()
    assert dataclasses.replace(job, **change).key != job.key


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


def test_an_unknown_field_makes_a_record_of_another_version() -> None:
    record = {**through_text(a_checkpoint().training.data), "colour": "red"}
    with pytest.raises(Corrupt, match="Data: not a record of this version"):
        from_json(Data, record)


def test_a_wrong_field_is_named_with_its_path() -> None:
    record = through_text(a_block())
    record["job"]["artifact"]["origin"]["checkpoint"]["training"]["recipe"]["epochs"] = "two"
    with pytest.raises(Corrupt, match=r"Block\.job\.artifact\.origin\.checkpoint\.training\.recipe\.epochs: 'two'"):
        from_json(Block, record)


def test_a_literal_field_that_is_none_of_its_values_is_named() -> None:
    recipe = {**through_text(a_checkpoint().training.recipe), "optimizer": "lion"}
    with pytest.raises(Corrupt, match=r"Recipe\.optimizer: 'lion'"):
        from_json(Recipe, recipe)


def test_a_field_with_a_default_may_be_absent() -> None:
    recipe = a_checkpoint().training.recipe
    record = through_text(recipe)
    del record["limit_train"]
    assert from_json(Recipe, record) == recipe


def test_the_first_difference_of_two_trainings_is_in_words() -> None:
    training = a_checkpoint().training
    more = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, batch_size=8))
    assert training.difference(training) is None
    assert more.difference(training) == "batch size 8, not 4"

"""A record on disk has a checksum of its own, and what is no record is named."""

import json
from pathlib import Path

import pytest

from cifar_deploy.core import sealing
from cifar_deploy.core.errors import Corrupt


def test_json_round_trips_and_damaged_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    sealing.write_json(path, {"größe": [1, 0.5, None]})
    assert sealing.read_json(path) == {"größe": [1, 0.5, None]}
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Corrupt, match=r"value\.json"):
        sealing.read_json(path)


def test_json_that_is_nested_too_deep_is_no_valid_json(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[" * 100_000)
    with pytest.raises(Corrupt, match="is not valid JSON"):
        sealing.read_json(tmp_path / "x")


def test_two_records_whose_middle_is_lost_are_not_the_second_one() -> None:
    first, second = (json.dumps(sealing.sealed({"a": number, "b": "x"})).encode() for number in (1, 2))
    merged = first[: first.index(b'"b"')] + second[1:]
    assert json.loads(merged) == json.loads(second)
    with pytest.raises(Corrupt, match="a field twice"):
        sealing.parsed(merged)


def test_a_sealed_record_comes_back_and_any_change_of_it_is_found() -> None:
    record = {"a": 1, "b": [0.5, None], "c": {"é": "x"}}
    sealed = sealing.sealed(record)
    assert sealing.opened(sealed) == record
    assert list(sealed) == ["integrity", "a", "b", "c", "checksum"], "no cut takes both ends and leaves a record"
    lacking = [{name: value for name, value in sealed.items() if name != gone} for gone in sealed]
    for changed in ({**sealed, "a": 2}, {**sealed, "d": 0}, *lacking):
        with pytest.raises(Corrupt, match="its checksum differs"):
            sealing.opened(changed)


def test_a_record_of_before_there_were_checksums_is_read() -> None:
    assert sealing.opened({"a": 1}) == {"a": 1} and sealing.opened([1]) == [1]

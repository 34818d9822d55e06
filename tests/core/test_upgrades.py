"""What earlier versions wrote is turned into what this one does, all things of a file being looked at first."""

from typing import Any

import pytest

from cifar_deploy.core import upgrades
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.upgrades import Thing, upgraded, upgraded_record
from cifar_deploy.core.version_2 import From2


def test_there_is_a_step_from_every_version_but_the_last() -> None:
    assert list(upgrades._STEPS) == list(range(1, upgrades.VERSION))


def test_a_result_of_version_1_becomes_a_run_of_no_session() -> None:
    assert upgrades._From1().turn("run", {"job": {}}) == {"session": None, "round": 0, "control": False, "job": {}}


def a_former_job(options: dict[str, Any], **artifact: Any) -> dict[str, Any]:
    """Of version 2, as far as this version's differs."""
    weights = {"name": "weights.safetensors", "bytes": 3, "sha256": "0" * 64}
    data = {"fingerprint": "f" * 64, "deviation": [0.1]}
    training = {"name": "small", "network": "resnet8", "recipe": {"name": "paper"}, "data": data}
    common = {"checkpoint": {"training": training, "weights": weights}, "format": "onnx", "files": []}
    return {"options": options, "artifact": {**common, "takes": None, **artifact}, "metric": "latency"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seconds": 0.5, "limit_test": None}, {"seconds": 0.5, "trial": {"kind": "ordinary"}}),
        ({"limit_test": 64, "isa": "avx2"}, {"limit_test": 64, "trial": {"kind": "under isa", "isa": "avx2"}}),
        ({"seconds": 5, "sustain_s": 60.0}, {"seconds": 5, "trial": {"kind": "sustained", "seconds": 60.0}}),
        (
            {"limit_bytes": 9, "limit_kind": "cgroup v2", "limit": "below what was counted"},
            {"trial": {"kind": "under limit", "limit_bytes": 9, "limited_by": "cgroup v2", "expected": "runs out"}},
        ),
    ],
    ids=str,
)
def test_the_options_of_version_2_are_settings_and_a_trial(options: dict[str, Any], expected: dict[str, Any]) -> None:
    turned = From2().turn("job", a_former_job(options))
    assert {name: turned[name] for name in turned if name not in ("artifact", "metric")} == expected


def test_what_version_2_told_by_a_name_is_an_origin() -> None:
    def turned(**artifact: Any) -> dict[str, Any]:
        found: dict[str, Any] = From2().turn("job", a_former_job({}, **artifact))["artifact"]
        return found

    trained = turned(format="onnx-uint8")
    assert (trained["origin"]["kind"], trained["format"], trained["input"]) == ("trained", "onnx", "uint8")
    training = trained["origin"]["checkpoint"]["training"]
    assert training["recipe"] == {"name": "original"} and training["data"]["std"] == [0.1]
    weights = {"name": "weights.safetensors", "bytes": 3, "sha256": "0" * 64}
    training = {"name": "_floor-ffff", "network": "module:floor", "data": {"fingerprint": "f" * 64}}
    baseline = turned(checkpoint={"training": training, "weights": weights})
    expected = {"network": "module:floor", "data": training["data"], "weights": weights}
    assert baseline["origin"] == {"kind": "baseline", **expected} and baseline["format"] == "onnx"
    takes = [{"name": "x", "dtype": "float32", "shape": [1]}]
    external = turned(takes=takes, format="", checkpoint={"training": {**training, "name": "a.onnx"}})
    assert external["origin"] == {"kind": "external", "path": "a.onnx", "takes": takes} and external["format"] is None


class Renaming:
    """A step by which keys change, and with them who refers to them: on whatever line, before or behind."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    def learn(self, kind: str, fields: dict[str, Any]) -> None:
        self.keys[fields["key"]] = fields["key"].upper()

    def turn(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"key": self.keys[fields["key"]], "cells": [self.keys[cell] for cell in fields["cells"]]}


@pytest.fixture
def renaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrades, "VERSION", 3)
    monkeypatch.setattr(upgrades, "_STEPS", {1: upgrades._From1, 2: Renaming})


@pytest.mark.usefixtures("renaming")
def test_a_thing_is_turned_by_what_any_other_of_the_file_says() -> None:
    things = {number: Thing(2, "block", {"key": key, "cells": ["a", "b"]}) for number, key in ((4, "a"), (9, "b"))}
    found, left_out = upgraded({**things, 5: Thing(3, "block", {"as": "it is"}), 6: Thing(99, "block", {"newer": 1})})
    assert not left_out and found[4].fields == {"key": "A", "cells": ["A", "B"]} and found[9].fields["key"] == "B"
    assert found[5].fields == {"as": "it is"} and found[6] == Thing(99, "block", {"newer": 1})
    assert things[4].fields == {"key": "a", "cells": ["a", "b"]}


@pytest.mark.usefixtures("renaming")
@pytest.mark.parametrize(
    "odd", [{}, {"key": []}, {"key": 5}, {"key": "a", "cells": 5}, {"key": "a", "cells": ["z"]}], ids=str
)
def test_a_thing_that_is_not_what_it_should_be_is_left_out_and_spoils_no_other(odd: dict[str, Any]) -> None:
    found, left_out = upgraded({1: Thing(2, "block", odd), 2: Thing(2, "block", {"key": "a", "cells": ["a"]})})
    assert list(found) == [2] and "is not a block of version 2" in left_out[1]
    with pytest.raises(Corrupt, match="is not a checkpoint of version 2"):
        upgraded_record("checkpoint", 2, odd)


@pytest.mark.parametrize(
    ("version", "unknown", "told"),
    [
        (3, [], None),
        (2, [], None),
        (99, [], "was written by a newer cifar-deploy"),
        (3, ["A.b", "A.b"], "does not know, which is set aside: A.b$"),
        (99, [f"A.{name}" for name in "bcdef"], "newer .*; holds .*: A.b, A.c, A.d and 2 more$"),
    ],
)
def test_only_what_is_newer_or_unknown_is_told(version: int, unknown: list[str], told: str | None) -> None:
    note = upgrades.note(version, unknown)
    if told is None:
        assert note is None
    else:
        assert note
        with pytest.raises(Corrupt, match=told):
            raise Corrupt(note)

"""What earlier versions wrote is turned into what this one does, all things of a file being looked at first."""

from typing import Any

import pytest

from cifar_deploy.core import upgrades
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.upgrades import Thing, upgraded, upgraded_record


def test_there_is_a_step_from_every_version_but_the_last() -> None:
    assert list(upgrades._STEPS) == list(range(1, upgrades.VERSION))


def test_a_result_of_version_1_becomes_a_block_of_no_session() -> None:
    found, left_out = upgraded({1: Thing(1, "block", {"job": {}})})
    assert not left_out and found[1].version == upgrades.VERSION
    assert found[1].fields == {"session": None, "round": 0, "control": False, "job": {}}


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

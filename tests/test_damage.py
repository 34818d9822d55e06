"""A single damage to what the program keeps is said, or changes nothing: flipped bits, cuts, changed digits."""

import random
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cifar_deploy import pipeline
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.store import Store
from cifar_deploy.reports import REPORTS

DEFAULT, ALL = 20, 500


def flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    """At the end, or a part out of the middle."""
    start = chance.randrange(len(content))
    return content[:start] + (b"" if chance.random() < 0.5 else content[start + chance.randint(1, 500) :])


def change_a_digit(content: bytes, chance: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if byte in b"0123456789"]
    place = chance.choice(places or [0])
    return content[:place] + str((content[place] + 1) % 10).encode() + content[place + 1 :]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, change_a_digit)


# All that is read again: records, samples, weights and artifacts.
KEPT = ("results.jsonl", "checkpoint.json", "artifact.json", "*.npz", "*.safetensors", "*.onnx", "*.ts")


def seen(out: Path) -> tuple[Mapping[str, str], list[str]]:
    """What the reports say, and all that is said besides: what could not be read, and errors."""
    store, texts, said = Store(out), {}, []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            for name in store.names():
                for artifact in store.artifacts(name):
                    store.verified(artifact)
                    texts[artifact.title] = repr(artifact)
            table, _ = pipeline.report(store)
            said += table.lost
            texts |= {name: REPORTS[name].render(table) for name in REPORTS}
        except DeployError as error:
            said.append(str(error))
    return texts, said + [str(one.message) for one in warned]


@pytest.mark.parametrize(
    "seed", [*range(DEFAULT), *(pytest.param(n, marks=pytest.mark.gate) for n in range(DEFAULT, ALL))]
)
def test_no_damage_is_silent(seed: int, undamaged: tuple[Path, Mapping[str, str]]) -> None:
    out, whole = undamaged
    chance = random.Random(seed)
    path = chance.choice(sorted(out.rglob(chance.choice(KEPT))))
    before = path.read_bytes()
    damaged = chance.choice(DAMAGES)(before, chance)
    path.write_bytes(damaged)
    try:
        texts, said = seen(out)
    finally:
        path.write_bytes(before)
    assert texts == whole or said or is_what_it_was(path, before, damaged), f"{path}"


def is_what_it_was(path: Path, now: bytes, damaged: bytes) -> bool:
    """Whether a results file was cut between two lines: so it was before the later ones were added."""
    end = now[max(0, len(damaged) - 1) : len(damaged) + 1]
    return path.name == "results.jsonl" and now.startswith(damaged) and (b"\n" in end or not damaged)


@pytest.fixture(scope="module")
def undamaged(road: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, str]]:
    """A copy of the road, and what is seen of it."""
    out = tmp_path_factory.mktemp("damage") / "out"
    shutil.copytree(road, out)
    texts, said = seen(out)
    assert not said
    return out, texts

"""A record whose fields hold anything at all ends in a line that says so, never in an internal error."""

import json
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import console, pipeline
from cifar_deploy.core import sealing
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.store import Store
from cifar_deploy.stages.profile import sections
from tests.lines import WholeLines
from tests.probes import a_profile, an_operator

DEFAULT, ALL = 12, 1000

_DELETED = object()
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**70, 10**400, 0.0, -0.5, 1e308, 1e-320, float("nan"), float("inf")),
    *("", "x", "\x1b[31m", "é\ud800", "=1+1", "2026-01-01T00:00:00+00:00", [], {}, [1], ["a"], {"a": 1}),
    *("checkpoint", "latency", "accuracy", "memory", "parity", "pytorch", _DELETED),
)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every field and item below a record."""
    if way:
        yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*way, key))


def put(record: Any, way: tuple[Any, ...], value: Any) -> None:
    *before, last = way
    for key in before:
        record = record[key]
    if value is _DELETED:
        del record[last]
    else:
        record[last] = value


def use_results(out: Path, whole: Path) -> None:
    for use in (lambda: pipeline.report(Store(out)), lambda: pipeline.compare(out, whole, allow_mismatch=True)):
        try:
            use()
        except DeployError as error:
            assert str(error)


def use_records(out: Path) -> None:
    store = Store(out)
    try:
        for name in store.names():
            checkpoint = store.checkpoint(name)
            assert checkpoint
            console.checkpoint_line(checkpoint)
            for artifact in store.artifacts(name):
                console.artifact_line(artifact)
                store.verified(artifact)
        pipeline.plan(store)
    except DeployError as error:
        assert str(error)


def of_gate(count: int) -> list[Any]:
    return [*range(DEFAULT), *(pytest.param(seed, marks=pytest.mark.gate) for seed in range(DEFAULT, count))]


@pytest.mark.parametrize("seed", of_gate(ALL))
def test_whatever_a_result_holds_is_answered(seed: int, copied: Path, road: Path) -> None:
    chance, path = random.Random(seed), Store(copied).results_path
    text = path.read_text()
    lines = WholeLines(path)
    records = lines.records
    way, value = chance.choice(list(places(chance.choice(records)))), chance.choice(VALUES)
    only = chance.choice(records) if chance.random() < 0.3 else None
    for record in records:
        if only is None or record is only:
            put_where_it_is(record, way, value)
    lines.write()
    try:
        use_results(copied, road)
    finally:
        path.write_text(text)


@pytest.mark.parametrize("seed", of_gate(ALL))
def test_so_is_whatever_a_line_holds_that_is_referred_to_or_refers(seed: int, copied: Path, road: Path) -> None:
    chance, path = random.Random(seed), Store(copied).results_path
    text = path.read_text()
    records = [sealing.opened(json.loads(line)) for line in text.splitlines()]
    record = chance.choice(records)
    if "key" in record and chance.random() < 0.5:
        key, version, kind = record.pop("key"), record.pop("version"), record.pop("kind")
        put(record, chance.choice(list(places(record))), chance.choice(VALUES))
        new = sealing.digest(record)[:16]
        record |= {"version": version, "kind": kind, "key": new}
        records = json.loads(json.dumps(records).replace(f'{{"ref": "{key}"}}', f'{{"ref": "{new}"}}'))
    else:
        put(record, chance.choice(list(places(record))), chance.choice(VALUES))
    path.write_text("".join(json.dumps(sealing.sealed(record)) + "\n" for record in records))
    try:
        use_results(copied, road)
    finally:
        path.write_text(text)


@pytest.mark.parametrize("seed", of_gate(ALL))
def test_whatever_a_record_holds_is_answered(seed: int, copied: Path) -> None:
    chance, folder = random.Random(seed), copied / "exported" / "resnet8"
    path = folder / chance.choice(("checkpoint/checkpoint.json", "onnx/artifact.json"))
    text = path.read_text()
    record = sealing.read_record(path, "")
    put(record, chance.choice(list(places(record))), chance.choice(VALUES))
    path.write_text(json.dumps(sealing.sealed(record)))
    try:
        use_records(copied)
    finally:
        path.write_text(text)


@pytest.mark.parametrize("seed", of_gate(ALL))
def test_so_is_whatever_a_profile_holds(seed: int, copied: Path) -> None:
    chance, store = random.Random(seed), Store(copied)
    job = next(run.job for run in store.runs() if run.job.backend == "onnxruntime")
    profile = a_profile(job, an_operator("a", "Conv", "float32", 0.001), an_operator("b", "QLinearConv", "int8", 0.002))
    path = store.trace_path(profile.name, profile.format, profile.backend).with_suffix(".profile.json")
    store.save_profile(profile)
    record = sealing.read_record(path, "")
    put(record, chance.choice(list(places(record))), chance.choice(VALUES))
    path.write_text(json.dumps(sealing.sealed(record)))
    try:
        for found in store.profiles():
            assert found.convolutions_in("int8") and sections(found)
        pipeline.report(store)
    finally:
        path.unlink()


def put_where_it_is(record: Any, way: tuple[Any, ...], value: Any) -> None:
    """`put`, in the records that have such a field."""
    if way in places(record):
        put(record, way, value)


@pytest.fixture(scope="module")
def copied(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("records") / "out"
    shutil.copytree(road, out)
    return out


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

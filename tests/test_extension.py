"""A metric and a GPU-only backend of one's own, a file each, go through every stage: no other file knows of them."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_deploy import console, pipeline
from cifar_deploy.core.records import Result
from cifar_deploy.core.store import Store
from cifar_deploy.stages import compare, comparison
from cifar_deploy.stages.rounds import Costs
from tests import own_energy, own_gpu_backend
from tests.conftest import need_package
from tests.probes import a_run

ENERGY = "tests.own_energy:METRIC"
GPU, BACKEND = "tests.own_gpu_backend:DEVICE", "tests.own_gpu_backend:BACKEND"
FORMAT, FOR_IT_ALONE = "tests.own_gpu_backend:FORMAT", "tests.own_gpu_backend:FOR_IT_ALONE"


@pytest.fixture
def store(road: Path, tmp_path: Path) -> Iterator[Store]:
    """Of the network of the road, and without a result."""
    shutil.copytree(road / "exported", tmp_path / "out" / "exported")
    with Store(tmp_path / "out") as opened:
        yield opened


def measured(store: Store, force: bool = False) -> pipeline.Outcome[Result]:
    """The energy of a backend that answers at once, in six rounds."""
    planned = pipeline.plan(
        store,
        formats=["checkpoint"],
        backends=["cifar_deploy.backends.synthetic:ANSWERS"],
        metrics=[ENERGY],
        conditions=pipeline.Conditions(seconds=0.01, batch_sizes=(3,)),
    )
    settings = pipeline.EvaluationSettings(sampling=pipeline.Sampling(rounds=6), overhead=False, controls=not force)
    (outcome,) = pipeline.evaluate(store, planned, settings, force=force)
    return outcome


def test_a_metric_of_ones_own_is_measured_in_rounds_shown_and_compared(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measured(store).value
    assert result.job.batch_size == 3
    assert list(result.rounds("joules").values()) == [0.002] * 6
    assert [run.control for run in store.runs()].count(True) == 6
    assert measured(store).reused

    table, _ = pipeline.report(store)
    ship = table.sections[0]
    shown = {column.heading: row.text(key, column) for row in ship.rows for key, column in ship.columns.items()}
    assert shown["energy [mJ]"].startswith("2.000 [2.000, 2.000]"), "whatever the verdict on this machine"
    assert table.glossary["energy"] == own_energy.METRIC.summary

    shutil.copytree(tmp_path / "out", tmp_path / "before")
    monkeypatch.setenv(own_energy.VARIABLE, "0.003")
    measured(store, force=True)
    (pair,) = pipeline.compare(tmp_path / "before", tmp_path / "out")
    found = pair.differences[f"{ENERGY}.joules"]
    assert found.word == "worse" and found.ratio and found.ratio.value == pytest.approx(1 / 1.5)
    assert "smaller [×]" in [column.heading for column in comparison.section([pair]).columns.values()]
    assert compare.slower([pair], 0.05) == [], "more joules are no less speed"

    costs = Costs([replace(a_run(job=replace(result.job, metric="memory")), seconds=1.0)])
    assert costs.seconds(result.job) == pytest.approx(1.0 + 0.01 + 0.1)


@pytest.mark.slow
def test_a_backend_that_runs_on_a_gpu_alone_is_validated_and_measured_where_the_gpu_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_package("onnxruntime")

    def evaluated(device: str, *metrics: str) -> list[Result]:
        planned = pipeline.plan(store, formats=[FORMAT], backends=[BACKEND], devices=[device], metrics=metrics)
        return [outcome.value for outcome in pipeline.evaluate(store, planned)]

    reason = f"device {GPU}: there is none here; plug one in"
    (exported,) = pipeline.export(store, formats=[FORMAT])
    assert [parity.backend for parity in exported.value.parity] == ["onnxruntime"]
    assert exported.value.unvalidated == {BACKEND: reason}
    assert f" on onnxruntime; {BACKEND} unavailable: {reason}" in console.artifact_line(exported.value)
    (again,) = pipeline.export(store, formats=[FORMAT])
    assert again.reused
    for result in evaluated(GPU, "accuracy", "parity"):
        assert result.failure and (result.failure.kind, result.failure.reason) == ("unavailable", reason)
    (refused,) = evaluated("cpu", "accuracy")
    assert refused.failure and refused.failure.kind == "unsupported" and "not on cpu" in refused.failure.reason

    monkeypatch.setenv(own_gpu_backend.VARIABLE, "1")
    (here,) = pipeline.export(store, formats=[FORMAT])
    assert not here.reused and not here.value.unvalidated
    assert [parity.backend for parity in here.value.parity] == ["onnxruntime", BACKEND]
    for result in evaluated(GPU, "accuracy", "parity"):
        assert result.job.device == GPU and result.measurement, result.failure


@pytest.mark.slow
def test_a_format_that_no_device_here_can_validate_is_kept_and_says_why(store: Store) -> None:
    need_package("onnxruntime")
    (exported,) = pipeline.export(store, formats=[FOR_IT_ALONE])
    assert exported.value.files and not exported.value.failure and not exported.value.parity
    assert f"no backend here to check it; {BACKEND} unavailable: device {GPU}" in console.artifact_line(exported.value)


def test_a_file_is_benched_on_the_gpu_of_a_backend_that_has_no_other(
    road: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_package("onnxruntime")
    file = road / "exported" / "resnet8" / "onnx" / "model.onnx"
    (first, *_) = pipeline.plan_external([file], backends=[BACKEND])
    assert first.failure and first.failure.kind == "unavailable" and "plug one in" in first.failure.reason
    monkeypatch.setenv(own_gpu_backend.VARIABLE, "1")
    planned = pipeline.plan_external([file], backends=[BACKEND])
    assert {item.job.device for item in planned} == {GPU} and not any(item.failure for item in planned)

"""Every call is given what was promised, whatever the program did to the arrays of the calls before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import energy, memory
from cifar_deploy.core.arrays import Arrays, random_arrays
from cifar_deploy.core.records import Tensor
from cifar_deploy.metrics import METRICS, RuntimeMetric, TestImages, Workbench
from cifar_deploy.metrics import energy as energy_metric
from cifar_deploy.metrics.inputs import Inputs
from tests import models, powercap
from tests.probes import a_job

TAKES = [Tensor(name="x", dtype="float32", shape=(2, 3)), Tensor(name="k", dtype="int64", shape=())]


def bench_of(run: Callable[[Any], object], metric: str, images: TestImages | None = None) -> Workbench:
    return Workbench(
        job=replace(a_job(metric), seconds=0.01, batch_size=1),
        batches=lambda count, size: random_arrays(TAKES, count),
        images=images,
        import_runtime=lambda: None,
        load=lambda: run,
    )


def measured(run: Callable[[Any], object], metric: str) -> Workbench:
    memory.remember_interpreter()
    bench = bench_of(run, metric)
    plugin = METRICS[metric]
    assert isinstance(plugin, RuntimeMetric)
    plugin.measure(bench)
    return bench


def counting(sums: list[float], since: int = 0) -> Callable[[Arrays], None]:
    """A program that adds one to all of its inputs, from the call of that number on. `sums` hears what each call was given."""

    def run(arrays: Arrays) -> None:
        sums.append(sum(float(array.sum()) for array in arrays))
        if len(sums) > since:
            for array in arrays:
                np.add(array, 1, out=array)

    return run


def promised(count: int) -> list[float]:
    return [sum(float(array.sum()) for array in arrays) for arrays in random_arrays(TAKES, count)]


@pytest.fixture
def spend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Moves a counter of energy by what a call takes."""
    package = powercap.zone(tmp_path / "intel-rapl:0", "package-0", 5)
    monkeypatch.setenv(energy.VARIABLE, str(tmp_path))
    for name, value in {"_IDLE_S": 0.02, "_LEAST_S": 0.05, "_LONGEST_WAIT_S": 0.05}.items():
        monkeypatch.setattr(energy_metric, name, value)
    return lambda: powercap.add(package, 7000)


@pytest.mark.parametrize(("metric", "distinct"), [("latency", 64), ("throughput", 4), ("memory", 16), ("energy", 64)])
def test_a_program_that_writes_into_its_input_is_given_the_same_again(
    metric: str, distinct: int, spend: Callable[[], None]
) -> None:
    sums: list[float] = []
    run = counting(sums)
    bench = measured(lambda arrays: (spend(), run(arrays)), metric)
    assert any(inputs.restored for inputs in bench.used)
    timed = sums[len(sums) // 2 :]
    assert set(timed) <= set(promised(distinct)), "later calls saw what earlier ones had written"
    assert len(sums) > 8


@pytest.mark.parametrize("metric", ["latency", "throughput", "memory"])
def test_a_program_that_leaves_its_input_alone_is_given_the_very_same_arrays(metric: str) -> None:
    seen: set[int] = set()
    bench = measured(lambda arrays: seen.add(id(arrays[0])), metric)
    assert not any(inputs.restored for inputs in bench.used)
    assert seen == {id(batch[0]) for inputs in bench.used for batch in inputs.batches}


def test_a_change_that_comes_late_has_the_block_timed_anew() -> None:
    sums: list[float] = []
    bench = measured(counting(sums, since=50), "throughput")
    assert bench.used[0].restored
    assert len(sums) > 60 and set(sums[-5:]) <= set(promised(4))


@pytest.mark.parametrize(
    ("before", "write", "changed"),
    [
        (np.zeros(3, np.float32), lambda array: array.fill(-0.0), True),
        (np.full(3, np.nan, np.float32), lambda array: array.fill(np.nan), False),
        (np.array(True), lambda array: array.fill(False), True),
        (np.zeros((2, 0), np.int64), lambda array: array.fill(1), False),
        (np.arange(6).reshape(2, 3).T, lambda array: array.sort(axis=0), False),
        (np.arange(6).reshape(2, 3).T, lambda array: array.fill(7), True),
    ],
    ids=["minus zero", "the same NaN", "a scalar", "empty", "the same in another order", "transposed"],
)
def test_a_change_is_one_of_bytes(before: Any, write: Callable[[Any], None], changed: bool) -> None:
    inputs = Inputs(lambda: [[before.copy(order="K")]])
    write(inputs.batches[0][0])
    assert inputs.have_changed() is changed and inputs.restored is changed
    inputs.ready(0)
    assert inputs.batches[0][0].tobytes() == before.tobytes()
    assert not inputs.have_changed()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("torchscript", ".ts"), ("torch_export", ".pt2"), pytest.param("aoti", ".pt2", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("metric", ["latency", "memory"])
def test_a_program_of_pytorch_that_counts_in_place_answers_the_same_each_time(
    name: str, suffix: str, metric: str, tmp_path: Path
) -> None:
    backend = BACKENDS[name]
    assert backend.opens
    path = models.in_place(tmp_path / f"model{suffix}", is_compiled=name == "aoti")
    opened = backend.opens.open(path, "cpu", 1)
    answers: list[bytes] = []

    def run(arrays: Arrays) -> None:
        answer = opened.run(arrays[:1])
        answers.append(np.asarray(answer[0] if isinstance(answer, list) else answer).tobytes())

    bench = measured(run, metric)
    given = random_arrays(TAKES, 64)
    assert bench.used[0].restored
    # x.add_(1) * 2, of what was promised.
    assert set(answers[len(answers) // 2 :]) <= {((arrays[0] + np.float32(1)) * 2).tobytes() for arrays in given}


def test_images_that_reach_the_program_as_they_are_stay_as_they_are() -> None:
    """uint8 images need no conversion, so that the program holds the very pixels."""
    pixels = np.random.default_rng(0).integers(200, size=(3, 2, 2, 3), dtype=np.uint8)
    images = TestImages(pixels=pixels, labels=np.zeros(3, np.int64), prepare=np.ascontiguousarray)
    means: list[float] = []

    def run(batch: Any) -> None:
        means.append(float(batch.sum()))
        np.add(batch, 1, out=batch)

    bench = replace(
        bench_of(run, "latency", images),
        batches=lambda count, size: list(images.batches(images.repeated(count * size), size)),
    )
    plugin = METRICS["latency"]
    assert isinstance(plugin, RuntimeMetric)
    plugin.measure(bench)
    assert set(means[-5:]) <= {float(image.sum()) for image in pixels}

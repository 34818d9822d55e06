"""The energy of an inference, from counters whose every joule is known."""

import ctypes
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_deploy import selftest
from cifar_deploy.core import energy
from cifar_deploy.core.energy import Counter
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.records import Measurement, Result
from cifar_deploy.core.store import grouped
from cifar_deploy.metrics import METRICS, RawMeasurement, Workbench, default_metrics, out_of_range
from cifar_deploy.metrics import energy as metric
from cifar_deploy.metrics.summary import Summary
from tests import powercap
from tests.probes import a_job, a_run, a_session, calm


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "_IDLE_S", 0.02)
    monkeypatch.setattr(metric, "_LEAST_S", 0.1)
    monkeypatch.setattr(metric, "_LONGEST_WAIT_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where powercap lies."""
    monkeypatch.setenv(energy.VARIABLE, str(tmp_path))
    return tmp_path


def measured(call: Callable[[], object], device: str = "cpu", seconds: float = 0.05) -> RawMeasurement:
    """The energy of an inference that does what `call` does."""
    job = dataclasses.replace(a_job("energy"), device=device, seconds=seconds)
    bench = Workbench(
        job=job,
        batches=lambda count, size: [np.zeros(size)] * count,
        images=None,
        import_runtime=lambda: None,
        load=lambda: lambda batch: call(),
    )
    return metric.METRIC.measure(bench)


@pytest.mark.usefixtures("short")
def test_an_inference_has_the_joules_that_it_took_at_the_packages_and_their_memory(folder: Path) -> None:
    package = powercap.zone(folder / "intel-rapl:0", "package-0", 5)
    memory = powercap.zone(folder / "intel-rapl:0/intel-rapl:0:0", "dram", 5)

    def infer() -> None:
        time.sleep(0.001)
        powercap.add(package, 7000)
        powercap.add(memory, 500)

    found = measured(infer)
    values = found.values
    assert values["joules"] == pytest.approx(0.0075)
    assert values["package"] == pytest.approx(0.007) and values["dram"] == pytest.approx(0.0005)
    assert values["idle_power"] == 0 and values["above_idle"] == pytest.approx(values["joules"])
    samples = found.arrays["samples_ns"]
    assert values["samples"] == len(samples) >= 5 and samples.min() > 1e6
    seconds = values["joules"] * values["samples"] / values["power"]
    assert samples.sum() / 1e9 < seconds < samples.sum() / 1e9 * 2
    assert out_of_range("energy", values) is None


@pytest.mark.usefixtures("short")
def test_a_counter_that_turns_many_times_in_a_block_is_read_often_enough(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = powercap.zone(folder / "intel-rapl:0", "package-0", 5, range_uj=50_000)
    monkeypatch.setattr(energy, "READ_EVERY_S", 0.0)

    def infer() -> None:
        time.sleep(0.001)
        powercap.add(package, 7000, range_uj=50_000)

    assert measured(infer).values["joules"] == pytest.approx(0.007)


@pytest.mark.usefixtures("short")
def test_counters_that_stand_still_have_no_energy(folder: Path) -> None:
    powercap.zone(folder / "intel-rapl:0", "package-0", 5)
    with pytest.raises(Unavailable, match="did not move"):
        measured(lambda: time.sleep(0.001))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("counts_packages", [True, False])
def test_on_a_gpu_the_number_is_the_gpus_and_the_packages_stands_beside_it(
    counts_packages: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = powercap.zone(folder / "intel-rapl:0", "package-0", 5) if counts_packages else None
    spent_uj = 0

    def infer() -> None:
        nonlocal spent_uj
        time.sleep(0.001)
        spent_uj += 3000
        if package:
            powercap.add(package, 7000)

    monkeypatch.setattr(energy, "gpu", lambda: Counter(part="gpu", read=lambda: spent_uj))
    values = measured(infer, device="cuda").values
    assert values["joules"] == values["gpu"] == pytest.approx(0.003)
    assert values.get("package") == (pytest.approx(0.007) if counts_packages else None)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("lag_s", [0.0, 0.03, 0.06, 0.09])
def test_a_counter_that_moves_every_100_ms_gives_the_power_all_the_same(
    lag_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(metric, "time", clock)
    # 40 W while idle, and 70 W as soon as the first inference begins.
    working_since: list[float] = []

    def counted_uj() -> int:
        moved = (clock.now + lag_s) // 0.1 * 0.1 - lag_s
        worked_s = max(0.0, moved - working_since[0]) if working_since else 0.0
        return round((40 * moved + 30 * worked_s) * 1e6)

    def infer() -> None:
        working_since[:] = working_since or [clock.now]
        clock.sleep(0.002)

    monkeypatch.setattr(energy, "gpu", lambda: Counter(part="gpu", read=counted_uj))
    values = measured(infer, device="cuda", seconds=2.05).values
    assert values["idle_power"] == pytest.approx(40, rel=0.01)
    assert values["power"] == pytest.approx(70, rel=0.01)
    assert values["joules"] == pytest.approx(70 * 0.002, rel=0.01)
    assert values["above_idle"] == pytest.approx(30 * 0.002, rel=0.02)


def test_a_device_without_a_counter_is_told() -> None:
    with pytest.raises(Unavailable, match="device mps"):
        measured(lambda: None, device="mps")


def _evaluated(backend: str, rounds: int = 1) -> Result:
    """Through the pipeline and its workers."""
    with selftest.bench() as bench:
        return bench.measure([backend], "energy", rounds=rounds, may_fail=True)[backend]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"others": 0.05}, "stable"),
        ({"others": 0.8}, "noisy"),
        ({}, "stable"),  # the system does not say
        ({"others": 0.8, "gpu": 0.01}, "stable"),
    ],
)
def test_a_neighbour_on_another_processor_makes_the_energy_noisy(values: dict[str, float], word: str) -> None:
    job = a_job("energy")
    session = a_session(job)
    measurement = Measurement(values={"joules": 0.01, "samples": 100, **values}, disturbance=calm())
    runs = [
        dataclasses.replace(a_run(job=job, session=session, round=number), measurement=measurement)
        for number in range(3)
    ]
    (result,) = grouped(runs)
    verdict = Summary(result).verdict
    assert verdict and verdict.word == word
    assert word == "stable" or "3 of 3 rounds other processes kept 0.8 processors busy" in verdict.reasons[0]


def test_energy_is_measured_where_it_is_asked_for_alone() -> None:
    assert set(METRICS) - set(default_metrics()) == {"energy"}


@pytest.mark.slow
def test_a_job_under_a_known_power_has_the_energy_of_its_time(folder: Path) -> None:
    turns_every_uj = 100_000_000  # 2.5 s: within each visit
    counter = powercap.zone(folder / "intel-rapl:0", "package-0", 5, turns_every_uj)
    with powercap.growing(counter, watts=40, range_uj=turns_every_uj):
        result = _evaluated("BUSY_5_MS")
    assert result.measurement and not result.failure
    values = result.measurement.values
    assert values["power"] == pytest.approx(40, rel=0.05)
    assert values["idle_power"] == pytest.approx(40, rel=0.1)
    seconds = values["joules"] * values["samples"] / values["power"]
    assert seconds >= 2, "the block was too short for a counter"
    # Not less than 5 ms at 40 W; how much more a call takes is the machine's business.
    assert values["joules"] > 0.2 * 0.95
    assert abs(values["above_idle"]) < values["joules"] * 0.15
    assert result.measurement.disturbance and Summary(result).verdict


def test_a_job_without_counters_is_unavailable_with_the_reason(folder: Path) -> None:
    result = _evaluated("BUSY_1_MS")
    assert result.failure and result.failure.kind == "unavailable"
    assert "no counter of a package" in result.failure.reason


def _gpu_is_here() -> bool:
    import torch

    return torch.cuda.is_available() and torch.version.cuda is not None


@pytest.mark.gpu
def test_a_gpu_that_works_takes_more_energy_than_one_that_is_idle() -> None:
    import torch

    if not _gpu_is_here():
        pytest.skip("PyTorch finds no NVIDIA GPU here")
    matrix = torch.randn(4096, 4096, device="cuda")

    def infer() -> Any:
        return (matrix @ matrix).sum().item()

    values = measured(infer, device="cuda").values
    print({key: round(value, 4) for key, value in values.items()})
    assert 5 < values["idle_power"] < values["power"] < 2000
    assert values["joules"] == values["gpu"] > values["above_idle"] > 0


@pytest.mark.gpu
def test_the_gpu_that_is_read_is_pytorchs_first() -> None:
    import torch

    if not _gpu_is_here():
        pytest.skip("PyTorch finds no NVIDIA GPU here")
    nvml, handle, uuid = energy._nvml(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
    energy.gpu(nvml)  # starts it
    bus_id = energy._bus_id(energy._library("libcuda.so.1"))
    assert nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id, ctypes.byref(handle)) == 0
    assert nvml.nvmlDeviceGetUUID(handle, uuid, 96) == 0
    assert uuid.value.decode() == f"GPU-{torch.cuda.get_device_properties(0).uuid}"

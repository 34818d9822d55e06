"""Counters of energy: each joule once, across a turn of the counter, or the reason why there is none."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core import energy
from cifar_deploy.core.energy import Counter, Meter
from cifar_deploy.core.errors import Unavailable
from tests import powercap


def test_packages_and_their_memory_count_and_nothing_that_is_inside_or_around_them(tmp_path: Path) -> None:
    counted = {
        powercap.zone(tmp_path / "intel-rapl:0", "package-0", 5): 1_000_000,
        powercap.zone(tmp_path / "intel-rapl:0/intel-rapl:0:1", "dram", 5): 20_000,
        powercap.zone(tmp_path / "intel-rapl:1", "package-1-die-0", 5): 300_000,
        powercap.zone(tmp_path / "intel-rapl:1/intel-rapl:1:0", "dram", 5): 4_000,
    }
    others = [
        powercap.zone(tmp_path / "intel-rapl:0/intel-rapl:0:0", "core", 5),
        powercap.zone(tmp_path / "intel-rapl:0/intel-rapl:0:2", "uncore", 5),
        powercap.zone(tmp_path / "intel-rapl:2", "psys", 5),
        powercap.zone(tmp_path / "intel-rapl-mmio:0", "package-0", 5),
    ]
    # In /sys/class/powercap each zone inside another is listed a second time, beside it.
    (tmp_path / "intel-rapl:0:1").symlink_to("intel-rapl:0/intel-rapl:0:1")
    meter = Meter(energy.packages(tmp_path))
    assert meter.read() == {"package": 0.0, "dram": 0.0}
    for counter, uj in counted.items():
        powercap.add(counter, uj)
    for counter in others:
        powercap.add(counter, 10**9)
    assert meter.read() == {"package": 1.3, "dram": 0.024}
    assert meter.read() == {"package": 1.3, "dram": 0.024}


def test_a_turn_of_the_counter_is_no_loss(tmp_path: Path) -> None:
    counter = powercap.zone(tmp_path / "intel-rapl:0", "package-0", 900, range_uj=1000)
    meter = Meter(energy.packages(tmp_path))
    for expected in (300, 600, 900, 1200):
        powercap.add(counter, 300, range_uj=1000)
        assert meter.read() == {"package": pytest.approx(expected / 1e6)}


def test_a_counter_that_cannot_turn_and_goes_back_is_told() -> None:
    values = iter([5, 3])
    meter = Meter([Counter(part="gpu", read=lambda: next(values))])
    with pytest.raises(Unavailable, match="gpu was set back"):
        meter.read()


def test_a_counter_for_root_alone_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = powercap.zone(tmp_path / "intel-rapl:0", "package-0", 5)
    read_text = Path.read_text

    def refuse(path: Path, *arguments: Any) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refuse)  # root, as whom tests may run, is bound by no mode
    with pytest.raises(Unavailable) as caught:
        Meter(energy.packages(tmp_path))
    assert str(counter) in str(caught.value) and "root" in str(caught.value) and "sudo chmod a+r" in str(caught.value)


def _nothing(folder: Path) -> None:
    pass


def _hidden(folder: Path) -> None:
    """As a container shows them: links into a folder that it hides."""
    (folder / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")


def _the_board_alone(folder: Path) -> None:
    powercap.zone(folder / "intel-rapl:0", "psys", 5)


@pytest.mark.parametrize("make", [_nothing, _hidden, _the_board_alone])
def test_where_there_is_no_package_the_reason_names_the_folder_and_the_variable(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(Unavailable) as caught:
        energy.packages(tmp_path)
    assert str(tmp_path) in str(caught.value) and energy.VARIABLE in str(caught.value)


@pytest.mark.parametrize("content", ["", "many\n"])
def test_a_counter_that_holds_no_number_is_told(content: str, tmp_path: Path) -> None:
    counter = powercap.zone(tmp_path / "intel-rapl:0", "package-0", 5)
    counter.write_text(content)
    with pytest.raises(Unavailable, match="energy_uj cannot be read"):
        Meter(energy.packages(tmp_path))


def test_the_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    powercap.zone(tmp_path / "intel-rapl:0", "package-0", 5)
    monkeypatch.setenv(energy.VARIABLE, str(tmp_path))
    assert [counter.part for counter in energy.packages()] == ["package"]


def test_this_machine_counts_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(energy.VARIABLE, raising=False)
    try:
        assert set(Meter(energy.packages()).read()) <= {"package", "dram"}
    except Unavailable as reason:
        assert "/sys/class/powercap" in str(reason)


class Nvml:
    """Two GPUs, by their PCI bus ids, as NVIDIA's library has them."""

    def __init__(self, **codes: int) -> None:
        self.millijoules = {b"0000:17:00.0": 1000, b"0000:65:00.0": 2000}
        self._codes = codes
        self._handles = dict(enumerate(self.millijoules, start=0x1000))

    def nvmlInit_v2(self) -> int:
        return self._codes.get("init", 0)

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id: bytes, handle: Any) -> int:
        found = next((number for number, name in self._handles.items() if name == bus_id), None)
        handle._obj.value = found
        return 6 if found is None else 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, millijoules: Any) -> int:
        assert handle.value
        millijoules._obj.value = self.millijoules[self._handles[handle.value]]
        return self._codes.get("energy", 0)

    def nvmlErrorString(self, code: int) -> bytes:
        return {3: b"Not Supported", 6: b"Not Found", 9: b"Driver Not Loaded"}[code]


class Cuda:
    """The driver: of the machine's GPUs it shows one."""

    def __init__(self, bus_id: bytes = b"0000:65:00.0", code: int = 0) -> None:
        self._bus_id = bus_id
        self._code = code

    def cuInit(self, flags: int) -> int:
        return self._code

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        assert ordinal == 0
        device._obj.value = 7
        return 0

    def cuDeviceGetPCIBusId(self, name: Any, length: int, device: ctypes.c_int) -> int:
        assert device.value == 7 and len(self._bus_id) < length
        name.value = self._bus_id
        return 0


def test_the_gpu_is_the_one_that_cuda_calls_its_first() -> None:
    nvml = Nvml()
    meter = Meter([energy.gpu(nvml, Cuda())])
    nvml.millijoules[b"0000:17:00.0"] += 7000
    assert meter.read() == {"gpu": 0.0}
    nvml.millijoules[b"0000:65:00.0"] += 1500
    assert meter.read() == {"gpu": 1.5}


@pytest.mark.parametrize(
    ("nvml", "cuda", "words"),
    [
        (Nvml(init=9), Cuda(), "start (Driver Not Loaded)"),
        (Nvml(), Cuda(b"0000:99:00.0"), "find the GPU (Not Found)"),
        (Nvml(energy=3), Cuda(), "Not Supported"),
        (Nvml(), Cuda(code=100), "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_cannot_be_read_is_told_with_the_reason(nvml: Nvml, cuda: Cuda, words: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Meter([energy.gpu(nvml, cuda)])
    assert words in str(caught.value)


def test_without_nvidias_driver_the_reason_names_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(Unavailable, match=r"libnvidia-ml\.so\.1 cannot be loaded .*NVIDIA's driver"):
        energy.gpu()


def test_time_of_other_processes_is_all_that_is_busy_but_this_one(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    # user nice system idle iowait irq softirq steal guest guest_nice
    stat.write_text("cpu  1000 100 200 90000 800 30 20 700 500 50\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    own = time.process_time()
    found = energy.others_busy_s(stat)
    assert found == pytest.approx(1350 / os.sysconf("SC_CLK_TCK") - own, abs=0.05)
    assert energy.others_busy_s(tmp_path / "absent") is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not say who is busy")
def test_a_busy_process_shows_as_busy_time_of_others() -> None:
    before = energy.others_busy_s()
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    after = energy.others_busy_s()
    assert before is not None and after is not None and after - before > 0.35

"""Counters of energy: of the processor's packages and the memory at them, and of an NVIDIA GPU.

Linux shows those of a processor (RAPL: Intel since Sandy Bridge, AMD since Zen) as zones of powercap:

    intel-rapl:0/                package-0: the whole processor, all of its cores, caches and graphics
    intel-rapl:0/intel-rapl:0:0/ core, uncore: inside the package's number, so they are not counted again
    intel-rapl:0/intel-rapl:0:1/ dram: the memory at the package, outside the package's number, so it is counted too
    intel-rapl:1/                psys: the board as far as its maker has wired it, packages included; never counted,
                                 since it means another thing on each board
    intel-rapl-mmio:0/           package-0 through another door; never counted

Each zone holds `energy_uj`, microjoules, which the processor updates about every millisecond. Since Linux 5.10 only root
may read it. It starts again after `max_energy_range_uj`, usually 65 to 262 kJ, for which a processor of 300 W takes minutes.
A Meter that is read every READ_EVERY_S misses no turn, and a run of a few seconds has one at most.

NVML, of NVIDIA's driver, counts the millijoules of a whole GPU of Volta or newer, and updates them every 20 to 100 ms.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cifar_deploy.core.errors import Unavailable

# Names where powercap lies, if it is not where Linux has it: a container sees it only where it is mounted.
VARIABLE = "CIFAR_DEPLOY_POWERCAP"

READ_EVERY_S = 30.0

_POWERCAP = "/sys/class/powercap"
_ALLOW = f"sudo chmod a+r {_POWERCAP}/intel-rapl:*/energy_uj"
_BUS_ID_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Counter:
    part: str  # what it counts: "package", "dram" or "gpu"
    read: Callable[[], int]  # microjoules, of which only differences mean something
    range_uj: int | None = None  # after which it starts again; None if it does not


class Meter:
    """What a few counters have counted since it was made."""

    def __init__(self, counters: Iterable[Counter]) -> None:
        """Raises Unavailable if one of them cannot be read."""
        self._counters = tuple(counters)
        self._last = [counter.read() for counter in self._counters]
        self._counted_uj = dict.fromkeys((counter.part for counter in self._counters), 0)

    def read(self) -> dict[str, float]:
        """Joules by part. To be asked at least every READ_EVERY_S: a counter that has turned twice shows one turn."""
        for index, counter in enumerate(self._counters):
            now = counter.read()
            step = now - self._last[index]
            if step < 0:
                if counter.range_uj is None:
                    raise Unavailable(f"energy: the counter of {counter.part} was set back meanwhile; measure again")
                step += counter.range_uj
            self._last[index] = now
            self._counted_uj[counter.part] += step
        return {part: counted / 1e6 for part, counted in self._counted_uj.items()}


def packages(folder: Path | None = None) -> list[Counter]:
    """All packages of the processor, and the memory at each where that is counted.

    `folder` is where powercap lies: VARIABLE, or where Linux has it. Raises Unavailable if there are none, or they may
    not be read.
    """
    folder = folder or Path(os.environ.get(VARIABLE) or _POWERCAP)
    counters = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        if not _name(zone).startswith("package"):
            continue
        counters.append(_counter(zone, "package"))
        counters += [_counter(inner, "dram") for inner in sorted(zone.glob("intel-rapl:*")) if _name(inner) == "dram"]
    if not counters:
        raise Unavailable(
            f"energy: {folder} has no counter of a package; measure on Linux on an Intel or AMD processor, not in a virtual "
            f"machine; into a container mount the host's {_POWERCAP}/intel-rapl, and name the place in {VARIABLE}"
        )
    return counters


def _name(zone: Path) -> str:
    """Empty if it cannot be read: in a container a zone may be a link that leads nowhere."""
    with contextlib.suppress(OSError):
        return (zone / "name").read_text().strip()
    return ""


def _counter(zone: Path, part: str) -> Counter:
    return Counter(part=part, read=partial(_number, zone / "energy_uj"), range_uj=_number(zone / "max_energy_range_uj"))


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except PermissionError as error:
        raise Unavailable(
            f"energy: {file} may be read by root alone; until the machine restarts `{_ALLOW}` lets all users read it"
        ) from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"energy: {file} cannot be read ({error}); measure on another machine") from error


def gpu(nvml: Any = None, cuda: Any = None) -> Counter:
    """The GPU that CUDA calls its first, CUDA_VISIBLE_DEVICES heeded, however NVML numbers it: found by its PCI bus id.

    `nvml` and `cuda` are the driver's libraries. Creates no CUDA context. Raises Unavailable if there is no such GPU, or
    it does not count.
    """
    nvml, cuda = nvml or _nvml(), cuda or _library("libcuda.so.1")

    def asked(what: str, code: int) -> None:
        if code:
            cause = nvml.nvmlErrorString(code).decode()
            raise Unavailable(f"energy: NVML cannot {what} ({cause}); it takes an NVIDIA GPU of Volta or newer")

    asked("start", nvml.nvmlInit_v2())
    handle = ctypes.c_void_p()
    asked("find the GPU", nvml.nvmlDeviceGetHandleByPciBusId_v2(_bus_id(cuda), ctypes.byref(handle)))

    def read() -> int:
        millijoules = ctypes.c_ulonglong()
        asked("read the GPU's energy", nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)))
        return millijoules.value * 1000

    return Counter(part="gpu", read=read)


def _bus_id(cuda: Any) -> bytes:
    """Asked of the driver itself: PyTorch is not imported for it, which a job on another runtime does without."""

    def asked(what: str, code: int) -> None:
        if code:
            raise Unavailable(f"energy: CUDA cannot {what} (error {code}); check nvidia-smi and CUDA_VISIBLE_DEVICES")

    device, name = ctypes.c_int(), ctypes.create_string_buffer(_BUS_ID_BYTES)
    asked("start", cuda.cuInit(0))
    asked("find its first GPU", cuda.cuDeviceGet(ctypes.byref(device), 0))
    asked("name the bus of its first GPU", cuda.cuDeviceGetPCIBusId(name, _BUS_ID_BYTES, device))
    return name.value


def _nvml() -> Any:
    library = _library("libnvidia-ml.so.1")
    library.nvmlErrorString.restype = ctypes.c_char_p
    return library


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise Unavailable(f"energy: {name} cannot be loaded ({error}); it comes with NVIDIA's driver") from error


def others_busy_s(stat: Path = Path("/proc/stat")) -> float | None:
    """Seconds of processors that all processes but this one have used, of which only differences mean something.

    None where there is no /proc.
    """
    try:
        ticks = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:8]]
        user, nice, system, _, _, irq, softirq = ticks  # guests are inside user and nice
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()

"""What Linux and macOS say of the hardware: the board, its cores by kind, and what stands between it and this process.

Each function reads below a root folder, "/" in use, so that a test can describe a board that is not here. What the system does
not say is None or empty; nothing here raises.
"""

import contextlib
import functools
import hashlib
import platform
import struct
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cifar_deploy.core import affinity
from cifar_deploy.core.records import Cores
from cifar_deploy.core.sysfs import ROOT, number, text

# Arm's "CPU implementer" and "CPU part", by the names of Linux's and util-linux's own tables.
_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "Ampere-1",
}

# What DMI says where a maker has filled in nothing.
_PLACEHOLDERS = {"", "none", "default string", "system product name", "system manufacturer", "to be filled by o.e.m."}

# Makers that DMI names where the machine is virtual.
_HYPERVISORS = ("qemu", "kvm", "vmware", "xen", "innotek", "amazon ec2", "google compute engine", "parallels", "bochs")

_PROCESSORS = "sys/devices/system/cpu"

# Mixed into the hash, so that a machine's number here is of use here alone.
_SALT = b"cifar-deploy machine "
_ID_DIGITS = 12


@functools.cache
def cpuinfo(root: Path = ROOT) -> tuple[Mapping[str, str], ...]:
    """The fields of each processor in /proc/cpuinfo; what stands below them all, as a Raspberry Pi's model, is a last one."""
    processors: list[Mapping[str, str]] = []
    for block in text(root / "proc/cpuinfo").split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines() if ":" in line)
        if fields := {key.strip(): value.strip() for key, _, value in lines}:
            processors.append(fields)
    return tuple(processors)


class Kind(NamedTuple):
    """Cores of one kind, with their numbers."""

    cores: Cores
    numbers: tuple[int, ...]
    capacity: float | None  # by the kernel, where it schedules by that: the fastest core has 1024


def clusters(root: Path = ROOT) -> tuple[Cores, ...]:
    """The processor's cores by kind and highest frequency, the fastest first; () if the system tells of no kinds."""
    found = tuple(kind.cores for kind in kinds(root))
    return _apple() if not found and platform.system() == "Darwin" and root == ROOT else found


def kinds(root: Path = ROOT) -> tuple[Kind, ...]:
    """The same with the processors' numbers, where the system has some."""
    hybrid: dict[int, str] = {}
    for kind, file in (("P-core", "cpu_core"), ("E-core", "cpu_atom")):
        with contextlib.suppress(ValueError):  # where there is no such file
            hybrid |= dict.fromkeys(affinity.parsed(text(root / f"sys/devices/{file}/cpus")), kind)
    found: dict[tuple[str, float | None], list[int]] = {}
    for fields in cpuinfo(root):
        with contextlib.suppress(KeyError, ValueError):
            place = int(fields["processor"])
            name = _core(fields) or hybrid.get(place) or fields.get("model name")
            if name:
                khz = number(root / f"{_PROCESSORS}/cpu{place}/cpufreq/cpuinfo_max_freq")
                found.setdefault((name, None if khz is None else khz * 1000), []).append(place)
    told = [
        Kind(
            cores=Cores(name=name, count=len(places), max_hz=max_hz),
            numbers=tuple(places),
            capacity=number(root / f"{_PROCESSORS}/cpu{places[0]}/cpu_capacity"),
        )
        for (name, max_hz), places in found.items()
    ]
    return tuple(sorted(told, key=lambda kind: (-(kind.capacity or 0), -(kind.cores.max_hz or 0))))


def _core(fields: Mapping[str, str]) -> str | None:
    """An Arm core's name, or its numbers where the table has none."""
    if "CPU part" not in fields:
        return None
    implementer, part = int(fields["CPU implementer"], 16), int(fields["CPU part"], 16)
    return _CORES.get((implementer, part), f"Arm core {implementer:#x}:{part:#x}")


def _apple() -> tuple[Cores, ...]:
    kinds = []
    for level in range(int(_sysctl("hw.nperflevels") or 0)):
        name, count = _sysctl(f"hw.perflevel{level}.name"), _sysctl(f"hw.perflevel{level}.physicalcpu")
        if name and count:
            kinds.append(Cores(name=name, count=int(count)))
    return tuple(kinds)


def processor(cores: Sequence[Cores], root: Path = ROOT) -> str:
    """The processor's name; where the system has none, as on Arm, the names of its `cores`."""
    fields = cpuinfo(root)
    # What Arm's kernels call a model ("ARMv7 Processor rev 4") is the same on unlike boards.
    if fields and "CPU part" not in fields[0] and (name := fields[0].get("model name")):
        return name
    if root == ROOT and (name := _sysctl("machdep.cpu.brand_string")):
        return name
    counts: Counter[str] = Counter()
    for kind in cores:
        counts[kind.name] += kind.count
    if counts:
        return " + ".join(f"{count} × {name}" for name, count in counts.items())
    last = fields[-1] if fields else {}
    return last.get("Hardware") or platform.processor() or platform.machine()


def board(root: Path = ROOT) -> str | None:
    """The board's or computer's name, by the device tree, DMI or macOS."""
    if name := text(root / "proc/device-tree/model"):
        return name
    told = [name for name in _dmi(root) if name.lower() not in _PLACEHOLDERS]
    if len(told) == 2 and told[1].lower().startswith(told[0].lower()):
        del told[0]  # the product's name begins with its maker's
    return " ".join(told) or (_sysctl("hw.model") if root == ROOT else None)


def _dmi(root: Path) -> tuple[str, str]:
    """The maker and the product, as the firmware names them."""
    maker, product = (text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return maker, product


def identity(root: Path = ROOT) -> str | None:
    """12 hex digits that differ between two machines of a kind: a salted hash of the system's machine id."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        if told := text(root / name):
            return hashlib.sha256(_SALT + told.encode()).hexdigest()[:_ID_DIGITS]
    return None


def container(root: Path = ROOT) -> str | None:
    """The kind of container that this process is in, or None."""
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    if told := text(root / "run/systemd/container"):
        return told
    groups = text(root / "proc/1/cgroup")
    return next((kind for kind in ("kubepods", "docker", "lxc") if f"/{kind}" in groups), None)


def is_virtual(root: Path = ROOT) -> bool | None:
    """Whether a hypervisor lies between; None if the system does not say."""
    fields = cpuinfo(root)
    if any("hypervisor" in processor.get("flags", "").split() for processor in fields):
        return True
    told = " ".join(_dmi(root)).lower()
    if any(name in told for name in _HYPERVISORS) or "linux,dummy-virt" in text(root / "proc/device-tree/compatible"):
        return True
    return False if fields else None


def is_emulated(architecture: str, root: Path = ROOT) -> bool:
    """Whether another kind of processor plays this one, as under qemu's user mode.

    An emulator answers for uname and /proc/cpuinfo, and not for what else the kernel says of itself.
    """
    # Since Linux 6.1; before, of x86 and Arm alike: cpu:type:x86,ven0000fam0006mod0055:feature:…
    told = text(root / "proc/sys/kernel/arch")
    told = told or text(root / "sys/devices/system/cpu/modalias").removeprefix("cpu:type:").partition(",")[0]
    kinds = _family(told.partition(":")[0]), _family(architecture)
    return all(kinds) and kinds[0] != kinds[1]


def _family(architecture: str) -> str | None:
    """A 64-bit processor runs 32-bit programs of its own family."""
    families = {"x86": ("x86", "i386", "i686", "amd64"), "arm": ("aarch64", "arm")}
    return next((family for family, names in families.items() if architecture.lower().startswith(names)), None)


def libc() -> str | None:
    """The C library with its version; None where Python cannot tell, as on musl."""
    return " ".join(platform.libc_ver()).strip() or None


def bits() -> int:
    """Of a pointer in this process: a 64-bit processor may run a 32-bit system."""
    return 8 * struct.calcsize("P")


def _sysctl(name: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    asked = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True)
    return asked.stdout.strip() or None

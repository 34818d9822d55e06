"""Two unlike boards never look alike, and nothing is claimed that the system does not say."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cifar_deploy.core import hardware
from cifar_deploy.core.machine import described
from cifar_deploy.core.records import Cores
from tests.core.boards import A53, A76, CLOUD_ARM, JETSON, LAPTOP, PI_4, RK3588, TOWER, arm_cores, written

Files = Mapping[str, str]


@pytest.mark.parametrize(
    ("files", "processor", "board", "clusters"),
    [
        (PI_4, "4 × Cortex-A72", "Raspberry Pi 4 Model B Rev 1.4", ["4 × Cortex-A72 at 1.8 GHz"]),
        (
            RK3588,
            "4 × Cortex-A76 + 4 × Cortex-A55",
            "Radxa ROCK 5B",
            ["2 × Cortex-A76 at 2.4 GHz", "2 × Cortex-A76 at 2.4 GHz", "4 × Cortex-A55 at 1.8 GHz"],
        ),
        (JETSON, "6 × Cortex-A78AE", "NVIDIA Jetson Orin Nano Developer Kit", ["6 × Cortex-A78AE at 1.5 GHz"]),
        (CLOUD_ARM, "2 × Neoverse-N1", "Amazon EC2 t4g.small", ["2 × Neoverse-N1"]),
        (
            LAPTOP,
            "12th Gen Intel(R) Core(TM) i7-1260P",
            "LENOVO 21CBCTO1WW",
            ["2 × P-core at 4.7 GHz", "2 × E-core at 3.4 GHz"],
        ),
        (
            TOWER,
            "AMD Ryzen 9 7950X 16-Core Processor",
            None,
            ["2 × AMD Ryzen 9 7950X 16-Core Processor"],
        ),
    ],
)
def test_a_board_is_described(
    tmp_path: Path, files: Files, processor: str, board: str | None, clusters: list[str]
) -> None:
    found = described(written(tmp_path, files))
    assert (found.processor, found.board) == (processor, board)
    assert [str(cores) for cores in found.clusters] == clusters
    assert found.container is None
    if board:
        assert str(found).startswith(f"{board}, {processor}")


def test_instructions_are_those_that_every_core_has(tmp_path: Path) -> None:
    little, big = arm_cores([("0xd03", 0x41)], A53), arm_cores([("0xd0b", 0x41)], A76).replace(": 0\n", ": 1\n", 1)
    found = described(written(tmp_path, {"proc/cpuinfo": f"{little}\n{big}"}))
    assert found.instructions == ("asimd",), "the small core has no dot products, and a thread may run there"
    assert found.processor == "1 × Cortex-A53 + 1 × Cortex-A76"


def test_a_core_that_no_table_knows_keeps_its_numbers(tmp_path: Path) -> None:
    found = hardware.clusters(written(tmp_path, {"proc/cpuinfo": arm_cores([("0xfff", 0x51)] * 2, A53)}))
    assert found == (Cores(name="Arm core 0x51:0xfff", count=2),)


def test_two_boards_of_a_kind_have_two_ids(tmp_path: Path) -> None:
    first = written(tmp_path / "first", {**PI_4, "etc/machine-id": "0123456789abcdef0123456789abcdef\n"})
    second = written(tmp_path / "second", {**PI_4, "etc/machine-id": "0123456789abcdef0123456789abcdee\n"})
    ids = hardware.identity(first), hardware.identity(second)
    assert None not in ids and ids[0] != ids[1]
    assert "0123456789abcdef"[:12] not in str(ids), "the system's own number stays here"
    assert hardware.identity(tmp_path / "neither") is None


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n', ".dockerenv": ""}, "podman"),
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "12:cpu:/kubepods/burstable/pod1\n"}, "kubepods"),
        ({"proc/1/cgroup": "0::/lxc/box\n"}, "lxc"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, None),
        ({}, None),
    ],
)
def test_a_container_is_named(tmp_path: Path, files: Files, container: str | None) -> None:
    assert hardware.container(written(tmp_path, files)) == container


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        (CLOUD_ARM, True),
        ({"proc/cpuinfo": TOWER["proc/cpuinfo"].replace("avx2", "hypervisor avx2")}, True),
        ({**PI_4, "proc/device-tree/compatible": "linux,dummy-virt\0"}, True),
        (TOWER, False),
        (PI_4, False),
        ({}, None),
    ],
)
def test_a_virtual_machine_is_told_from_a_real_one(tmp_path: Path, files: Files, virtual: bool | None) -> None:
    assert hardware.is_virtual(written(tmp_path, files)) is virtual


@pytest.mark.parametrize(
    ("files", "architecture", "emulated"),
    [
        ({"proc/sys/kernel/arch": "x86_64\n"}, "aarch64", True),
        ({"sys/devices/system/cpu/modalias": "cpu:type:x86,ven0000fam0006:feature:,0000"}, "aarch64", True),
        ({"proc/sys/kernel/arch": "aarch64\n"}, "x86_64", True),
        ({"proc/sys/kernel/arch": "riscv64\n"}, "aarch64", False),  # of what is not known nothing is claimed
        ({"proc/sys/kernel/arch": "x86_64\n"}, "x86_64", False),
        ({"proc/sys/kernel/arch": "x86_64\n"}, "i686", False),
        ({"proc/sys/kernel/arch": "aarch64\n"}, "armv7l", False),
        ({"sys/devices/system/cpu/modalias": "cpu:type:aarch64:feature:,0000,0001"}, "aarch64", False),
        ({}, "aarch64", False),
    ],
)
def test_an_emulated_processor_is_found_out(tmp_path: Path, files: Files, architecture: str, emulated: bool) -> None:
    assert hardware.is_emulated(architecture, written(tmp_path, files)) is emulated


@pytest.mark.parametrize(
    "files",
    [
        {"proc/cpuinfo": ""},
        {"proc/cpuinfo": "processor\t: many\nCPU part\t: 0xd08\n"},
        {"proc/cpuinfo": "processor\t: 0\nCPU part\t: nine\nCPU implementer\t: 0x41\n"},
        {"proc/cpuinfo": "\n\n\n:::\n\0"},
        {**PI_4, **{name: "soon\n" for name in PI_4 if name.endswith("max_freq")}},
    ],
)
def test_a_system_that_says_little_is_described_as_far_as_it_goes(tmp_path: Path, files: Files) -> None:
    found = described(written(tmp_path, files))
    assert found.processor and all(cores.max_hz is None for cores in found.clusters)


def test_this_machine_is_described_as_it_is() -> None:
    found = described()
    assert found.bits in (32, 64)
    assert not found.emulated
    assert sum(cores.count for cores in found.clusters) in (0, found.cores)

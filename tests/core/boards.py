"""Other machines, as far as Linux describes them: files below a folder that stands for "/"."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# The features that matter, and some that don't, of processors with and without dot products.
A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
A53 = "fp asimd evtstrm crc32 cpuid"


def written(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def arm_cores(parts: Sequence[tuple[str, int]], features: str, tail: str = "") -> str:
    """/proc/cpuinfo of 64-bit Arm cores, each with its part and implementer."""
    return (
        "\n\n".join(
            f"processor\t: {number}\nBogoMIPS\t: 48.00\nFeatures\t: {features}\nCPU implementer\t: {implementer:#04x}\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 0"
            for number, (part, implementer) in enumerate(parts)
        )
        + "\n"
        + tail
    )


def x86_cores(count: int, name: str, flags: str) -> str:
    return "\n\n".join(
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: {name}\nflags\t\t: {flags}\npower management:"
        for number in range(count)
    )


def frequencies(khz: Sequence[int], name: str = "cpuinfo_max_freq") -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{number}/cpufreq/{name}": f"{each}\n" for number, each in enumerate(khz)}


PI_4 = {
    "proc/cpuinfo": arm_cores(
        [("0xd08", 0x41)] * 4,
        A53,
        "\nRevision\t: c03114\nSerial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    ),
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/sys/kernel/arch": "aarch64\n",
    **frequencies([1_800_000] * 4),
}
RK3588 = {
    "proc/cpuinfo": arm_cores([("0xd05", 0x41)] * 4 + [("0xd0b", 0x41)] * 4, A76, "\nSerial\t\t: 0011223344556677\n"),
    "proc/device-tree/model": "Radxa ROCK 5B\0",
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    "sys/devices/system/cpu/modalias": "cpu:type:aarch64:feature:,0000,0001",
    **frequencies([1_800_000] * 4 + [2_400_000] * 2 + [2_352_000] * 2),
}
JETSON = {
    "proc/cpuinfo": arm_cores([("0xd42", 0x41)] * 6, A76),
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "var/lib/nvpmodel/status": "pmode:0001",
    **frequencies([1_510_400] * 6),
}
CLOUD_ARM = {
    "proc/cpuinfo": arm_cores([("0xd0c", 0x41)] * 2, A76),
    "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
    "sys/class/dmi/id/product_name": "t4g.small\n",
}
LAPTOP = {
    "proc/cpuinfo": x86_cores(4, "12th Gen Intel(R) Core(TM) i7-1260P", "fpu avx2 avx_vnni"),
    "sys/devices/cpu_core/cpus": "0-1\n",
    "sys/devices/cpu_atom/cpus": "2,3\n",
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "21CBCTO1WW\n",
    **frequencies([4_700_000] * 2 + [3_400_000] * 2),
}
TOWER = {
    "proc/cpuinfo": x86_cores(2, "AMD Ryzen 9 7950X 16-Core Processor", "fpu avx2 avx512f avx512_vnni"),
    "sys/class/dmi/id/sys_vendor": "To Be Filled By O.E.M.\n",
    "sys/class/dmi/id/product_name": "System Product Name\n",
    "proc/sys/kernel/arch": "x86_64\n",
}

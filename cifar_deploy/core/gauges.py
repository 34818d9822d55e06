"""What the system says of the processor's conditions just now: frequency, heat, throttling, power.

Each function reads below a root folder, "/" in use. What the system does not say is None or empty; nothing here raises.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from cifar_deploy.core.sysfs import ROOT, number, text

_PROCESSORS = "sys/devices/system/cpu"

# Of get_throttled of a Raspberry Pi's firmware: the lower bits are of now, the same 16 bits higher are since the start.
_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}

# Of the kernel's cooling devices, those that slow a processor. Fans cool as well.
_SLOWING = ("processor", "cpufreq", "thermal-cpufreq", "thermal-idle")


def mean_frequency_hz(root: Path = ROOT) -> float | None:
    found = _numbers((root / _PROCESSORS).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return 1000 * sum(found) / len(found) if found else None


def core(root: Path = ROOT) -> tuple[int | None, float | None]:
    """The processor, counted from 0, on which this thread ran just now, and its frequency in Hz."""
    try:
        # Behind the name, which may hold anything, ")" included: the 37th field (proc_pid_stat(5), 39 of all).
        number = int((root / "proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        return None, None
    khz = _numbers([root / _PROCESSORS / f"cpu{number}/cpufreq/scaling_cur_freq"])
    return number, 1000 * khz[0] if khz else None


def governors(root: Path = ROOT) -> tuple[str, ...]:
    files = (root / _PROCESSORS).glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted({text(file) for file in files} - {""}))


def temperature_c(root: Path = ROOT) -> float | None:
    """Of the hottest zone. Sensors that are switched off say 0 or less."""
    found = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max((value / 1000 for value in found if value > 0), default=None)  # the kernel counts in thousandths


def throttles(root: Path = ROOT) -> dict[str, float]:
    """How often, or whether, each thing slows the processor that can, by its name. What rises, or is not 0, did."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        bits = int(text(root / "sys/devices/platform/soc/soc:firmware/get_throttled") or "0", 16)
        found |= {name: float(bits >> bit & 1) for bit, name in _PI_BITS.items()}
    for kind in ("core", "package"):
        files = (root / _PROCESSORS).glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        if counts := _numbers(files):
            found[f"{kind} too hot (count)"] = sum(counts)
    for device in (root / "sys/class/thermal").glob("cooling_device*"):
        kind = text(device / "type").lower()
        if kind.startswith(_SLOWING) and (states := _numbers([device / "cur_state"])):
            found["cooling slows the processor"] = max(states[0], found.get("cooling slows the processor", 0))
    return found


def throttled(before: dict[str, float], after: dict[str, float]) -> tuple[str, ...]:
    """What slowed the processor between two readings: counts that rose, and states that are not 0 at either end."""
    slowed = []
    for name, value in after.items():
        first = before.get(name, 0.0)
        if value > first if name.endswith("(count)") else value > 0 or first > 0:
            slowed.append(name.removesuffix(" (count)"))
    return tuple(slowed)


def power(root: Path = ROOT) -> str | None:
    """ "mains", or the battery's charge if it is being used up."""
    supplies = list((root / "sys/class/power_supply").glob("*"))
    for supply in supplies:
        # Mice and keyboards have batteries too: theirs have the scope Device.
        if text(supply / "type") == "Battery" and text(supply / "scope") != "Device":
            if text(supply / "status") == "Discharging":
                charge = text(supply / "capacity")
                return f"battery, {charge} %" if charge.isdigit() else "battery"
            return "mains"
    return "mains" if any(text(supply / "online") == "1" for supply in supplies) else None


def power_mode(root: Path = ROOT) -> str | None:
    """As the firmware names it (balanced, performance …), or by its number on an NVIDIA Jetson."""
    if jetson := text(root / "var/lib/nvpmodel/status"):  # pmode:0002
        return f"nvpmodel {jetson.rpartition(':')[2].lstrip('0') or '0'}"
    return text(root / "sys/firmware/acpi/platform_profile") or None


def _numbers(files: Iterable[Path]) -> list[float]:
    """Of those files that hold one."""
    return [found for file in files if (found := number(file)) is not None]

"""What a board says of its frequency, heat and power is read as it is meant."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from cifar_deploy.core import gauges
from tests.core.boards import frequencies, written

THERMAL, SUPPLY = "sys/class/thermal", "sys/class/power_supply"
PI_FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def test_the_hottest_zone_counts_and_a_sensor_that_is_off_does_not(tmp_path: Path) -> None:
    zones = {"0": "48200\n", "1": "51700\n", "2": "-274000\n", "3": "0\n", "4": "n/a"}
    files = {f"{THERMAL}/thermal_zone{zone}/temp": told for zone, told in zones.items()}
    assert gauges.temperature_c(written(tmp_path, files)) == 51.7
    assert gauges.temperature_c(tmp_path / "none") is None


def test_the_frequency_is_that_of_the_core_on_which_the_process_ran(tmp_path: Path) -> None:
    behind_the_name = " ".join(["S", *["0"] * 35, "2", "0"])
    stat = {"proc/thread-self/stat": f"12 (a) name) {behind_the_name}"}
    files = stat | frequencies([600_000, 600_000, 2_400_000, 600_000], "scaling_cur_freq")
    root = written(tmp_path, files)
    assert gauges.core(root) == (2, 2.4e9)
    assert gauges.mean_frequency_hz(root) == 1.05e9
    assert gauges.core(written(tmp_path / "other", stat)) == (2, None)
    assert gauges.core(tmp_path / "none") == (None, None)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the processor cannot be chosen here")
def test_the_core_is_the_one_that_the_process_is_held_to() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        for number in sorted(allowed)[-2:]:
            os.sched_setaffinity(0, {number})
            assert gauges.core()[0] == number
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_governors_are_named_once(tmp_path: Path) -> None:
    files = {
        f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor": f"{name}\n"
        for number, name in enumerate(["schedutil", "performance", "schedutil"])
    }
    assert gauges.governors(written(tmp_path, files)) == ("performance", "schedutil")


@pytest.mark.parametrize(
    ("before", "after", "slowed"),
    [
        ({PI_FLAGS: "0\n"}, {PI_FLAGS: "0\n"}, ()),
        ({PI_FLAGS: "0\n"}, {PI_FLAGS: "50005\n"}, ("under-voltage", "throttled")),
        ({PI_FLAGS: "50000\n"}, {PI_FLAGS: "50000\n"}, ()),  # once since the start, and not now
        (
            {"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "17\n"},
            {"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "17\n"},
            (),
        ),
        (
            {"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "17\n"},
            {"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "19\n"},
            ("core too hot",),
        ),
        (
            {f"{THERMAL}/cooling_device0/type": "thermal-cpufreq-0\n", f"{THERMAL}/cooling_device0/cur_state": "0\n"},
            {f"{THERMAL}/cooling_device0/type": "thermal-cpufreq-0\n", f"{THERMAL}/cooling_device0/cur_state": "2\n"},
            ("cooling slows the processor",),
        ),
        (
            {f"{THERMAL}/cooling_device0/type": "Processor\n", f"{THERMAL}/cooling_device0/cur_state": "3\n"},
            {f"{THERMAL}/cooling_device0/type": "Processor\n", f"{THERMAL}/cooling_device0/cur_state": "0\n"},
            ("cooling slows the processor",),
        ),
        (
            {f"{THERMAL}/cooling_device0/type": "pwm-fan\n", f"{THERMAL}/cooling_device0/cur_state": "0\n"},
            {f"{THERMAL}/cooling_device0/type": "pwm-fan\n", f"{THERMAL}/cooling_device0/cur_state": "4\n"},
            (),
        ),
        ({PI_FLAGS: "soon\n"}, {PI_FLAGS: "soon\n"}, ()),
        ({}, {}, ()),
    ],
)
def test_what_slowed_the_processor_is_named(
    tmp_path: Path, before: Mapping[str, str], after: Mapping[str, str], slowed: tuple[str, ...]
) -> None:
    first = gauges.throttles(written(tmp_path / "before", before))
    assert gauges.throttled(first, gauges.throttles(written(tmp_path / "after", after))) == slowed


@pytest.mark.parametrize(
    ("files", "power"),
    [
        ({f"{SUPPLY}/AC/type": "Mains", f"{SUPPLY}/AC/online": "1\n"}, "mains"),
        ({f"{SUPPLY}/BAT0/type": "Battery\n", f"{SUPPLY}/BAT0/status": "Charging\n"}, "mains"),
        (
            {
                f"{SUPPLY}/BAT0/type": "Battery\n",
                f"{SUPPLY}/BAT0/status": "Discharging\n",
                f"{SUPPLY}/BAT0/capacity": "57\n",
                f"{SUPPLY}/AC/online": "0\n",
            },
            "battery, 57 %",
        ),
        (
            {
                f"{SUPPLY}/mouse/type": "Battery\n",
                f"{SUPPLY}/mouse/scope": "Device\n",
                f"{SUPPLY}/mouse/status": "Discharging\n",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_the_source_of_power_is_told(tmp_path: Path, files: Mapping[str, str], power: str | None) -> None:
    assert gauges.power(written(tmp_path, files)) == power


def test_the_mode_of_power_is_the_firmwares_or_the_boards(tmp_path: Path) -> None:
    laptop = written(tmp_path / "laptop", {"sys/firmware/acpi/platform_profile": "low-power\n"})
    jetson = written(tmp_path / "jetson", {"var/lib/nvpmodel/status": "pmode:0002"})
    assert (gauges.power_mode(laptop), gauges.power_mode(jetson)) == ("low-power", "nvpmodel 2")
    assert gauges.power_mode(tmp_path / "none") is None

"""What is asked of pip for a device, and what a device without wheels is told."""

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.remote import wheels
from cifar_deploy.remote.session import Found

PI5 = Found(
    python="/usr/bin/python3",
    version=(3, 12, 3),
    implementation="CPython",
    free_threaded=False,
    bits=64,
    system="Linux",
    machine="aarch64",
    libc="glibc 2.36",
    clock=0.0,
    versions={"numpy": None},
    places=(),
)


def test_the_tags_are_those_of_the_device_the_newest_first() -> None:
    tags = wheels._tags(PI5)
    assert tags[0] == "manylinux_2_36_aarch64" and tags[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert "manylinux_2_28_aarch64" in tags
    assert wheels._tags(replace(PI5, libc="musl"))[0] == "musllinux_1_2_aarch64"
    mac = wheels._tags(replace(PI5, system="Darwin", machine="arm64", libc="macos 14.2.1"))
    assert mac[:2] == ["macosx_14_0_arm64", "macosx_14_0_universal2"] and "macosx_11_0_arm64" in mac


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"bits": 32, "machine": "armv7l"}, "is 32 bits, and the runtimes have no packages for it"),
        ({"free_threaded": True}, "is free-threaded"),
        ({"implementation": "PyPy"}, "is PyPy"),
        ({"system": "FreeBSD", "libc": ""}, "FreeBSD aarch64 is no platform that packages are sent to"),
        ({"libc": "glibc x"}, "is no platform"),
    ],
)
def test_a_device_that_has_no_wheels_says_why(what: dict[str, Any], told: str) -> None:
    with pytest.raises(Unavailable, match=told):
        wheels._tags(replace(PI5, **what))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes instead of an index, and a cache of our own."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, tag in (
        ("tiny-2.0", "cp312-cp312-manylinux_2_28_aarch64"),
        ("tiny-1.0", "cp310-cp310-manylinux_2_27_aarch64"),
        ("other-1.0", "py3-none-any"),
    ):
        package, version = name.split("-")
        with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as wheel:
            wheel.writestr(
                f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            )
            wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("CIFAR_DEPLOY_CACHE", str(tmp_path / "cache"))
    return folder


NEEDS = ("tiny==2.0; python_version >= '3.11'", "other==1.0; python_version >= '3.11'")


@pytest.mark.slow
def test_wheels_are_downloaded_once_and_known_by_their_content(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not here")
    lines: list[str] = []
    found = wheels.for_device(PI5, NEEDS, lines.append)
    assert [wheel.path.name for wheel in found] == [
        "other-1.0-py3-none-any.whl",
        "tiny-2.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    ]
    assert lines == ["downloading tiny==2.0 other==1.0 for Python 3.12, glibc 2.36, aarch64"]
    assert len({wheel.folder for wheel in found}) == 2
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")  # offline now
    assert wheels.for_device(PI5, NEEDS, lines.append) == found and len(lines) == 1
    # Of home's version there is none for this one: the newest that there is.
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    (old, *_) = wheels.for_device(replace(PI5, version=(3, 10, 12)), NEEDS[:1], lines.append)
    assert old.path.name.startswith("tiny-1.0")
    with pytest.raises(
        Unavailable, match=r"^pip cannot download tiny for Python 3\.13 on aarch64 \(No matching .*\); connect home"
    ):
        wheels.for_device(replace(PI5, version=(3, 13, 0)), NEEDS[:1], lines.append)
    assert lines[-2].startswith("home's versions are not made for it (tiny==2.0)")

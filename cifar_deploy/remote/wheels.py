"""The packages that a device lacks, as wheels for it: pip downloads them at home, once, into the user's cache."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core import cache, files, untrusted
from cifar_deploy.core.errors import Unavailable, one_line
from cifar_deploy.core.locks import Lock
from cifar_deploy.remote.session import Found

# Of a package as pip takes it, for the Pythons that have this version (see stages.pack).
_PINNED = re.compile(r"([A-Za-z0-9._-]+)==([^;\s]+)")
_PINNED_FROM = (3, 11)

# The first glibc that manylinux tags name by its version, and the first macOS of both processors.
_OLDEST_GLIBC = 17
_OLDEST_MACOS = 11


@dataclass(frozen=True, kw_only=True)
class Wheel:
    path: Path
    sha256: str

    @property
    def place(self) -> str:
        """Where it is sent to, below the device's folder (see there.py)."""
        return f"sent/{self.sha256}.whl"

    @property
    def folder(self) -> str:
        """Where it is unpacked to."""
        return f"site/{self.sha256[:16]}"


def for_device(found: Found, requires: Sequence[str], on_line: Callable[[str], None]) -> list[Wheel]:
    """Those of `requires`, of home's versions where the device's Python has them. Raises Unavailable."""
    tags = _tags(found)
    pinned = [match[0] for each in requires if (match := _PINNED.match(each))]
    newest = [each.partition("==")[0] for each in pinned]
    with Lock(_folder() / ".lock", None):  # two devices of a kind want the same
        files.sweep(_folder(), deep=False)
        if found.version[:2] >= _PINNED_FROM:
            try:
                return _downloaded(pinned, found, tags, on_line)
            except Unavailable as error:
                if "No matching distribution" not in str(error):
                    raise
                on_line(f"home's versions are not made for it ({' '.join(pinned)}): it gets the newest that are")
        return _downloaded(newest, found, tags, on_line)


def _tags(found: Found) -> list[str]:
    """The platforms that wheels name, the newest first. Raises Unavailable for one that has none."""
    if found.implementation != "CPython" or found.free_threaded or found.bits != 64:
        kind = (
            f"{found.bits} bits"
            if found.bits != 64
            else "free-threaded"
            if found.free_threaded
            else found.implementation
        )
        raise Unavailable(
            f"{found} is {kind}, and the runtimes have no packages for it; give another --python, or --no-send"
        )
    kind, _, version = found.libc.partition(" ")
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    machine = re.sub(r"[^A-Za-z0-9_]", "_", found.machine)
    if kind == "glibc" and len(numbers) == 2:
        newer = [f"manylinux_2_{minor}_{machine}" for minor in range(min(numbers[1], 99), _OLDEST_GLIBC - 1, -1)]
        return [*newer, f"manylinux2014_{machine}"]
    if kind == "macos" and numbers:
        return [
            f"macosx_{major}_0_{each}"
            for major in range(min(numbers[0], 99), _OLDEST_MACOS - 1, -1)
            for each in (machine, "universal2")
        ]
    if kind == "musl":
        return [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    raise Unavailable(
        f"{found.system} {found.machine} is no platform that packages are sent to; install them there and give --no-send"
    )


def _downloaded(
    packages: Sequence[str], found: Found, tags: Sequence[str], on_line: Callable[[str], None]
) -> list[Wheel]:
    python = ".".join(map(str, found.version[:2]))
    asked = json.dumps([sorted(packages), python, list(tags)])
    folder = _folder() / hashlib.sha256(asked.encode()).hexdigest()[:16]
    if not folder.exists():
        on_line(f"downloading {' '.join(packages)} for Python {python}, {found.libc}, {found.machine}")
        with files.staging(folder) as staged:
            _download(packages, python, tags, staged, f"Python {python} on {found.machine}")
            staged.rename(folder)
    return list(_wheels(folder))


def _folder() -> Path:
    return cache.folder() / "wheels"


def _wheels(folder: Path) -> Iterator[Wheel]:
    return (Wheel(path=path, sha256=untrusted.sha256(path)) for path in sorted(folder.glob("*.whl")))


def _download(packages: Sequence[str], python: str, tags: Sequence[str], folder: Path, whose: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += [
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--implementation",
        "cp",
        "--python-version",
        python,
    ]
    for tag in tags:
        command += ["--platform", tag]
    asked = subprocess.run(
        [*command, "--dest", str(folder), *packages],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if asked.returncode:
        lines = [line.strip() for line in asked.stderr.splitlines() if line.strip()]
        # pip's last error says what is missing; those before it list what there is.
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
        reason = one_line(errors[-1] if errors else "it said nothing", 160)
        raise Unavailable(
            f"pip cannot download {' '.join(packages)} for {whose} ({reason}); "
            "connect home to a package index, or install them on the device and give --no-send"
        )

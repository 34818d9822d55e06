"""The other Pythons that this machine has, for what runs on a device's own."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

_QUIET: dict[str, Any] = {"capture_output": True, "text": True}

MINORS = range(10, 15)  # of Python 3: what devices have today
OLD = ("2.7", "3.6", "3.7", "3.8", "3.9")  # and what they had before


@functools.cache
def others() -> dict[str, str]:
    """Interpreters by their version ("3.10"), of other versions than the one that runs."""
    return _found(f"3.{minor}" for minor in MINORS if minor != sys.version_info.minor)


@functools.cache
def old() -> dict[str, str]:
    """The same of versions that are too old for the program."""
    return _found(OLD)


def _found(versions: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for version in versions:
        for python in filter(None, [shutil.which(f"python{version}"), *_of_pyenv(version)]):
            asked = subprocess.run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], **_QUIET)
            if asked.stdout.strip() == version:
                found.setdefault(version, python)
    return found


def _of_pyenv(wanted: str) -> list[str]:
    """pyenv's own `python3.x` is a script that knows only the versions that were made global."""
    if not shutil.which("pyenv"):
        return []
    versions = subprocess.run(["pyenv", "versions", "--bare"], **_QUIET).stdout.split()
    told = [
        subprocess.run(["pyenv", "prefix", version], **_QUIET).stdout.strip()
        for version in versions
        if version.startswith(f"{wanted}.")
    ]
    return [f"{prefix}/bin/python" for prefix in told if prefix]

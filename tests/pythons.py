"""The other Pythons that this machine has, for what runs on a device's own."""

import functools
import shutil
import subprocess
import sys
from typing import Any

_QUIET: dict[str, Any] = {"capture_output": True, "text": True}

MINORS = range(10, 15)  # of Python 3: what devices have today


@functools.cache
def others() -> dict[str, str]:
    """Interpreters by their version ("3.10"), of other versions than the one that runs."""
    found: dict[str, str] = {}
    for minor in MINORS:
        if minor == sys.version_info.minor:
            continue
        for python in filter(None, [shutil.which(f"python3.{minor}"), *_of_pyenv(minor)]):
            asked = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], **_QUIET)
            if asked.stdout.strip() == f"3.{minor}":
                found.setdefault(f"3.{minor}", python)
    return found


def _of_pyenv(minor: int) -> list[str]:
    """pyenv's own `python3.x` is a script that knows only the versions that were made global."""
    if not shutil.which("pyenv"):
        return []
    versions = subprocess.run(["pyenv", "versions", "--bare"], **_QUIET).stdout.split()
    told = [
        subprocess.run(["pyenv", "prefix", version], **_QUIET).stdout.strip()
        for version in versions
        if version.startswith(f"3.{minor}.")
    ]
    return [f"{prefix}/bin/python" for prefix in told if prefix]

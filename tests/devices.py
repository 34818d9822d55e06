"""Devices for a pack: a Python that has numpy and ONNX Runtime and nothing else, with a home of its own."""

import functools
import importlib.util
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_deploy.core.interpreter import VARIABLE

# What the pack of an ONNX model needs, and what its wheels bring beside it.
_PACKAGES = ("numpy", "onnxruntime")

# Variables of this machine that a device has not.
_OURS = ("PYTHONPATH", "CIFAR_DEPLOY_CACHE", "CIFAR_DEPLOY_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A folder with a home, a Python and a bench.py in it."""

    folder: Path
    python: Path | str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def bench(self) -> Path:
        return self.folder / "bench.py"

    @property
    def roots(self) -> list[Path]:
        """The folders that packs were unpacked to."""
        return [*(self.home / ".cache" / "cifar-deploy" / "packs").glob("*")]

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OURS}
        return {**kept, "HOME": str(self.home), VARIABLE: str(self.python), **variables}

    def run(
        self,
        *words: object,
        before: Sequence[object] = (),
        largest_file: int | None = None,
        timeout_s: float = 120,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """python3 bench.py with these words; `before` stands before bench.py, `largest_file` is as in run_cli."""

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.run(
            [*map(str, [self.python, *before, self.bench, *words])],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment(**variables),
            timeout=timeout_s,
            preexec_fn=limit,
        )

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*map(str, [self.python, self.bench, *words])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(),
            **options,
        )


def made(folder: Path, bench: Path, python: Path | str) -> Device:
    folder.mkdir(parents=True, exist_ok=True)
    device = Device(folder=folder, python=python)
    device.home.mkdir()
    device.bench.write_bytes(bench.read_bytes())
    return device


def bare_python(folder: Path, packages: Sequence[str] = _PACKAGES) -> Path:
    """A script that starts this Python without its site-packages, but for these packages."""
    site = folder / "site"
    site.mkdir(parents=True)
    for name in packages:
        for place in _placed(name):
            (site / place.name).symlink_to(place)
    script = folder / "python"
    # -S: no site-packages; -s: nor those of the user. It takes PYTHONPATH, by which workers find the pack.
    script.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{site}${{PYTHONPATH:+:$PYTHONPATH}}"\nexec "{sys.executable}" -S -s "$@"\n'
    )
    script.chmod(0o755)
    return script


@functools.cache
def _placed(name: str) -> tuple[Path, ...]:
    """A package's folder, that of its libraries and that of its metadata."""
    specification = importlib.util.find_spec(name)
    assert specification and specification.origin
    package = Path(specification.origin).parent
    beside = package.parent
    return package, *beside.glob(f"{name}.libs"), *beside.glob(f"{name}-*.dist-info")

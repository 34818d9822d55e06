"""A device that is a shell of this machine, with a home of its own: all of a session but ssh."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar_deploy.remote.session import Found, Session


@dataclass(frozen=True, kw_only=True)
class Shell:
    home: Path
    before: str = ""  # what the login shell does first, as greeting
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, command: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("CIFAR", "XDG"))}
        return subprocess.Popen(
            ["sh", "-c", f"{self.before}\n{command}"],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self.home,
            env={**variables, "HOME": str(self.home), **self.variables},
            process_group=0,
        )

    def fault(self, code: int) -> bool:
        return code == 255


def session(shell: Shell, python: str | None = sys.executable, *packages: str) -> Session:
    return Session(shell, python, packages or ("numpy",))


def found(opened: Session) -> Found:
    (one,) = opened.pythons()
    return one


def begun(opened: Session) -> Path:
    """The folder that it works in, from now on."""
    python = found(opened)
    opened.begin(python, python.places[-1].folder)
    return Path(python.places[-1].folder)


def processes(home: Path) -> Iterator[int]:
    """Those that run with this home."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"HOME={home}\0".encode() in (entry / "environ").read_bytes() + b"\0":
                    yield int(entry.name)
            except OSError:
                continue

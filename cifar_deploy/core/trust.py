"""Which program files this user has exported: TorchScript files are code, and a record beside one proves nothing.

The hashes are kept in the user's state folder, where whoever hands over an artifact cannot write.
"""

import os
from pathlib import Path

from cifar_deploy.core.errors import Untrusted


def record_path() -> Path:
    if own := os.environ.get("CIFAR_DEPLOY_STATE"):
        return Path(own) / "exported.sha256"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "cifar-deploy" / "exported.sha256"


def remember(sha256: str) -> None:
    """Note a file that this user's own export has just written."""
    path = record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{sha256}\n")


def knows(sha256: str) -> bool:
    """Whether this user exported the file of this hash."""
    return record_path().exists() and sha256 in record_path().read_text(encoding="ascii").split()


def check(path: Path, sha256: str) -> None:
    """Raises Untrusted unless this user exported the file of this hash."""
    if not knows(sha256):
        raise Untrusted(
            f"{path}: is a program, and not one that you exported; export it yourself, or run it with --trust"
        )

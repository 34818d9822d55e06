"""A real sshd on the loopback, with keys, port and configuration of its own, and a user's ssh configuration that leads to it.

It runs as whoever runs the tests. Where there is no sshd, a test that needs one skips.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Hosts:
    """The user's side: `ssh` on PATH reads the configuration of `folder`, and no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "config").touch()
        ssh = self.bin / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        ssh.chmod(0o755)
        self._key("key")

    def _key(self, name: str) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)

    def add(self, name: str, port: int, *lines: str, known: str | None = None) -> None:
        """A host of the user's configuration; `known` is its host key."""
        with open(self.folder / "known", "a") as file:
            if known:
                file.write(f"[127.0.0.1]:{port} {known}\n")
        with open(self.folder / "config", "a") as file:
            file.write(
                f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {self.folder}/key\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {self.folder}/known\n  GlobalKnownHostsFile /dev/null\n"
                + "".join(f"  {line}\n" for line in lines)
            )

    @contextlib.contextmanager
    def board(self, name: str, *settings: str, known: bool = True, client: tuple[str, ...] = ()) -> Iterator[Path]:
        """A host of this name that answers, and its home."""
        place = self.folder / name
        home = place / "home"
        home.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "hostkey"], check=True)
        port = _free_port()
        lines = [
            f"Port {port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {place}/hostkey",
            f"AuthorizedKeysFile {self.folder}/key.pub",
            f"PidFile {place}/pid",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            f'SetEnv "HOME={home}" XDG_CACHE_HOME= CIFAR_DEPLOY_CACHE=',
            *settings,
        ]
        (place / "sshd_config").write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # the system's service would make it
        server = subprocess.Popen([str(SSHD), "-D", "-f", place / "sshd_config", "-E", place / "log"])
        key = (place / "hostkey.pub").read_text().split()
        self.add(name, port, f"User {getpass.getuser()}", *client, known=" ".join(key[:2]) if known else None)
        try:
            deadline = time.monotonic() + 10
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline and server.poll() is None, (place / "log").read_text()
                time.sleep(0.02)
            yield home
        finally:
            server.terminate()
            server.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def need_sshd() -> None:
    if not SSHD or not shutil.which("ssh"):
        pytest.skip("sshd is not installed")

"""How a command reaches a device: its stdin, stdout and stderr are pipes here.

The one that there is calls the user's own ssh: its configuration, agent, jump hosts and checks of host keys stay the user's.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cifar_deploy.core.errors import DeployError, UsageError, one_line

# What ssh itself leaves with, and hardly any program.
_SSH_FAILED = 255

# A host that swallows what is sent to it is not waited for; the user's own ConnectTimeout wins.
_CONNECT_S = 30

# A ProxyCommand of the user's configuration may hand the name to a shell.
_FOREIGN = frozenset(" \"'`$;&|<>(){}")

_OPTIONS = (
    *("-o", "BatchMode=yes"),  # no question: nobody may be there to answer
    *("-o", "ServerAliveInterval=15"),  # a cable that was pulled is noticed
    *("-o", "ClearAllForwardings=yes"),  # those of the user's configuration are for other sessions
    *("-o", "RemoteCommand=none"),
    "-T",
)


class Transport(Protocol):
    def start(self, command: str) -> subprocess.Popen[bytes]:
        """The command, running in the device's shell. Raises DeployError if not even that can be tried."""

    def fault(self, code: int) -> bool:
        """Whether this exit code is the transport's own failure, not the command's."""


@dataclass(frozen=True, kw_only=True)
class Ssh:
    host: str  # as ssh takes it: an alias of its configuration, user@host, or ssh://user@host:port
    user: str | None = None
    port: int | None = None
    key: str | None = None  # a file

    def start(self, command: str) -> subprocess.Popen[bytes]:
        own = [*_OPTIONS]
        for option, value in (("-l", self.user), ("-p", self.port), ("-i", self.key)):
            own += [option, str(value)] if value is not None else []
        if self._connect_timeout(own) == "none":
            own += ["-o", f"ConnectTimeout={_CONNECT_S}"]
        return subprocess.Popen(
            ["ssh", *own, "--", self.host, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for us: we end the session
        )

    def _connect_timeout(self, own: Sequence[str]) -> str:
        """What the user's configuration says. Raises DeployError if ssh is missing, or refuses its configuration."""
        try:
            asked = subprocess.run(
                ["ssh", "-G", *own, "--", self.host],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError as error:
            raise DeployError("ssh: is not installed; install OpenSSH's client") from error
        if asked.returncode:
            raise DeployError(one_line(asked.stderr) or "ssh -G failed")
        found = re.search(r"^connecttimeout (\S+)$", asked.stdout, re.M)
        return found[1] if found else ""

    def fault(self, code: int) -> bool:
        return code == _SSH_FAILED


def check_host(host: str) -> str:
    """`host`, if ssh takes it for one; else UsageError."""
    if not host or host.startswith("-"):
        raise UsageError(f"HOST: {one_line(host, 80)!r} is no host; give it as ssh takes it (`ssh HOST`)")
    if not host.isprintable() or _FOREIGN & set(host) or len(host) > 255:
        raise UsageError(f"HOST: {one_line(host, 80)!r} holds what no host's name holds; give it as ssh takes it")
    return host

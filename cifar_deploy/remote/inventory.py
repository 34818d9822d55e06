"""Which devices there are: named on the command line, in devices.toml, or in what `ansible-inventory --list` prints.

[pi5]
host = "pi@pi5.local"          # as ssh takes it
threads = [1, 4]
cpus = "big"                   # those that measure
python = "python3.12"
env = { LD_LIBRARY_PATH = "/opt/lib" }
cool-to = 55
cool-wait = "2m"
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from cifar_deploy.core import machine, units, untrusted
from cifar_deploy.core.errors import UsageError, few, one_line
from cifar_deploy.remote.transport import Ssh, check_host

FILE = Path("devices.toml")

_LARGEST_BYTES = 2**20
_MOST_DEVICES = 1000

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}\$?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device: how it is reached, and what is particular about measuring there."""

    name: str  # in the results
    ssh: Ssh
    python: str | None = None
    threads: tuple[int, ...] = ()
    cpus: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cool_to_c: float | None = None
    cool_wait_s: float | None = None


def chosen(hosts: Sequence[str], toml: Path | None, ansible: Path | None, name: str | None) -> list[Device]:
    """The devices that a command line asks for; without a host, a file or an inventory those of devices.toml here.

    `name` is what the one host is called. Raises UsageError.
    """
    if ansible:
        listed = read_ansible(ansible)
    elif toml or (not hosts and FILE.exists()):
        listed = read_toml(toml or FILE)
    elif not hosts:
        raise UsageError(f"HOST: is missing; name one, as ssh takes it, or write {FILE}")
    else:
        listed = read_toml(FILE) if FILE.exists() else []
    known = {device.name: device for device in listed}
    devices = [
        known.get(host) or Device(name=legal(host), ssh=Ssh(host=check_host(host))) for host in dict.fromkeys(hosts)
    ]
    devices = devices or listed
    if name:
        if len(devices) > 1:
            raise UsageError(f"--as: names one device, and there are {len(devices)}; name them in {FILE}")
        devices = [replace(devices[0], name=machine.check_name(name, "--as"))]
    _check_apart(devices)
    return devices


def legal(host: str) -> str:
    """A host's name as one of a machine: pi@pi5 is pi-pi5."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host.removeprefix("ssh://")).lstrip("._-")[:60] or "device"


def _check_apart(devices: Sequence[Device]) -> None:
    """Raises UsageError if two would have the same name in the results."""
    hosts: dict[str, Ssh] = {}
    for device in devices:  # of one name and one host is one device
        if hosts.setdefault(device.name, device.ssh) != device.ssh:
            raise UsageError(
                f"{device.name}: {hosts[device.name].host} and {device.ssh.host} would both be called so; "
                f"name them in {FILE}"
            )


def read_toml(path: Path, option: str = "--devices") -> list[Device]:
    """Raises UsageError for an unknown key or a wrong value. The error names the table and the key."""
    import tomllib

    content = _content(path, option)
    try:
        tables = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: is not TOML ({one_line(str(error), 120)}); mend it, or give another {option}"
        ) from error
    devices = [_device(path, name, table) for name, table in tables.items()]
    if not devices:
        raise UsageError(f'{path}: names no device; write a table for each, as [pi5] with host = "pi@pi5"')
    return _bounded(path, devices)


_KEYS = ("host", "python", "threads", "cpus", "env", "cool-to", "cool-wait")


def _device(path: Path, name: str, table: Any) -> Device:
    where = f"{path}: [{one_line(name, 60)}]"
    machine.check_name(name, where)
    if not isinstance(table, dict):
        raise UsageError(f'{where}: is no table; write [{name}] above its keys, as host = "pi@pi5"')
    for key in table:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_KEYS)}"
            raise UsageError(f"{where} {one_line(key, 60)}: no device has this key; {hint}")

    def refuse(key: str, what: str) -> NoReturn:
        raise UsageError(f"{where} {key}: {what}")

    def text(key: str, example: str) -> str | None:
        value = table.get(key)
        if value is not None and (
            not isinstance(value, str) or not value or not value.isprintable() or value[0] == "-"
        ):
            refuse(key, f"is no text that can stand there; write {key} = {example}")
        return value

    host = text("host", '"pi@pi5"')
    if host is None:
        refuse("host", 'is missing; write host = "pi@pi5", as ssh takes it')
    threads = table.get("threads", [])
    threads = threads if isinstance(threads, list) else [threads]
    if not all(type(count) is int and count > 0 for count in threads):
        refuse("threads", "holds what is no number of threads; write threads = [1, 4]")
    env = table.get("env", {})
    if not isinstance(env, dict) or not all(
        _VARIABLE.fullmatch(key) and isinstance(value, str) and "\0" not in value for key, value in env.items()
    ):
        refuse("env", 'holds what is no variable; write env = { NAME = "value" }')
    cool_to = table.get("cool-to")
    if cool_to is not None and (type(cool_to) not in (int, float) or not 0 <= cool_to <= 150):
        refuse("cool-to", "is no temperature in degrees Celsius; write cool-to = 55")
    cool_wait = None
    if (waited := text("cool-wait", '"2m"')) is not None:
        try:
            cool_wait = units.duration(waited, "cool-wait")
        except ValueError as error:
            refuse("cool-wait", str(error))
    return Device(
        name=name,
        ssh=Ssh(host=check_host(host)),
        python=text("python", '"python3.12"'),
        threads=tuple(threads),
        cpus=text("cpus", '"big"'),
        env=env,
        cool_to_c=cool_to,
        cool_wait_s=cool_wait,
    )


def read_ansible(path: Path, option: str = "--inventory") -> list[Device]:
    """Of the JSON that `ansible-inventory --list` prints; "-" is stdin. Variables that are not listed in docs/commands/device.md are ignored.

    Raises UsageError for what cannot be a host, a user, a port or a key: it goes to ssh's command line.
    """
    content = sys.stdin.read(_LARGEST_BYTES + 1) if str(path) == "-" else _content(path, option)
    if len(content) > _LARGEST_BYTES:
        raise UsageError(f"{option}: stdin holds more than {_LARGEST_BYTES:,} characters; give less")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON; give what `ansible-inventory --list` prints") from error
    variables = _table(_table(_table(found).get("_meta")).get("hostvars"))
    listed = [_table(group).get("hosts") for group in _table(found).values()]
    hosts = [host for each in listed if isinstance(each, list) for host in each if isinstance(host, str)]
    names = list(dict.fromkeys([*hosts, *variables]))
    if not names:
        raise UsageError(f"{path}: names no host; give what `ansible-inventory --list` prints")
    return _bounded(path, [_of_ansible(path, name, variables.get(name, {})) for name in names])


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_ansible(path: Path, name: str, told: Any) -> Device:
    where = f"{path}: {one_line(name, 60)}"
    if not isinstance(told, dict):
        raise UsageError(f"{where}: its variables are no table; give what `ansible-inventory --list` prints")

    def value(key: str, is_right: Any) -> Any:
        found = told.get(key)
        if found is not None and not is_right(found):
            raise UsageError(f"{where}: {key} is {one_line(str(found), 60)!r}, which is none that ssh takes; mend it")
        return found

    def is_path(found: Any) -> bool:
        return isinstance(found, str) and bool(found) and found.isprintable() and found[0] != "-"

    port = value(
        "ansible_port", lambda found: type(found) in (int, str) and str(found).isdecimal() and 0 < int(found) < 2**16
    )
    python = value("ansible_python_interpreter", is_path)
    return Device(
        name=legal(name),
        ssh=Ssh(
            host=check_host(value("ansible_host", lambda found: isinstance(found, str)) or name),
            user=value("ansible_user", lambda found: isinstance(found, str) and bool(_USER.fullmatch(found))),
            port=int(port) if port else None,
            key=value("ansible_ssh_private_key_file", is_path),
        ),
        python=None if python and python.startswith("auto") else python,
    )


def _bounded(path: Path, devices: list[Device]) -> list[Device]:
    if len(devices) > _MOST_DEVICES:
        raise UsageError(f"{path}: names {len(devices):,} devices, and at most {_MOST_DEVICES:,} are taken; give less")
    return devices


def _content(path: Path, option: str) -> str:
    untrusted.check_named(path, "give a file of devices", option)
    try:
        return untrusted.read_bytes(path, _LARGEST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{few([path])}: is not UTF-8; save it as that, or give another {option}") from error

"""Devices are named on the command line, in devices.toml or by Ansible; what ssh would take for something else is refused."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.remote import inventory
from cifar_deploy.remote.transport import Ssh


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def chosen(*hosts: str, toml: str | None = None, ansible: str | None = None, name: str | None = None) -> Any:
    return inventory.chosen(hosts, Path(toml) if toml else None, Path(ansible) if ansible else None, name)


WHOLE = """
[pi5]
host = "pi@pi5.local"
threads = [1, 4]
cpus = "big"
python = "python3.12"
env = { LD_LIBRARY_PATH = "/opt/lib", NUMBER = "-1" }
cool-to = 55
cool-wait = "2m"

[server]
host = "ssh://me@server:2222"
threads = 8
"""


def test_a_host_is_named_as_ssh_takes_it() -> None:
    devices = chosen("pi5", "pi@pi5", "ssh://me@server:22", "fe80::1%eth0", "pi5")
    assert [(device.name, device.ssh.host) for device in devices] == [
        ("pi5", "pi5"),
        ("pi-pi5", "pi@pi5"),
        ("me-server-22", "ssh://me@server:22"),
        ("fe80--1-eth0", "fe80::1%eth0"),
    ]
    assert chosen("pi5", name="kitchen")[0].name == "kitchen"


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=touch ran",
        "-v",
        "--",
        "",
        "a b",
        "a\nb",
        "a;b",
        "$(touch ran)",
        "`x`",
        "a|b",
        "a\0b",
        "x" * 300,
        "a'b",
    ],
)
def test_what_ssh_or_a_shell_would_take_for_more_is_no_host(host: str) -> None:
    with pytest.raises(UsageError, match=r"^HOST: "):
        chosen(host)


def test_two_hosts_of_one_name_are_told_apart_by_the_user() -> None:
    with pytest.raises(UsageError, match=r"^a-b: a@b and a-b would both be called so; name them in devices\.toml$"):
        chosen("a@b", "a-b")
    with pytest.raises(UsageError, match="--as: names one device, and there are 2"):
        chosen("a", "b", name="c")
    with pytest.raises(UsageError, match="--as: '-x' cannot name a machine"):
        chosen("a", name="-x")


def test_without_a_host_those_of_the_file_are_taken() -> None:
    with pytest.raises(UsageError, match=r"^HOST: is missing; name one, as ssh takes it, or write devices\.toml$"):
        chosen()
    Path("devices.toml").write_text(WHOLE)
    pi5, server = chosen()
    assert pi5.ssh == Ssh(host="pi@pi5.local") and pi5.threads == (1, 4) and pi5.cpus == "big"
    assert pi5.python == "python3.12" and pi5.env == {"LD_LIBRARY_PATH": "/opt/lib", "NUMBER": "-1"}
    assert pi5.cool_to_c == 55 and pi5.cool_wait_s == 120
    assert server.name == "server" and server.threads == (8,) and server.python is None
    assert chosen("server", "other") == [server, *chosen("other")]  # by its name there, or as a host


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no device; write a table for each"),
        ("pi5 = 3", r"\[pi5\]: is no table"),
        ("[pi5]", r"\[pi5\] host: is missing; write host = "),
        ("[pi5]\nhost = 3", r"\[pi5\] host: is no text that can stand there"),
        ('[pi5]\nhost = "-x"', r"\[pi5\] host: is no text"),
        ('[pi5]\nhost = "x"\nthread = 3', r"\[pi5\] thread: no device has this key; did you mean threads\?"),
        ('[pi5]\nhost = "x"\nfrobnicate = 3', r"frobnicate: no device has this key; there are: host, python"),
        ('[pi5]\nhost = "x"\nthreads = [1, "2"]', r"threads: holds what is no number of threads"),
        ('[pi5]\nhost = "x"\nthreads = [true]', r"threads: holds what is no number"),
        ('[pi5]\nhost = "x"\nthreads = 0', r"threads: holds what is no number"),
        ('[pi5]\nhost = "x"\ncool-to = "hot"', r"cool-to: is no temperature"),
        ('[pi5]\nhost = "x"\ncool-to = nan', r"cool-to: is no temperature"),
        ('[pi5]\nhost = "x"\ncool-wait = "soon"', r"cool-wait: "),
        ('[pi5]\nhost = "x"\nenv = { A = 1 }', r"env: holds what is no variable"),
        ('[pi5]\nhost = "x"\nenv = { "A=B" = "1" }', r"env: holds what is no variable"),
        ('[pi5]\nhost = "x"\npython = "-c"', r"python: is no text that can stand there"),
        ('["pi 5"]\nhost = "x"', "'pi 5' cannot name a machine"),
        ('["../x"]\nhost = "x"', "cannot name a machine"),
        ("[pi5", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ('[a]\nhost = "x"\n[a]\nhost = "y"', "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_table_and_key(text: str, told: str) -> None:
    Path("my.toml").write_text(text)
    with pytest.raises(UsageError, match=told) as refused:
        chosen(toml="my.toml")
    assert str(refused.value).startswith("my.toml: ")


def test_a_file_that_cannot_be_read_is_refused() -> None:
    Path("latin.toml").write_bytes(b'[a]\nhost = "\xff"')
    Path("folder").mkdir()
    for name, told in (("latin.toml", "not UTF-8"), ("gone.toml", "does not exist"), ("folder", "is a folder")):
        with pytest.raises(DeployError, match=told):
            chosen(toml=name)


ANSIBLE: dict[str, Any] = {
    "_meta": {
        "hostvars": {
            "board": {
                "ansible_host": "192.0.2.7",
                "ansible_user": "pi",
                "ansible_port": 2222,
                "ansible_ssh_private_key_file": "~/.ssh/board",
                "ansible_python_interpreter": "/usr/bin/python3.12",
                "secret": {"anything": [1]},
            },
            "auto": {"ansible_python_interpreter": "auto_silent"},
        }
    },
    "all": {"children": ["ungrouped", "boards"]},
    "boards": {"hosts": ["board", "plain", "auto"]},
}


def test_an_ansible_inventory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("i.json").write_text(json.dumps(ANSIBLE))
    board, plain, auto = chosen(ansible="i.json")
    assert board.name == "board" and board.python == "/usr/bin/python3.12"
    assert board.ssh == Ssh(host="192.0.2.7", user="pi", port=2222, key="~/.ssh/board")
    assert plain.ssh == Ssh(host="plain") and auto.python is None
    assert [device.name for device in chosen("plain", ansible="i.json")] == ["plain"]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(ANSIBLE)))
    assert chosen(ansible="-") == [board, plain, auto]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ansible_host", "-oProxyCommand=x"),
        ("ansible_host", "a b"),
        ("ansible_host", 7),
        ("ansible_user", "-l"),
        ("ansible_user", "a b"),
        ("ansible_user", "$(x)"),
        ("ansible_user", ["pi"]),
        ("ansible_port", "22 -v"),
        ("ansible_port", 99999),
        ("ansible_port", True),
        ("ansible_ssh_private_key_file", "-oX"),
        ("ansible_ssh_private_key_file", ""),
        ("ansible_python_interpreter", "-c x"),
    ],
)
def test_a_hostile_inventory_is_refused(key: str, value: Any) -> None:
    Path("i.json").write_text(json.dumps({"_meta": {"hostvars": {"board": {key: value}}}}))
    with pytest.raises(UsageError):
        chosen(ansible="i.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"_meta": 3}',
        '{"_meta": {"hostvars": []}}',
        '{"a": {"hosts": [3]}}',
        '{"a": {"hosts": 3}}',
        "[" * 9999,
        '{"_meta": {"hostvars": {"a": 3}}}',
    ],
)
def test_what_is_no_inventory_is_refused(text: str) -> None:
    Path("i.json").write_text(text)
    with pytest.raises(UsageError, match=r"^i\.json: "):
        chosen(ansible="i.json")


def test_a_bounded_number_of_devices_is_read() -> None:
    Path("i.json").write_text(json.dumps({"all": {"hosts": [f"h{number}" for number in range(1001)]}}))
    with pytest.raises(UsageError, match="names 1,001 devices, and at most 1,000 are taken"):
        chosen(ansible="i.json")
    Path("large.json").write_text(" " * 2**21)
    with pytest.raises(DeployError, match="at most"):
        chosen(ansible="large.json")

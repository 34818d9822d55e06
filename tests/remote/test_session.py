"""What home and a device say to each other, over a shell of this machine."""

import ast
import hashlib
import os
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy.core import frames
from cifar_deploy.core.errors import Busy, DeployError
from cifar_deploy.core.progress import Progress
from cifar_deploy.core.store import Store
from cifar_deploy.remote import session as home_side
from cifar_deploy.remote import there
from cifar_deploy.remote.landing import Landing
from cifar_deploy.remote.session import Session
from tests import pythons
from tests.remote.shells import Shell, begun, found, processes, session

ROOT = Path(__file__).parents[2]
THERE = ROOT / "cifar_deploy" / "remote" / "there.py"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    return Shell(home=tmp_path / "home")


def no_progress(done: int, total: int) -> None:
    pass


def send(opened: Session, path: Path, place: str) -> int:
    """How many bytes it took."""
    before = opened.sent_bytes
    opened.send(path, place, no_progress)
    return opened.sent_bytes - before


# What there is


def test_a_python_says_what_it_is_and_what_the_machine_is(shell: Shell) -> None:
    with session(shell, sys.executable, "numpy", "no-such-package") as opened:
        one = found(opened)
    assert one.version == tuple(sys.version_info[:3]) and one.is_new_enough and one.bits == 64
    assert one.lacks == ["no-such-package"] and one.versions["numpy"] and one.machine == os.uname().machine
    assert abs(one.clock - time.time()) < 60
    (place,) = one.places
    assert place.folder == f"{shell.home}/.cache/cifar-deploy" and not place.fault and place.free_bytes > 2**20


def test_every_python_of_a_usual_name_is_asked_and_each_once(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.12").symlink_to(sys.executable)
    (tmp_path / "bin" / "python3.13").symlink_to("/nowhere")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    with session(Shell(home=shell.home, variables={"PATH": path}), None) as opened:
        names = [one.python for one in opened.pythons()]
    assert str(tmp_path / "bin" / "python3.12") in names and len(set(names)) == len(names)


def test_a_machine_without_a_python_says_so(shell: Shell) -> None:
    with session(shell, "no-such-python") as opened:
        assert opened.pythons() == []


@pytest.mark.slow
@pytest.mark.parametrize("python", [*pythons.others().values(), "/usr/bin/python2"])
def test_any_python_can_describe_itself(python: str, shell: Shell) -> None:
    if not Path(python).exists():
        pytest.skip(f"{python} is not here")
    with session(shell, python) as opened:
        one = found(opened)
    assert one.is_new_enough == (one.version >= (3, 10)) and len(one.version) == 3


def test_an_old_python_parses_the_program() -> None:
    tree = ast.parse(THERE.read_text(), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]


def test_the_program_makes_the_frames_that_are_read(capfd: pytest.CaptureFixture[str]) -> None:
    fields = {"text": "grüße \x1e\n", "list": [1, 2.5, None], "of": {"b": 1, "a": True}}
    there.tell("note", **fields)
    assert capfd.readouterr().out.encode() == frames.line("note", **fields)


NOISE = "echo Welcome; printf 'no end of a line'; printf '\\036cifar-deploy python 0 {}'"


@pytest.mark.parametrize("before", [NOISE, f"{NOISE}; echo on stderr >&2", "stty -echo; cd /"])
def test_a_greeting_disturbs_nothing(before: str, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    with session(Shell(home=shell.home, before=before)) as opened:
        folder = begun(opened)
        send(opened, tmp_path / "file", "sent/file")
    assert (folder / "sent" / "file").read_bytes() == b"content" * 1000


@pytest.mark.parametrize("home", ["/proc", "/dev/null"])
def test_what_cannot_be_written_is_told_and_another_folder_is_found(home: str, shell: Shell, tmp_path: Path) -> None:
    variables = {"HOME": home, "TMPDIR": str(tmp_path)}
    with session(Shell(home=shell.home, variables=variables)) as opened:
        refused, place = found(opened).places
    assert refused.fault.startswith("cannot be written (") and refused.folder == f"{home}/.cache/cifar-deploy"
    assert place.folder == f"{tmp_path}/cifar-deploy-{os.getuid()}" and not place.fault
    assert Path(place.folder).stat().st_mode & 0o777 == 0o700


# What is sent


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's link")
def test_a_link_of_another_user_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    assert not there._folder(str(tmp_path / "link"), False)["fault"]
    os.lchown(tmp_path / "link", 12345, 12345)
    assert there._folder(str(tmp_path / "link"), False)["fault"] == "belongs to another user"


def test_a_file_is_sent_once(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    for least, most in ((300_000, 301_000), (0, 500)):
        with session(shell) as opened:
            folder = begun(opened)
            assert least <= send(opened, tmp_path / "file", "sent/file") <= most
    assert (folder / "sent" / "file").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize(
    ("part", "kept"), [(b"", 0), (b"0123", 4), (b"0123456789", 10), (b"xx", None), (b"0123456789abcdef", 0)]
)
def test_a_file_that_was_cut_is_gone_on_with(part: bytes, kept: int | None, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    folder = shell.home / ".cache" / "cifar-deploy"
    (folder / "sent").mkdir(parents=True)
    (folder / "sent" / "file.part").write_bytes(part)
    with session(shell) as opened:
        begun(opened)
        if kept is None:
            with pytest.raises(DeployError, match=r"file: arrived with another sha256; give the same command again"):
                send(opened, tmp_path / "file", "sent/file")
        else:
            request = len(f'{{"do": "receive", "place": "sent/file", "sha256": "{"0" * 64}", "bytes": 10}}\n')
            assert send(opened, tmp_path / "file", "sent/file") == request + 10 - kept
    assert not (folder / "sent" / "file.part").exists()
    assert (folder / "sent" / "file").exists() == (kept is not None)


@pytest.mark.slow
def test_a_file_that_was_altered_there_is_sent_again(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    folder = shell.home / ".cache" / "cifar-deploy"
    (folder / "sent").mkdir(parents=True)
    (folder / "sent" / "file").write_bytes(b"9876543210")
    with session(shell) as opened:
        begun(opened)
        send(opened, tmp_path / "file", "sent/file")
    assert (folder / "sent" / "file").read_bytes() == b"0123456789"


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_arrived_is_kept(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(10_000_000))
    with session(Shell(home=shell.home, before="ulimit -f 200")) as opened:
        begun(opened)
        with pytest.raises(DeployError, match=r"sent/file\.part: File too large|: File too large"):
            send(opened, tmp_path / "file", "sent/file")
    with session(shell) as opened:
        folder = begun(opened)
        assert send(opened, tmp_path / "file", "sent/file") < 10_000_000
    assert (folder / "sent" / "file").read_bytes() == (tmp_path / "file").read_bytes()


def test_a_wheel_is_unpacked_once_with_what_its_data_folders_hold(shell: Shell, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("tiny/__init__.py", "VALUE = 1")
        wheel.writestr("tiny-1.data/purelib/other/__init__.py", "VALUE = 2")
        wheel.writestr("tiny-1.data/scripts/tool", "#!python")
    with session(shell) as opened:
        folder = begun(opened)
        send(opened, tmp_path / "a.whl", "sent/a.whl")
        opened.unpack("sent/a.whl", "site/a")
        opened.unpack("sent/a.whl", "site/a")
    assert (folder / "site" / "a" / "tiny" / "__init__.py").read_text() == "VALUE = 1"
    assert (folder / "site" / "a" / "other" / "__init__.py").read_text() == "VALUE = 2"
    with session(shell) as opened:
        python = found(opened)
        assert opened.begin(python, python.places[-1].folder) == {"site/a"}  # the wheel itself is gone
        opened.remove(["site/a", "sent/gone"])
    assert list((folder / "site").iterdir()) == []


@pytest.mark.parametrize("place", ["../outside", "/etc/outside", "site/../../outside", ".", ""])
def test_no_place_leads_out(place: str, tmp_path: Path) -> None:
    for request in ({"do": "remove", "places": [place]}, {"do": "unpack", "place": place, "to": "x"}):
        with pytest.raises(ValueError, match="leads out of"):
            there._answer(str(tmp_path), request, 0, 1.0)


def test_one_session_at_a_time_works_there(shell: Shell) -> None:
    with session(shell) as first:
        begun(first)
        with (
            session(shell) as second,
            pytest.raises(Busy, match=r"another run is at work there \(process \d+ on .*\); give"),
        ):
            begun(second)
    with session(shell) as third:
        begun(third)


def test_a_connection_that_fails_is_told_in_its_last_words(shell: Shell) -> None:
    for before, told in (
        ("echo Warning >&2; echo ssh: no route >&2; exit 255", "^ssh: no route$"),
        ("echo shell is broken >&2; exit 3", r"^the connection ended \(exit code 3\): shell is broken$"),
        ("exit 0", r"^the connection ended \(exit code 0\)$"),
        ("exit 255", "^the connection failed$"),
    ):
        with session(Shell(home=shell.home, before=before)) as opened, pytest.raises(DeployError, match=told):
            opened.pythons()


# What runs

# A pack, as far as home can see: it has run once, runs once more, and ends as it is told.
PACK = """
import sys, time
from pathlib import Path
from cifar_deploy.core.progress import Progress
from cifar_deploy.core.store import Store
from cifar_deploy.remote.home import Home
from tests.probes import a_run

root, do = Path(sys.argv[1]), sys.argv[2]
with Home(Store(root).reports, float(sys.argv[4].rstrip("s"))) as home, Store(root) as store:
    home.begun("pack", "machine")
    home(Progress(done=1, total=4, message="half", milestones=("first",)))
    print("noise on stdout")
    if do == "measure":
        (store.reports / "raw").mkdir(parents=True, exist_ok=True)
        store.raw_path("abc").write_bytes(bytes(range(256)) * 3000)
        store.append(a_run())
        home(Progress(done=2, total=4))
    elif do == "raise":
        raise OSError(28, "No space left on device", "/there")
    elif do == "exit":
        sys.exit(3)
    else:
        home.line("waiting")
        time.sleep(60)
    home.answer("the answer")
"""


class Device:
    """A device on which PACK lies."""

    def __init__(self, shell: Shell, tmp_path: Path) -> None:
        self.shell, self.out, self.landing = shell, tmp_path / "there", Landing(tmp_path / "landing")
        (tmp_path / "pack.py").write_text(PACK)
        self._pack = tmp_path / "pack.py"
        self.lines: list[str] = []
        self.shown: list[Progress] = []
        self.results = 0

    def run(self, do: str) -> home_side.Ended:
        def landed() -> None:
            self.results += 1

        with Session(self.shell, sys.executable, ["numpy"], self.lines.append) as self.opened:
            begun(self.opened)
            return self.opened.run(
                [sys.executable, str(self._pack), str(self.out), do],
                {"PYTHONPATH": str(ROOT)},
                self.landing,
                self.shown.append,
                landed,
            )


@pytest.fixture
def device(shell: Shell, tmp_path: Path) -> Device:
    return Device(shell, tmp_path)


def test_results_land_as_they_come_and_only_once(device: Device) -> None:
    ended = device.run("measure")
    assert (ended.code, ended.before, ended.answer, device.results) == (0, 0, ["the answer"], 1), device.lines
    assert device.shown[-2].milestones == () and "first" in device.lines and "noise on stdout" in device.lines
    there, here = Store(device.out).reports, device.landing.folder
    for name in ("results.jsonl", "raw/abc.npz"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    again = device.run("measure")
    assert again.before == 1 and (here / "results.jsonl").read_bytes() == (there / "results.jsonl").read_bytes()
    # What home has is not sent again, what it has altered or lost is.
    (here / "results.jsonl").write_bytes((there / "results.jsonl").read_bytes()[:-9] + b"altered!\n")
    (here / "raw" / "abc.npz").unlink()
    device.run("measure")
    for name in ("results.jsonl", "raw/abc.npz"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.slow
def test_what_a_pack_ends_with_is_told(device: Device) -> None:
    ended = device.run("raise")
    assert ended.code == 1 and ended.reason == "/there: No space left on device"
    ended = device.run("exit")
    assert ended.code == 3 and ended.reason


def test_a_home_that_is_silent_ends_it(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_side, "_HEARTBEAT_S", 0.05)
    monkeypatch.setattr(Session, "_beat", lambda self: None)
    begin = time.monotonic()
    ended = device.run("wait")
    assert ended.code not in (0, None) and time.monotonic() - begin < 20
    assert list(processes(device.shell.home)) == []


def test_a_device_that_is_silent_is_given_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_side, "_HEARTBEAT_S", 0.1)

    def stop(line: str) -> None:
        if line == "waiting":
            for process in processes(device.shell.home):
                os.kill(process, signal.SIGSTOP)

    device.lines = _Hearing(stop)
    try:
        with pytest.raises(DeployError, match=r"it said nothing for 0\.6 s; see whether it still runs"):
            device.run("wait")
    finally:
        for process in processes(device.shell.home):
            os.kill(process, signal.SIGKILL)


class _Hearing(list[str]):
    def __init__(self, hear: Any) -> None:
        self._hear = hear

    def append(self, line: str) -> None:
        self._hear(line)


def test_a_connection_that_is_cut_ends_what_runs_there(device: Device) -> None:
    def cut(line: str) -> None:
        if line == "waiting":
            os.close(device.opened._stdin)

    device.lines = _Hearing(cut)
    assert device.run("wait").code == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while list(processes(device.shell.home)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# What lands


def part(landing: Landing, name: str, offset: int, content: str) -> None:
    import base64

    fields = {"file": name, "offset": offset, "base64": base64.b64encode(content.encode()).decode()}
    landing.take(frames.Frame("part", fields))


@pytest.mark.parametrize(
    "name",
    [
        "../results.jsonl",
        "raw/../../x.npz",
        "raw/.npz",
        "raw/a/b.npz",
        "/etc/x.npz",
        "raw/x.py",
        "raw/x.npz\n",
        "",
        "raw/" + "x" * 200 + ".npz",
    ],
)
def test_no_file_lands_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="which is none of its results"):
        part(Landing(tmp_path), name, 0, "x")
    assert list(tmp_path.rglob("*")) == []


def test_only_what_is_whole_lands(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    part(landing, "raw/x.npz", 0, "0123")
    with pytest.raises(DeployError, match="from byte 9 on, which is not the next"):
        part(landing, "raw/x.npz", 9, "4567")
    part(landing, "raw/x.npz", 4, "4567")
    assert landing.has()["raw"] == []
    digest = hashlib.sha256(b"01234567").hexdigest()
    assert not landing.take(frames.Frame("whole", {"file": "raw/x.npz", "bytes": 8, "sha256": digest}))
    assert landing.has()["raw"] == ["x.npz"]
    part(landing, "results.jsonl", 0, "{}\n")
    with pytest.raises(DeployError, match="arrived with another sha256"):
        landing.take(frames.Frame("whole", {"file": "results.jsonl", "bytes": 3, "sha256": digest}))
    assert landing.has()["bytes"] == 0


def test_more_than_results_can_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_deploy.remote.landing._LARGEST_BYTES", 10)
    landing = Landing(tmp_path)
    part(landing, "results.jsonl", 0, "0123456789")
    with pytest.raises(DeployError, match="sends more than 10 bytes of results"):
        part(landing, "results.jsonl", 0, "x")
    monkeypatch.setattr("cifar_deploy.remote.landing._MOST_FILES", 2)
    landing = Landing(tmp_path)
    for name in "ab":
        part(landing, f"raw/{name}.npz", 0, "")
    with pytest.raises(DeployError, match="sends more than 2 files"):
        part(landing, "raw/c.npz", 0, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"clock": float("inf")},
        {"clock": -1e99},
        {"version": []},
        {"version": [3, "x", None]},
        {"versions": {"numpy": [1]}},
        {"folders": [3, {}]},
        {"bits": "64"},
        {"python": None},
    ],
    ids=str,
)
def test_a_device_that_says_nonsense_is_no_internal_error(fields: dict[str, Any]) -> None:
    told: dict[str, Any] = {
        **{name: "x" for name in ("python", "implementation", "system", "machine", "libc")},
        **{"version": [3, 12, 1], "free_threaded": False, "bits": 64, "clock": 1.0, "versions": {}, "folders": []},
    }
    assert home_side.Found.of(frames.Frame("python", told)).is_new_enough
    try:
        one = home_side.Found.of(frames.Frame("python", {**told, **fields}))
    except DeployError as error:
        assert str(error).startswith("frame ")
    else:
        assert str(one) and time.gmtime(one.clock)

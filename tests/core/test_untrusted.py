"""What comes from outside is read as far as it is a regular file, of a bounded size, where it should be."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_deploy.core import sealing, untrusted
from cifar_deploy.core.errors import Corrupt, UsageError


def test_the_hash_is_the_contents_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert untrusted.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def no_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Something that is no regular file, by the name `x`."""
    path = tmp_path / "x"
    match request.param:
        case "folder":
            path.mkdir()
        case "named pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(path))
    return path


@pytest.mark.parametrize("no_file", ["folder", "named pipe", "device", "socket"], indirect=True)
@pytest.mark.parametrize(
    "read",
    [untrusted.sha256, sealing.read_json, untrusted.open_regular, lambda path: untrusted.read_bytes(path, 9)],
    ids=["sha256", "read_json", "open_regular", "read_bytes"],
)
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    read: Callable[[Path], object], no_file: Path, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["no_file"]
    with pytest.raises(Corrupt, match=f"x: is a {kind}, and not a regular file"):
        read(no_file)


def test_a_file_that_becomes_a_pipe_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda self: regular)
    with pytest.raises(Corrupt, match="is a named pipe"):
        untrusted.open_regular(path)


def test_a_file_is_read_up_to_its_bound_and_a_larger_one_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert untrusted.read_bytes(path, 5) == b"12345"
    with pytest.raises(Corrupt, match="is 5 bytes, and at most 4 are read"):
        untrusted.read_bytes(path, 4)
    os.truncate(path, 2**40)
    with pytest.raises(Corrupt, match="at most 16,777,216 are read"):
        sealing.read_json(path)


def test_what_is_not_there_is_a_usage_error_and_a_link_that_leads_nowhere_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "good").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "chain").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    untrusted.check_named(tmp_path / "good", "give another")
    for name in ("absent", "absent/file", "file/below", "x" * 300):
        with pytest.raises(UsageError, match="does not exist; give another"):
            untrusted.check_named(tmp_path / name, "give another")
    for name in ("nowhere", "chain", "nowhere/below"):
        with pytest.raises(Corrupt, match=r"is a link that leads nowhere\); mend that, or give another"):
            untrusted.check_named(tmp_path / name, "give another")
    with pytest.raises(Corrupt, match=r"--data-dir: .*loop cannot be read"):
        untrusted.check_named(tmp_path / "loop", "give another", "--data-dir")

"""A frame is read whatever stands around it, and nothing else is taken for one."""

import json
import os
import threading
from collections.abc import Sequence

import pytest

from cifar_deploy.core import frames
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.frames import Frame


def read(*parts: bytes) -> list[Frame]:
    """What is read of these, written to a pipe one after the other."""
    receive, send = os.pipe()

    def write() -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(send, view) :]
        os.close(send)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        return list(frames.read(receive))
    finally:
        writing.join()
        os.close(receive)


HELLO = frames.line("hello", name="pi5", count=3)


def test_a_frame_comes_back() -> None:
    assert read(HELLO) == [Frame("hello", {"name": "pi5", "count": 3})]


@pytest.mark.parametrize(
    "around",
    [
        (b"Welcome to the board!\n* 3 updates\n", b"", 1),
        (b"no line's end", b"", 1),
        (b"", b"logout\n", 1),
        (b"\x1b[31mred\x00\xff\xfe", b"\r\n", 1),
        (HELLO[: len(HELLO) // 2], b"", 1),  # one that was cut, and the next behind it
        (b"\x1ecifar-deploy hello 0000 {}", b"", 1),
        (b"\x1e", b"\x1e", 1),
        (HELLO, HELLO, 3),
    ],
    ids=str,
)
def test_noise_disturbs_no_frame(around: tuple[bytes, bytes, int]) -> None:
    before, behind, count = around
    assert read(before + HELLO + behind) == read(HELLO) * count


@pytest.mark.parametrize("cuts", [[1] * len(HELLO), [3, 10, 1], [len(HELLO) - 1]], ids=len)
def test_it_may_come_in_pieces(cuts: Sequence[int]) -> None:
    parts, rest = [], HELLO
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    assert read(*parts, rest) == read(HELLO)


def test_every_altered_byte_is_noticed() -> None:
    start = HELLO.index(b"hello")
    for place in range(start, len(HELLO) - 1):
        altered = HELLO[:place] + bytes([HELLO[place] ^ 1]) + HELLO[place + 1 :]
        assert read(altered) == [], altered


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"3",
        b"null",
        b"{",
        b'{"a": ' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 100_000,
        b"\xff",
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda text: repr(text[:9]),
)
def test_what_is_no_object_is_no_frame(text: bytes) -> None:
    line = b"\x1ecifar-deploy hello %s %s\n" % (frames._digest("hello", text), text)
    assert read(line, HELLO) == read(HELLO)


def test_a_line_of_any_length_takes_bounded_memory_and_the_next_is_read() -> None:
    endless = [b"x" * 2**20] * 8
    assert read(*endless, b"\n", HELLO) == read(HELLO)
    assert read(b"\x1ecifar-deploy hello ", *endless, HELLO, HELLO) == read(HELLO)


def test_a_part_of_a_file_fits_into_a_frame() -> None:
    line = frames.line("part", file="raw/" + "x" * 120, offset=2**30, base64="A" * (frames.PART_BYTES * 4 // 3 + 4))
    assert len(line) < frames.LONGEST and len(read(line)) == 1


def test_what_is_sent_is_ascii_and_holds_no_mark_itself() -> None:
    line = frames.line("note", text="grüße \x1e\n\udcff")
    assert line.isascii() and line.count(b"\x1e") == 1 and line.count(b"\n") == 1
    assert json.loads(line.split(b" ", 3)[3])["text"] == "grüße \x1e\n\udcff"


def test_a_silence_ends_it() -> None:
    receive, send = os.pipe()
    os.write(send, HELLO)
    assert list(frames.read(receive, 0.05)) == read(HELLO)
    os.close(send)
    os.close(receive)


def test_a_field_of_another_type_is_an_error_of_one_line() -> None:
    frame = Frame("has", {"bytes": True, "name": 3})
    for name, kind in (("bytes", int), ("name", str), ("gone", str)):
        with pytest.raises(DeployError, match=f"frame has: its {name} is no {kind.__name__}"):
            frame.get(name, kind)

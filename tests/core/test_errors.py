"""Errors for people."""

import pytest

from cifar_deploy.core.errors import is_out_of_memory, one_line, printable


def test_an_error_is_one_line_without_control_characters() -> None:
    line = one_line("a\nb \x1b[31mred\x07 " + "x" * 400)
    assert len(line) == 300 and line.isprintable() and line.startswith("a b \\x1b[31m")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("chat-à-café 猫 🐈 ×", "chat-à-café 猫 🐈 ×"),
        ("\x1b]8;;http://evil\x1b\\here", "\\x1b]8;;http://evil\\x1b\\here"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("\u200binvisible\ufeff\u00ad", "\\u200binvisible\\ufeff\\xad"),
        ("two\nlines\r\u2028\u2029\x85", "two\\nlines\\r\\u2028\\u2029\\x85"),
        ("tab\tnul\x00del\x7f", "tab\\tnul\\x00del\\x7f"),
        ("\udcff no UTF-8", "\\udcff no UTF-8"),
        ("\ue000 private \U000e0041 tag", "\\ue000 private \\U000e0041 tag"),
    ],
)
def test_a_name_shows_what_it_holds(text: str, shown: str) -> None:
    assert printable(text) == shown and one_line(text).isprintable()


_REMEDY = "is no results file; give an output folder"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (f"{'x' * 5000}: {_REMEDY}", f"…: {_REMEDY}"),
        (f"a.onnx: {'; '.join(['one: reason'] * 100)}; {_REMEDY}", f"; {_REMEDY}"),
        (f"a.onnx: {'long ' * 80}; try another file", "; try another file"),
        (f"a.onnx: short; {'x' * 1000} the end", "x the end"),
        (f"a.onnx {'x' * 1000} the end", "x the end"),
    ],
)
@pytest.mark.parametrize("longest", [100, 300])
def test_a_long_error_keeps_what_it_is_about_and_the_way_out(text: str, end: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) == longest and line[:6] == text[:6] and line.endswith(end) and line.count("…") == 1


@pytest.mark.parametrize(
    "message",
    [
        "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 2147483648",
        "Exception from src/core/src/runtime/allocator.cpp:79:\nstd::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "[Errno 12] Cannot allocate memory",
    ],
)
def test_a_lack_of_memory_is_known_in_the_words_of_each_runtime(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("no such operator: AllocateNothing"))

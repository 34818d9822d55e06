"""Errors for people."""

import pytest

from cifar_deploy.core.errors import is_out_of_memory, one_line


def test_an_error_is_one_line_without_control_characters() -> None:
    line = one_line("a\nb \x1b[31mred\x07 " + "x" * 400)
    assert len(line) == 300 and line.isprintable() and line.startswith("a b \\x1b[31m")


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

"""Errors for people."""

from cifar_deploy.core.errors import one_line


def test_an_error_is_one_line_without_control_characters() -> None:
    line = one_line("a\nb \x1b[31mred\x07 " + "x" * 400)
    assert len(line) == 300 and line.isprintable() and line.startswith("a b \\x1b[31m")

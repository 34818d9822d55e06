"""What a screen of plain characters shows."""

import dataclasses

from cifar_deploy.reports import text
from tests.reports.tables import SMALL


def test_the_answer_stands_first_and_the_numbers_stand_in_columns() -> None:
    assert SMALL.answer and SMALL.answer.best
    shown = list(text.lines(SMALL, "in report.html"))
    assert shown[0] == SMALL.answer.headline
    first = shown.index("") + 1
    table = shown[first : first + 2 + len(SMALL.answer.best.rows)]
    assert [line.split() for line in table] == [
        ["configuration", "latency"],
        ["ms"],
        ["best", "trade-off", "small", "1.235", "(1.200,", "1.900)~"],
    ]
    assert len({len(line) for line in table}) == 1, "the numbers end below their titles"


def test_what_is_not_here_did_not_fail() -> None:
    table = dataclasses.replace(
        SMALL, failures_by_reason={"unavailable: no images": ("a", "b", "c", "d"), "crashed: SIGSEGV": ("e",)}
    )
    told = list(text.remarks(table))
    assert "Not measured (4): unavailable: no images: a; b; c and 1 more" in told
    assert "Failed (1): crashed: SIGSEGV: e" in told

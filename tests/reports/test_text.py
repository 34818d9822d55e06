"""What a screen of plain characters shows."""

import dataclasses

import pytest

from cifar_deploy.reports import text
from cifar_deploy.sections.latencies import RANK
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


@pytest.mark.parametrize(
    ("place", "spared", "is_told"), [("T-2", [], True), ("2", [], False), ("T-2", ["group"], False)]
)
def test_a_tie_is_explained_where_one_is_shown(place: str, spared: list[str], is_told: bool) -> None:
    assert SMALL.answer and SMALL.answer.best
    best = SMALL.answer.best
    excerpt = dataclasses.replace(
        best,
        columns={**best.columns, "rank": dataclasses.replace(RANK, title="group")},
        rows=(dataclasses.replace(best.rows[0], words={"rank": place}),),
    )
    told = "; ".join(text.legend(excerpt, spared, "in report.html"))
    assert "~ noisy" in told and ("T- a tie in latency" in told) == is_told


def test_what_is_not_here_did_not_fail() -> None:
    table = dataclasses.replace(
        SMALL, failures_by_reason={"unavailable: no images": ("a", "b", "c", "d"), "crashed: SIGSEGV": ("e",)}
    )
    told = list(text.remarks(table))
    assert "Not measured (4): unavailable: no images: a; b; c and 1 more" in told
    assert "Failed (1): crashed: SIGSEGV: e" in told

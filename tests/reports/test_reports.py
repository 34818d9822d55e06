"""What a report looks like, and that it shows hostile text as text."""

import csv
import difflib
from html.parser import HTMLParser

import pytest

from cifar_deploy.core.errors import printable
from cifar_deploy.reports import REPORTS
from tests.reports import golden
from tests.reports.tables import table_of


@pytest.mark.parametrize("of", golden.TABLES)
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_its_golden_file(name: str, of: str) -> None:
    """`python -m tests.reports.golden` writes the files anew after a change that is meant."""
    kept, now = golden.path(name, of).read_text(), golden.rendered(name, of)
    changes = list(difflib.unified_diff(kept.split("\n"), now.split("\n"), golden.path(name).name, "now", lineterm=""))
    assert not changes, "\n".join(changes)


_HOSTILE = [
    '<script>alert(1)</script>|`$\\frac{$`\n"',
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe\u2066\u200b",
    "two\r\nlines\x85\u2028\x00",
    "bytes \udcff",
    '"><img src=x onerror=alert(1)><style>*{display:none}</style>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title></svg></script><!--",
    "javascript:alert(1)",
    "x" * 3000,
]


@pytest.mark.parametrize("name", ["markdown", "html", "svg"])
@pytest.mark.parametrize("evil", _HOSTILE, ids=ascii)
def test_a_page_shows_hostile_text_as_text(name: str, evil: str) -> None:
    text = REPORTS[name].render(table_of(evil))
    assert "<script>alert" not in text and (name == "svg" or "1.23" in text)
    assert all(line.isprintable() for line in text.split("\n"))


class _Outline(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["html", "svg"])
@pytest.mark.parametrize("evil", _HOSTILE, ids=ascii)
def test_a_hostile_text_makes_no_element_and_no_attribute(name: str, evil: str) -> None:
    found, harmless = (_Outline(REPORTS[name].render(table_of(text))) for text in (evil, "harmless"))
    assert found.elements <= harmless.elements
    assert printable(evil) in found.text


@pytest.mark.parametrize("evil", _HOSTILE, ids=ascii)
def test_a_csv_holds_hostile_text_in_one_field_of_one_line(evil: str) -> None:
    lines = REPORTS["csv"].render(table_of(evil)).removesuffix("\n").split("\n")
    assert len(lines) == 2 and all(line.isprintable() for line in lines)
    assert list(csv.DictReader(lines)) == [{"name": printable(evil), "value": "-0.00123"}]


@pytest.mark.parametrize(
    "evil",
    [
        "=1+1.onnx",
        "+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        '=HYPERLINK("http://evil")',
        "＝1",
        "a;=1",
        "=cmd|' /C calc'!A0",
    ],
)
def test_a_csv_holds_no_formula(evil: str) -> None:
    text = REPORTS["csv"].render(table_of(evil))
    (heading, row) = text.splitlines()
    assert heading == '"name","value"' and row.endswith('",-0.00123'), "text is quoted, and numbers are as they were"
    (read,) = csv.DictReader(text.splitlines())
    assert read["name"] in (f"'{evil}", printable(evil)) and read["name"][0] not in "=+-@＝\t\r"

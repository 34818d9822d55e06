"""The page in a browser: nothing overflows, nothing is refused, all is reached, and thousands of rows stay quick."""

import dataclasses
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cifar_deploy.core.store import Store
from cifar_deploy.core.table import PARTS, Row, Table, Value
from cifar_deploy.reports import REPORTS
from cifar_deploy.stages.report import report
from tests import chromium
from tests.chromium import Page
from tests.reports.tables import SMALL, THREE, table_of

ROOT = Path(__file__).parents[2]
in_a_browser = pytest.mark.skipif(chromium.MISSING is not None, reason=str(chromium.MISSING))


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium.browser() as page:
        yield page


def opened(browser: Page, folder: Path, table: Table, width: int = 1400, height: int = 900, **media: str) -> Page:
    path = folder / "report.html"
    path.write_text(REPORTS["html"].render(table))
    browser.size(width, height, **media)
    browser.open(path)
    return browser


def many(rows: int) -> Table:
    """SMALL with so many rows of all numbers."""
    ship, *others = SMALL.sections
    made = tuple(
        Row(
            labels=(f"net{index}", "onnx", "openvino"),
            values={"latency": Value(number=0.001 + 1e-6 * (index * 7 % rows))},
        )
        for index in range(rows)
    )
    return dataclasses.replace(SMALL, sections=(dataclasses.replace(ship, rows=made), *others))


class _Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.tables = self.captions = self.unscoped = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for name in ("href", "aria-labelledby", "for"):
            if found.get(name):
                self.targets.add(str(found[name]).removeprefix("#"))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.unscoped += tag == "th" and "scope" not in found


# A row may show what failed only in a trial, as under older instructions, which is in no list of failures.
UNLISTED = dataclasses.replace(SMALL, failures=(), failures_by_reason={})


@pytest.mark.parametrize(
    "table", [SMALL, UNLISTED, THREE, table_of("a <b> & 'c'")], ids=["small", "unlisted", "devices", "hostile"]
)
def test_every_link_has_its_target_and_every_table_its_caption(table: Table) -> None:
    page = _Links(REPORTS["html"].render(table))
    assert page.targets <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert page.tables == page.captions > 0 and not page.unscoped


def test_the_policy_allows_one_style_and_one_script_and_no_network() -> None:
    text = REPORTS["html"].render(SMALL)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    assert "default-src &#39;none&#39;" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.search(r'(src|href)="(?!#|data:)', text) and " style=" not in text and "@import" not in text


@in_a_browser
@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_its_screen_without_a_message(
    browser: Page, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    page = opened(browser, tmp_path, SMALL, width, height, prefers_color_scheme=scheme)
    assert page.console() == []
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    parts = page.run(
        "return [...document.querySelectorAll('section')].map(part => [part.id, part.innerText.length > 9])"
    )
    assert dict(parts).keys() >= {"answer", "health", "trade-off", "speed", "resident", "errors", "numbers", "glossary"}
    assert all(filled for _, filled in parts)
    ends = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    assert page.run(ends, ".cards") < height
    drawn = page.run(
        "return [...document.querySelectorAll('#trade-off svg')].filter(svg => svg.getBoundingClientRect().height).length"
    )
    assert drawn == 1, "a wide chart or a narrow one"


@in_a_browser
@pytest.mark.parametrize("table", [SMALL, THREE], ids=["small", "devices"])
def test_no_width_of_a_window_is_overflowed(browser: Page, tmp_path: Path, table: Table) -> None:
    opened(browser, tmp_path, table)
    overflowed = []
    for width in range(360, 1500, 60):
        browser.size(width, 900)
        if not browser.run("return document.documentElement.scrollWidth <= innerWidth"):
            overflowed.append(width)
    assert not overflowed


@in_a_browser
def test_a_link_to_a_further_device_unfolds_it_and_a_print_has_all(browser: Page, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, THREE)
    assert page.console() == []
    shown = "return document.getElementById(arguments[0]).checkVisibility()"
    assert page.run(shown, "device-2-device") and not page.run(shown, "device-2-numbers")
    page.run("document.querySelector('#devices a[href=\"#device-2-device\"]').click()")
    time.sleep(0.1)
    assert page.run(shown, "device-2-numbers") and not page.run(shown, "device-3-numbers")
    page.size(1400, 900)
    page.devtools("Emulation.setEmulatedMedia", media="print")
    assert page.run(shown, "device-3-numbers")
    page.devtools("Emulation.setEmulatedMedia", media="")


@in_a_browser
def test_hostile_names_run_nothing(browser: Page, tmp_path: Path) -> None:
    evil = "\"><img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    page = opened(browser, tmp_path, table_of(evil))
    assert page.console() == [] and page.run("return document.images.length") == 0
    assert page.run("return document.title") == evil


@in_a_browser
def test_a_head_sorts_by_numbers_and_a_filter_keeps_what_has_its_words(browser: Page, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, SMALL)
    rows = "return [...document.querySelectorAll('#all tbody tr')].filter(row => row.offsetHeight).map(row => row.cells[2].innerText)"
    click = (
        "[...document.querySelectorAll('#all th button')].find(one => one.ariaLabel.includes(arguments[0])).click();"
    )
    assert page.run(rows) == ["pytorch", "onnxruntime", "openvino"]
    assert page.run(click + rows, "latency") == ["onnxruntime", "pytorch", "openvino"]
    assert page.run(click + rows, "latency") == ["pytorch", "onnxruntime", "openvino"], "what has no number stays last"
    assert page.run("return document.querySelector('#all th[aria-sort]').innerText").startswith("latency")
    assert page.run(click + rows, "backend") == ["onnxruntime", "openvino", "pytorch"]
    typed = "const field = document.querySelector('[type=search]'); field.value = arguments[0]; field.dispatchEvent(new Event('input'));"
    assert page.run(typed + rows, "ONNX open") == ["openvino"]
    assert page.run("return document.querySelector('output').innerText") == "1 row of 3"
    assert page.run(typed + rows, "") == ["onnxruntime", "openvino", "pytorch"]


@in_a_browser
def test_all_columns_and_a_folded_part_are_reached_by_the_keyboard(browser: Page, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, SMALL)
    extra = "return document.querySelector('#all .x').offsetWidth > 0"
    assert page.run(extra) is False
    press = "document.querySelector(arguments[0]).focus(); return document.activeElement.matches(arguments[0])"
    assert page.run(press, "#columns")
    for kind in ("keyDown", "keyUp"):
        page.devtools("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" " if kind == "keyDown" else "")
    assert page.run(extra) is True
    assert page.run("location.hash = 'health'; return new Promise(done => setTimeout(done, 50))") is None
    assert page.run("return document.querySelector('#health details').open"), "a link opens what it leads to"
    assert page.run("return [...document.querySelectorAll('.box')].every(box => box.tabIndex === 0 && box.ariaLabel)")


@in_a_browser
def test_without_scripts_every_row_is_there(browser: Page, tmp_path: Path) -> None:
    count = "return [...document.querySelectorAll('#all tbody tr')].filter(row => row.offsetHeight).length"
    page = opened(browser, tmp_path, many(400))
    assert page.run(count) == 300
    assert page.run("[...document.querySelectorAll('#tools button')].at(-1).click();" + count) == 400
    page.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page("refresh")
        assert page.run(count) == 400 and page.console() == []
    finally:
        page.devtools("Emulation.setScriptExecutionDisabled", value=False)


@in_a_browser
def test_a_print_shows_every_number_whole(browser: Page, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, many(400), 1047, 718)  # A4 landscape within its margins
    page.devtools("Emulation.setEmulatedMedia", media="print")
    try:
        cut = "return [...document.querySelectorAll('#all td')].filter(cell => cell.offsetWidth && cell.getBoundingClientRect().right > innerWidth).length"
        assert page.run(cut) == 0
        assert page.run("return [...document.querySelectorAll('#all tbody tr')].every(row => row.offsetHeight > 0)")
        assert page.run("return [...document.querySelectorAll('button, nav, input')].every(one => !one.offsetHeight)")
        scrolls = "return [...document.querySelectorAll('.box')].filter(box => getComputedStyle(box).overflowY !== 'visible' && box.offsetHeight).length"
        assert page.run(scrolls) == 0
    finally:
        page.devtools("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
@in_a_browser
def test_five_thousand_rows_open_in_three_seconds_and_sort_in_half_of_one(browser: Page, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, many(5000))
    loaded_ms = page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert page.run("return document.querySelectorAll('#all tbody tr').length") == 5000
    clicked = """
        const head = [...document.querySelectorAll('#all th button')].find(one => one.ariaLabel.includes('latency'));
        const begun = performance.now();
        head.click();
        document.getElementById('all').offsetHeight;  // which lays it out
        return performance.now() - begun;
    """
    sorted_ms = min(page.run(clicked) for _ in range(3))
    assert (loaded_ms < 3000, sorted_ms < 500) == (True, True), (loaded_ms, sorted_ms)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Table:
    store = Store(tmp_path_factory.mktemp("shipped"))
    store.reports.mkdir()
    store.results_path.write_bytes((ROOT / "reports" / "results.jsonl").read_bytes())
    table, _ = report(store)
    return table


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(("width", "height", "screens"), [(1400, 900, 1.5), (390, 844, 3)])
def test_the_shipped_results_keep_to_their_screens(
    browser: Page, tmp_path: Path, shipped: Table, width: int, height: int, screens: float
) -> None:
    """So many for each network."""
    networks = len({row.labels[0] for row in shipped.sections[0].rows})
    page = opened(browser, tmp_path, shipped, width, height)
    assert (tmp_path / "report.html").stat().st_size <= 2 * 2**20
    assert page.console() == []
    assert page.run("return document.documentElement.scrollHeight") <= screens * height * networks
    first = "return [...document.querySelectorAll('#trade-off svg')].find(svg => svg.getBoundingClientRect().height)"
    assert page.run(f"{first}.getBoundingClientRect().bottom") <= height, (
        "the answer and the first chart on the first screen"
    )
    ids = page.run("return [...document.querySelectorAll('main > section')].map(part => part.id)")
    assert ids == [*PARTS]


@pytest.mark.slow
@in_a_browser
def test_the_print_of_the_shipped_results_cuts_nothing_off(browser: Page, tmp_path: Path, shipped: Table) -> None:
    page = opened(browser, tmp_path, shipped, 1047, 718)
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    page.devtools("Emulation.setEmulatedMedia", media="print")
    try:
        wide = "return [...document.querySelectorAll('td, th, svg, p, li')].filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"
        assert page.run(wide) == []
    finally:
        page.devtools("Emulation.setEmulatedMedia", media="")

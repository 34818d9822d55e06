"""HTML: the whole report as one page that needs nothing beside it, neither network nor script.

page.html is the template, page.css and charts.css are its style, and page.js sorts and filters the table. The page's own
policy allows this style and this script alone, by their hashes.
"""

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from markupsafe import Markup

from cifar_deploy.core.charts import Bars, Chart, Forest, Heat, Lines, Scatter
from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import PARTS, Column, Row, Section, Table, Value
from cifar_deploy.reports import Report, charts

if TYPE_CHECKING:
    from jinja2 import Template

# A table of more rows is folded, if it is not the one of all numbers.
_FOLDED_FROM = 8
# Where scripts run, a table shows so many rows until it is asked for all: a browser takes seconds to lay out thousands.
_AT_FIRST = 300
# Pixels: the content of a desktop's page, of a phone's, and of a panel, of which four stand side by side on a desktop.
_WIDE, _NARROW, _PANEL, _HALF, _TWO = 1320, 358, 320, 420, 653
_MARKS = {"noisy": "†", "invalid": "‡"}


def render(table: Table) -> str:
    style, script = _part("page.css") + charts.style(), _part("page.js")
    if table.overview:
        style += _part("devices.css")
    terms = _terms(table.glossary)
    ids = {title: id_ for id_, (titles, _) in terms.items() for title in titles}
    devices = [_device(each, place, ids) for place, each in enumerate(table.devices or (table,))]
    page = _template().render(
        table=table,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        terms=terms,
        devices=devices,
        on=devices[0],
        overview=_overview(table, ids),
    )
    return f"{page}\n"


def _device(table: Table, place: int, glossary: Mapping[str, str]) -> dict[str, Any]:
    """A device's part of the page."""
    prefix = _prefix(place)
    return {
        "table": table,
        "prefix": prefix,
        "parts": list(_parts(table, glossary, prefix)),
        "picks": _picks(table),
        "thumbnails": _thumbnails(table),
    }


def _overview(table: Table, glossary: Mapping[str, str]) -> dict[str, Any] | None:
    if not table.overview:
        return None
    # A failure stands with its device; one that is of no column's device with the first that has any.
    failed = [_prefix(place) for place, each in enumerate(table.devices) if each.failures]

    def failures(key: str) -> str:
        place = key.partition(".")[2]
        return f"{_prefix(int(place)) if place else ''.join(failed[:1])}failures"

    return _table(table.overview.section, glossary, False, failures, health="")


def _prefix(place: int) -> str:
    """Of the ids of a device's part of the page; the first has none."""
    return f"device-{place + 1}-" if place else ""


def _terms(glossary: Mapping[str, str]) -> dict[str, tuple[list[str], str]]:
    """The entries of the glossary by their ids: titles that share a meaning, and the meaning."""
    titles: dict[str, list[str]] = {}
    for title, meaning in glossary.items():
        titles.setdefault(meaning, []).append(title)
    return {f"term-{number}": (those, meaning) for number, (meaning, those) in enumerate(titles.items())}


@cache
def _template() -> "Template":
    from jinja2 import Environment

    # Names come from files and may hold anything: a browser shows every text as it is.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.from_string(_part("page.html"))


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    id: str
    title: str
    short: str
    pictures: tuple[Any, ...]
    tables: tuple[Any, ...]


def _parts(table: Table, glossary: Mapping[str, str], prefix: str) -> Iterator[_Part]:
    """Those of the middle of the page that have anything to show."""
    numbers = next((section for section in table.sections if section.main), None) or next(iter(table.sections), None)
    for id_, (title, short) in PARTS.items():
        pictures = tuple(_picture(chart, title) for chart in table.charts if chart.part == id_)
        drawn = {chart.title for chart in table.charts if isinstance(chart, Heat)}
        tables = tuple(
            # The script serves one table of all numbers, which is the first device's: the others show all columns.
            _table(
                dataclasses.replace(each, main=()) if prefix else each,
                glossary,
                each is numbers and not prefix,
                lambda key: f"{prefix}failures" if table.failures else "",
                health=f"{prefix}health",
            )
            for each in table.sections
            if each.part == id_ and each.title not in drawn and (each.columns or each.notes)
        )
        if pictures or tables or (id_ == "numbers" and table.remarks):
            yield _Part(id=id_, title=title, short=short, pictures=pictures, tables=tables)


# Pictures


def _picture(chart: Chart, part: str) -> dict[str, Any]:
    return {
        "title": chart.title,
        "is_named": chart.title == part,
        "notes": chart.notes,
        "wide": chart.part == "trade-off",
        **_drawn(chart),
    }


def _drawn(chart: Chart) -> dict[str, Any]:
    match chart:
        case Scatter():
            return {
                "drawn": [_markup(charts.scatter(chart, _WIDE, 400), "on-wide")],
                "narrow": [_markup(charts.scatter(chart, _NARROW, 245, key_below=True), "on-narrow")],
            }
        case Forest():
            is_half = len(chart.panels) == 2
            wide = _HALF if is_half else _PANEL
            panels = [_both(panel.title, partial(charts.forest, panel), wide) for panel in chart.panels]
            return {"panels": panels, "is_half": is_half}
        case Bars():
            return {
                **_at_both(partial(charts.bars_key, chart), _TWO),
                "panels": [
                    _both(name, partial(charts.bars, name, rows, chart.parts, chart.texts), _TWO)
                    for name, rows in chart.panels.items()
                ],
                "is_half": True,
            }
        case Lines():
            return _at_both(lambda width: charts.lines(chart, width, 250), 480)
        case Heat():
            return {"heat": _heat(chart)}


def _both(title: str, draw: Callable[[float], Element], wide: float) -> tuple[str, Markup]:
    """A panel for a desktop and for a phone."""
    found = _at_both(draw, wide)
    return title, Markup("").join([*found["drawn"], *found["narrow"]])


def _at_both(draw: Callable[[float], Element], wide: float) -> dict[str, list[Markup]]:
    return {"drawn": [_markup(draw(wide), "on-wide")], "narrow": [_markup(draw(_NARROW), "on-narrow")]}


def _markup(svg: Element, class_: str) -> Markup:
    svg.set("class", f"chart {class_}")
    return Markup(charts.text_of(svg))


def _heat(chart: Heat) -> dict[str, Any]:
    rows = list(chart.rows.values())
    if chart.by_column:
        columns = [charts.shades((row[i] for row in rows), log=chart.log) for i in range(len(chart.columns))]
        shade = [[column[i] for column in columns] for i in range(len(rows))]
    else:
        width = len(chart.columns)
        flat = charts.shades((number for row in rows for number in row), log=chart.log)
        shade = [flat[i * width : (i + 1) * width] for i in range(len(rows))]
    sign = "+" if any(number is not None and number < 0 for row in rows for number in row) else ""
    body = [
        (name, [("–" if n is None else f"{n:{sign},.{chart.digits}f}", s) for n, s in zip(row, shades, strict=True)])
        for (name, row), shades in zip(chart.rows.items(), shade, strict=True)
    ]
    return {"corner": chart.corner, "columns": chart.columns, "rows": body}


def _thumbnails(table: Table) -> list[tuple[str, str, str, str]]:
    """The address of each image, which holds it whole, and its labels: true, by the reference, by the configuration."""
    return [
        (f"data:image/png;base64,{base64.b64encode(each.png).decode()}", each.true, each.reference, each.label)
        for each in (table.thumbnails.images if table.thumbnails else ())
    ]


# Tables


def _table(
    section: Section, glossary: Mapping[str, str], is_main: bool, failures: Callable[[str], str], *, health: str
) -> dict[str, Any]:
    """`failures` and `health` are the ids where the reasons of a column and those of doubts stand."""
    extra = [bool(section.main) and key not in section.main for key in section.columns]
    heads = [(title, "", glossary.get(title), "l") for title in section.label_titles]
    heads += [
        (column.title, column.unit, glossary.get(column.title), _classes(is_extra, column))
        for column, is_extra in zip(section.columns.values(), extra, strict=True)
    ]
    marks = {
        value.verdict.word
        for row in section.rows
        for value in row.values.values()
        if value.verdict and value.verdict.word in _MARKS
    }
    return {
        "title": section.title,
        "heads": heads,
        "rows": [(row.labels, row.mark, list(_cells(row, section.columns, extra, failures))) for row in section.rows],
        "notes": section.notes,
        "health": health,
        "marks": [(_MARKS[word], word) for word in sorted(marks, reverse=True)],
        "is_main": is_main,
        "at_first": _AT_FIRST,
        "is_folded": not is_main and len(section.rows) > _FOLDED_FROM,
        "extra": sum(extra),
    }


def _cells(
    row: Row, columns: Mapping[str, Column], extra: Iterable[bool], failures: Callable[[str], str]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Text, what it sorts by, its mark, its classes and, of a failure, the id where the reason stands."""
    for (key, column), is_extra in zip(columns.items(), extra, strict=True):
        value = row.values.get(key)
        if value is None:
            failed = failures(key) if key in row.failures else ""
            yield row.text(key, column), "", "", _classes(is_extra, column), failed
            continue
        word = value.verdict.word if value.verdict else "stable"
        yield value.plain(column), repr(value.number), _MARKS.get(word, ""), _classes(is_extra, column), ""


def _classes(is_extra: bool, column: Column) -> str:
    """Of a cell in a column that is not shown at first, and of one that holds words."""
    return " ".join([*(["x"] if is_extra else []), *([] if column.stored_unit else ["l"])])


def _picks(table: Table) -> list[dict[str, Any]]:
    answer = table.answer
    if not answer:
        return []
    return [
        {
            "role": pick.role,
            "title": pick.title,
            "paths": pick.paths,
            "example": pick.example,
            "is_winner": pick.is_winner,
            "numbers": [
                (column.text(value.number), column.unit, column.title, _spread(value, column))
                for key, column in answer.columns.items()
                if (value := pick.row.values.get(key))
            ],
        }
        for pick in answer.picks
    ]


def _spread(value: Value, column: Column) -> str:
    return value.plain(column).partition(" ")[2]


REPORT = Report(summary="the whole report as one page", suffix="html", render=render)

"""Markdown: the answer, one table and the main chart, as much as a comment on a pull request can hold."""

import html
import re
from collections.abc import Iterable, Iterator

from cifar_deploy.core.errors import printable
from cifar_deploy.core.progress import counted
from cifar_deploy.core.table import Excerpt, Section, Table
from cifar_deploy.reports import Report, charts

# Of a table or a list; the page has them all.
_MOST_ROWS = 24
_MOST_LINES = 8


def render(table: Table) -> str:
    return "\n".join(_lines(table)) + "\n"


def _lines(table: Table) -> Iterator[str]:
    yield from (f"# {_escaped(table.answer.headline if table.answer else table.title)}", "")
    yield from _answer(table)
    if table.overview:
        yield from _section(table.overview.few)
    for other in table.others:
        yield from (f"## {_escaped(other.answer.headline if other.answer else other.device)}", "")
        yield from _answer(other)
    for each in table.devices or (table,):
        if each.device:
            yield from (f"# {_escaped(each.device)}", "", _escaped(each.machine), "")
        if each is table and (chart := charts.main_of(table)):
            yield from (f"![{_escaped(chart.title)}](report.svg)", "")
        yield from _device(each)


def _answer(table: Table) -> Iterator[str]:
    """Below its headline."""
    if table.answer:
        yield from (f"{_escaped(reason)}  " for reason in table.answer.reasons)
        yield ""


def _device(table: Table) -> Iterator[str]:
    answer = table.answer
    shown: Section | None = answer.best if answer else None
    if not shown and not table.device:  # nothing qualifies; of several devices the overview has the numbers
        shown = next(iter(table.sections), None)
    if shown:
        yield from _section(shown)
    if table.health:
        yield from (f"**Measurement health.** {_escaped(table.health.line)}", "")
    remarks = {**(answer.remarks if answer else {}), "What failed": tuple(_failures(table))}
    for title, lines in {**remarks, "What could not be read": table.lost}.items():
        if lines:
            yield from (f"**{_escaped(title)}**", "", *_listed(lines), "")
    yield from (f"- **{_escaped(name)}**: {_escaped('; '.join(values))}" for name, values in table.facts.items())
    if table.device and table.facts:
        yield ""


def _failures(table: Table) -> Iterator[str]:
    for reason, who in table.failures_by_reason.items():
        more = f" and {len(who) - 1:,} more" if len(who) > 1 else ""
        yield f"{who[0]}{more}: {reason}"
    if not table.failures_by_reason:
        yield from table.failures


def _listed(lines: tuple[str, ...]) -> Iterator[str]:
    yield from (f"- {_escaped(line)}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"- … {len(lines) - _MOST_LINES:,} more in report.html"


def _section(section: Section) -> list[str]:
    headings = [*section.label_titles, *(column.heading for column in section.columns.values())]
    rules = ["---"] * len(section.label_titles) + ["---:"] * len(section.columns)
    lines = [_line(headings), _line(rules)]
    for row in section.rows[:_MOST_ROWS]:
        lines.append(_line([*row.labels, *(row.text(key, column) for key, column in section.columns.items())]))
    notes = [f"{_escaped(note)}  " for note in section.notes]
    if isinstance(section, Excerpt) and section.more:
        notes.append(f"{counted(section.more, 'more configuration')} in the full report.  ")
    if len(section.rows) > _MOST_ROWS:
        notes.append(f"… {len(section.rows) - _MOST_ROWS:,} more rows in report.html")
    return [f"## {_escaped(section.title)}", "", *lines, "", *notes, ""]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: names come from files and may hold anything."""
    text = html.escape(" ".join(printable(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text)


REPORT = Report(summary="the answer, its table and chart, for a pull request", suffix="md", render=render)

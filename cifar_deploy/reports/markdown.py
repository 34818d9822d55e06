"""Markdown: the tables as a page of text, for a README or an issue."""

import html
import re
from collections.abc import Iterable

from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Section, Table
from cifar_deploy.reports import Report


def render(table: Table) -> str:
    lines = [f"# {_escaped(table.title)}", ""]
    for section in table.sections:
        lines += _section(section)
    for title, items in table.remarks.items():
        lines += [f"## {title}", "", *(f"- {_escaped(item)}" for item in items), ""]
    lines += ["## What the numbers depend on", ""]
    lines += [f"- **{_escaped(name)}**: {_escaped('; '.join(values))}" for name, values in table.facts.items()]
    lines += ["", "## What each number means", ""]
    lines += [f"- **{_escaped(name)}**: {_escaped(meaning)}" for name, meaning in table.definitions.items()]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    headings = [*section.label_titles, *(column.heading for column in section.columns.values())]
    rules = ["---"] * len(section.label_titles) + ["---:"] * len(section.columns)
    lines = [_line(headings), _line(rules)]
    for row in section.rows:
        lines.append(_line([*row.labels, *(row.text(key, column) for key, column in section.columns.items())]))
    if section.is_folded:
        lines = [f"<details><summary>{len(section.rows):,} rows</summary>", "", *lines, "", "</details>"]
    notes = (f"{_escaped(note)}  " for note in section.notes)
    return [f"## {_escaped(section.title)}", "", *lines, "", *notes, ""]


def _line(configurations: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, configurations)) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: names come from files and may hold anything."""
    text = html.escape(" ".join(printable(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text)


REPORT = Report(summary="the tables as a page of text", suffix="md", render=render)

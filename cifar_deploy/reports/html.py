"""HTML: the tables as one page that needs nothing beside it."""

import html
from collections.abc import Mapping

from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Section, Table
from cifar_deploy.reports import Report

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bad: #f2b8b5; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 110rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { border-bottom-width: 2px; font-weight: 600; } th small { display: block; font-weight: 400; opacity: .7; }
.label { text-align: left; } tbody tr:hover { background: var(--soft); }
.failed { color: var(--bad); } .doubted { font-style: italic; } .note, dd { opacity: .8; margin: .4rem 0; } dt { font-weight: 600; } dd { margin-left: 1.5rem; }
"""


def render(table: Table) -> str:
    title = _escaped(table.title)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *(_section(section) for section in table.sections),
    ]
    for title_, lines in table.remarks.items():
        items = "".join(f'<li class="failed">{_escaped(line)}</li>' for line in lines)
        parts.append(f"<h2>{title_}</h2><ul>{items}</ul>")
    parts.append("<h2>What the numbers depend on</h2>" + _list({k: "; ".join(v) for k, v in table.facts.items()}))
    parts.append("<h2>What each number means</h2>" + _list(table.definitions))
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _section(section: Section) -> str:
    head = "".join(f'<th class="label">{_escaped(title)}</th>' for title in section.label_titles)
    for column in section.columns.values():
        head += f"<th>{_escaped(column.title)}<small>{_escaped(column.unit)}</small></th>"
    body = ""
    for row in section.rows:
        configurations = "".join(f'<td class="label">{_escaped(label)}</td>' for label in row.labels)
        for key, column in section.columns.items():
            failure = row.failures.get(key)
            value = row.values.get(key)
            mark = ""
            if failure:
                mark = f' class="failed" title="{_escaped(failure.reason)}"'
            elif value and value.verdict and value.verdict.reasons:
                mark = f' class="doubted" title="{_escaped("; ".join(value.verdict.reasons))}"'
            configurations += f"<td{mark}>{_escaped(row.text(key, column))}</td>"
        body += f"<tr>{configurations}</tr>\n"
    notes = "".join(f'<p class="note">{_escaped(note)}</p>' for note in section.notes)
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    if section.is_folded:
        table = f"<details><summary>{len(section.rows):,} rows</summary>{table}</details>"
    return f"<h2>{_escaped(section.title)}</h2>\n{table}{notes}"


def _list(entries: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{_escaped(k)}</dt><dd>{_escaped(v)}</dd>" for k, v in entries.items()) + "</dl>"


def _escaped(text: str) -> str:
    """Text that a browser shows as it is: names come from files and may hold anything."""
    return html.escape(printable(text))


REPORT = Report(summary="the tables as one page", suffix="html", render=render)

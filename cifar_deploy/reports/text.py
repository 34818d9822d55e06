"""The answer and the few rows that matter, in plain characters: for a screen, a log, or a device that has nothing but Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cifar_deploy.core.errors import one_line
from cifar_deploy.core.progress import counted
from cifar_deploy.core.statistics import TIE
from cifar_deploy.core.table import Column, Excerpt, Row, Section, Table

# A doubt as one character.
DOUBTS = {"noisy": "~", "invalid": "?", "at chance": "!", "too few images": "!"}

LONGEST_REASON = 200

# Kinds of failures that say what is not here, and not that something went wrong.
_NOT_HERE = ("unavailable", "unsupported")

_SHOWN = 3  # of those that failed for one reason


def lines(table: Table, full: str) -> Iterator[str]:
    """The answer, the best few, how far they may be believed, and what failed. `full` says where the rest is."""
    if table.answer:
        yield from (table.answer.headline, *table.answer.reasons)
        if table.answer.best:
            yield ""
            yield from _drawn(table.answer.best)
            yield from (f"  {text}." for text in legend(table.answer.best, (), full))
    yield ""
    yield from remarks(table)
    yield from lost(table)


def remarks(table: Table) -> Iterator[str]:
    """How far the numbers may be believed, and what failed."""
    if table.health:
        yield table.health.line
    for reason, those in table.failures_by_reason.items():
        what = "Not measured" if reason.startswith(_NOT_HERE) else "Failed"
        yield f"{what} ({len(those)}): {one_line(reason, LONGEST_REASON)}: {some(those)}"


def lost(table: Table) -> Iterator[str]:
    """What could not be read."""
    return (f"Not read: {one_line(text, LONGEST_REASON)}" for text in table.lost)


def some(those: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
    return f"{'; '.join(those[:_SHOWN])}{more}"


def legend(excerpt: Excerpt, spared: Sequence[str], full: str) -> Iterator[str]:
    """What the marks and the doubts mean, and what is left out."""
    found = {value.verdict.word for row in excerpt.rows for value in row.values.values() if value.verdict}
    doubts = [f"{mark} {word}" for word, mark in DOUBTS.items() if word in found]
    rank = excerpt.columns.get("rank")
    if rank and rank.title not in spared and any(row.words.get("rank", "").startswith(TIE) for row in excerpt.rows):
        doubts.append(f"{TIE} a tie in latency")
    texts = [
        "; ".join(f"{mark} {meaning}" for mark, meaning in excerpt.marks.items()),
        "; ".join(doubts),
        f"Not shown at this width: {', '.join(spared)} (--wide)" if spared and excerpt.rows else "",
        f"{counted(excerpt.more, 'more configuration' if excerpt.rows else 'configuration')} {full}"
        if excerpt.more
        else "",
    ]
    return filter(None, texts)


def by_network(section: Section) -> list[Row]:
    """The rows of each network or file together, by device where there are several, in the order in which they come first."""
    places = [place for place, title in enumerate(section.label_titles) if title in ("machine", "network", "file")]
    order: dict[tuple[str, ...], int] = {}
    for row in section.rows:
        order.setdefault(tuple(row.labels[place] for place in places or [0]), len(order))
    return sorted(section.rows, key=lambda row: order[tuple(row.labels[place] for place in places or [0])])


def cells(excerpt: Excerpt, columns: Mapping[str, Column], row: Row) -> list[str]:
    """Its mark, its name, and each number with its interval if that is worth its place, and a mark for a doubt."""
    return [row.mark, row.name or " ".join(row.labels), *(_cell(excerpt, row, key, columns[key]) for key in columns)]


def _cell(excerpt: Excerpt, row: Row, key: str, column: Column) -> str:
    if key not in row.values:
        return row.text(key, column)
    value = row.values[key]
    shown = value if key in excerpt.intervals else replace(value, estimate=None)
    return shown.plain(column) + (DOUBTS.get(value.verdict.word, "") if value.verdict else "")


def _drawn(excerpt: Excerpt) -> Iterator[str]:
    heads = [["", "configuration", *(column.title for column in excerpt.columns.values())]]
    heads += [["", "", *(column.unit for column in excerpt.columns.values())]]
    rows = [*heads, *(cells(excerpt, excerpt.columns, row) for row in by_network(excerpt))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield " ".join([*left, *right]).rstrip()

"""What a person sees: progress on stderr, results and tables on stdout."""

import contextlib
import functools
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column as RichColumn
from rich.table import Table as RichTable
from rich.text import Text

from cifar_deploy import documents, process
from cifar_deploy.choice import answer
from cifar_deploy.choice.choose import Choice
from cifar_deploy.core import progress
from cifar_deploy.core.errors import one_line, printable
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.core.records import Artifact, Checkpoint, Result, UnderLimit
from cifar_deploy.core.table import Column, Excerpt, Overview, Section, Table
from cifar_deploy.metrics.summary import Configuration, Summary
from cifar_deploy.networks import NETWORKS
from cifar_deploy.reports import text as plain
from cifar_deploy.stages.devices import Visited
from cifar_deploy.stages.doctor import Diagnosis, Ready
from cifar_deploy.stages.importing import Imported
from cifar_deploy.stages.pack import Packed
from cifar_deploy.workers.catalogue import Entry

# Where the output is no terminal it is a log: wide enough for a whole table, and a line of progress now and then.
_LOG_WIDTH = 160
_LOG_INTERVAL_S = 30.0
# Between two columns.
_PADDING = 2
# Of a table of few rows that a narrow screen divides.
_MOST_PARTS, _FEW_ROWS = 2, 10
# Lines about a file from elsewhere, of a kind.
_MOST_SAID = 10


def _columns() -> int:
    """The width that the environment gives; 0 if it gives none."""
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() else 0


# Text is text: no markup, no emoji for :bomb:.
PLAIN: Any = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
out = Console(width=None if sys.stdout.isatty() else _columns() or _LOG_WIDTH, **PLAIN)
err = Console(stderr=True, **PLAIN)


# Of a report on the screen: the three lines, what fits a screen, the same however wide it gets, or all tables.
View = Literal["answer", "summary", "wide", "all"]

_WIDEST = 500

# Of a line of progress, in columns: the bar, and about what stands beside it.
_SHORTEST_BAR, _LONGEST_BAR, _WORDS = 4, 40, 70

# The bar that is on the screen now, if one is.
_shown: Progress | None = None


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """In the block nothing but a document is printed on stdout. Bars, warnings and errors are on stderr as ever."""
    out.quiet = True
    try:
        yield
    finally:
        out.quiet = False


def say(verb: str, text: str) -> None:
    """A line of progress: the step, and its outcome."""
    # A line on the same screen as a bar has to go through the bar's console, which makes room for it.
    through = err if _shown and out.is_terminal and err.is_terminal and not out.quiet else out
    beside, told = f"{verb:<9} ", printable(text)
    for part in _wrapped(told, through.width, beside) if through.is_terminal else [beside + told]:
        through.print(part)


def _wrapped(text: str, width: int, beside: str) -> list[str]:
    """`text` to the right of the first words, wrapped at words, which may be paths or options and are never broken."""
    indent = " " * cell_len(beside)
    room = max(1, width - len(indent))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{indent if number else beside}{part}" for number, part in enumerate(lines)]


def line(text: str = "") -> None:
    """A line of an answer, on stdout."""
    out.print(printable(text))


def print_document(document: documents.Document) -> None:
    """For a script."""
    print(documents.text(document))


@contextlib.contextmanager
def following(title: str) -> Iterator[OnProgress]:
    """Show a worker's progress while the block runs: a bar with the time left, its milestones above it."""
    with _bar() as bar:
        yield _follower(bar, title, lambda milestone: say("", f"{title}: {milestone}"))


@contextlib.contextmanager
def following_all(titles: Sequence[str]) -> Iterator[Callable[[str, progress.Progress], None]]:
    """As `following`, of several at the same time: a bar each."""
    with _bar() as bar:
        followers = {title: _follower(bar, title, functools.partial(say, title)) for title in titles}
        yield lambda title, latest: followers[title](latest)


def _follower(bar: Progress, title: str, say_milestone: Callable[[str], None]) -> OnProgress:
    """What keeps one line of the bar, and says each milestone once."""
    task = bar.add_task(printable(title), total=None, message="")
    log, shown = _Log(), 0

    def show(latest: progress.Progress) -> None:
        nonlocal shown
        for milestone in latest.milestones[shown:]:
            say_milestone(milestone)
        shown = len(latest.milestones)
        bar.update(task, completed=latest.done, total=latest.total, message=printable(latest.message))
        log(f"{title}: {latest.done}/{latest.total} {latest.message}")

    return show


class _Log:
    """A line of progress every half minute, where there is no terminal to draw a bar on."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        if not err.is_terminal and time.monotonic() - self._last >= _LOG_INTERVAL_S:
            self._last = time.monotonic()
            process.complain(printable(line))


class _Cut(TextColumn):
    """Words that are cut where the terminal is narrow, so that percentage and time left are whole."""

    def __init__(self, words: str) -> None:
        # Of a table only columns that may wrap give room to the others.
        super().__init__(words, markup=False, table_column=RichColumn(no_wrap=False))

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    global _shown
    with Progress(
        _Cut("{task.description}"),
        BarColumn(bar_width=max(_SHORTEST_BAR, min(_LONGEST_BAR, err.width - _WORDS))),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        _Cut("{task.fields[message]}"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
        refresh_per_second=2,  # so that drawing takes no time from what is measured
    ) as bar:
        _shown = bar
        try:
            yield bar
        finally:
            _shown = None


def checkpoint_line(checkpoint: Checkpoint) -> str:
    reached = "" if checkpoint.accuracy is None else f"test accuracy {checkpoint.accuracy:.2%}"
    if reached and checkpoint.test_images < (there := checkpoint.training.data.test_images):
        reached += f" on {checkpoint.test_images:,} of {there:,} test images"
    if not checkpoint.recipe:
        return f"{checkpoint.training.name}: {reached}, trained elsewhere"
    epochs = progress.counted(len(checkpoint.curve), "epoch")
    after = f"{reached} after " if reached else ""
    return f"{checkpoint.training.name}: {after}{epochs}, {checkpoint.seconds:.1f} s of training on {checkpoint.device}"


def artifact_line(artifact: Artifact) -> str:
    if artifact.failure:
        return f"{artifact.title}: {artifact.failure.kind}: {artifact.failure.reason}"
    differences = ", ".join(
        f"{parity.largest_difference:.1e} on {parity.backend}"
        + (f" ({parity.agreement:.1%} of labels are the same)" if parity.agreement < 1 else "")
        + (f", checked on {parity.stand_in}" if parity.stand_in else "")
        for parity in artifact.parity
    )
    validation = f"logits differ by at most {differences}" if differences else "no backend here to check it"
    return (
        f"{artifact.title}: {artifact.bytes / 2**20:.2f} MiB, {validation}"
        + "".join(f"; wrong output: {mismatch.reason}" for mismatch in artifact.mismatches)
        + "".join(f"; {backend} unavailable: {reason}" for backend, reason in artifact.unvalidated.items())
        + (f"; {artifact.chosen}" if artifact.choices else "")
    )


def print_imported(imported: Imported) -> None:
    """What has come in of a file, what has not and why, and what to know of it."""
    before = f", {progress.counted(imported.duplicates, 'result')} here before" if imported.duplicates else ""
    say("import", f"{imported.path}: {progress.counted(imported.appended, 'result')}{before}")
    _say_some("", [f"as reported by {machine}" for machine in imported.machines])
    _say_some("", [f"note: {note}" for note in imported.notes])
    _say_some("refused", [f"{progress.counted(count, 'line')}: {why}" for why, count in imported.refused.items()])
    if not (imported.appended or imported.duplicates or imported.refused):
        say("", "there are no results in it")


def _say_some(verb: str, lines: Sequence[str]) -> None:
    """The first of them: who hands over a file may have made it hold thousands."""
    for text in lines[:_MOST_SAID]:
        say(verb, one_line(text))
    if len(lines) > _MOST_SAID:
        say("", f"and {len(lines) - _MOST_SAID:,} more; --json lists them")


def pack_line(packed: Packed) -> str:
    manifest = packed.manifest
    images = " and ".join(f"{choice.images:,} images of {choice.data.dataset}" for choice in manifest.choices)
    return (
        f"{packed.path}: {packed.bytes / 1e6:.1f} MB, {', '.join(manifest.networks)} as {', '.join(manifest.variants)}, "
        f"{images}; on the device: python3 {packed.path.name}"
    )


def print_visit(visited: Visited) -> None:
    """What a device answers itself: which configuration to ship there, and why."""
    if not visited.answer:
        return
    line()
    line(f"On {visited.device.name}:")
    for text in visited.answer:
        line(f"  {text}" if text else "")


# Of a job under a memory limit.
_EXPECTED = {"runs": "to run", "either": "to run, or to run out of memory", "runs out": "to run out of memory"}


def result_line(result: Result) -> str:
    job = result.job
    configuration = f"{Configuration.of(result)}, {job.metric}"
    if isinstance(job.trial, UnderLimit):
        ended = f"did not run {job.trial}: {result.failure.kind}" if result.failure else f"ran {job.trial}"
        return f"{configuration}: {ended} (expected: {_EXPECTED[job.trial.expected]})"
    if not job.is_ordinary:
        configuration += f" {job.trial}"
    if result.failure:
        return f"{configuration}: {result.failure.kind}: {result.failure.reason}"
    rounds = progress.counted(len(result.measurements), "round") if result.session else ""
    return f"{configuration}: {', '.join(filter(None, [Summary(result).told, rounds]))}"


def print_table(table: Table, view: View = "summary") -> None:
    """The answer, then as much of the tables as `view` says; a summary fits a screen of 80 columns or more.

    Of several devices: side by side after the answer of the first, then the other answers, then each device by itself.
    """
    for each in table.devices or (table,):
        if each.answer:
            print_answer((each.answer.headline, *each.answer.reasons))
        if each.overview and view != "answer":
            _print_overview(each.overview, view)
    if view == "answer":
        return
    for each in table.devices or (table,):
        if each.device:
            line()
            _paragraph(f"{each.device}: {each.machine}", style="bold")
        _print_device(each, view)
    if view != "all":
        for told in plain.lost(table):
            _paragraph(told)


def _print_overview(overview: Overview, view: View) -> None:
    if view == "all":
        print_section(overview.section)
        return
    _print_excerpt(overview.few, _room(view), "in report.html (or --all)")
    for note in overview.few.notes:
        _paragraph(f"  {one_line(note, plain.LONGEST_REASON)}")


def _print_device(table: Table, view: View) -> None:
    """The tables of one device."""
    if view == "all":
        for section in table.sections:
            if section.on_screen:
                print_section(section)
        _print_remarks(table.remarks)
        return
    if table.answer and table.answer.best:
        _print_excerpt(table.answer.best, _room(view), "in report.html (or --all)")
    elif not table.device:  # nothing qualifies; of several devices the overview has the numbers
        for section in table.sections[:1]:
            print_section(section)
    line()
    for told in plain.remarks(table):
        _paragraph(told)


def print_comparison(counts: Sequence[str], excerpt: Excerpt, view: View) -> None:
    """How many configurations are what, and those that matter."""
    line()
    for number, text in enumerate(counts):
        _paragraph(text, style=None if number else "bold")
    if view != "answer":
        _print_excerpt(excerpt, _room(view), "with --all")
        for note in excerpt.notes:
            _paragraph(f"  {one_line(note, plain.LONGEST_REASON)}")


def _room(view: View) -> int:
    return out.width if view == "summary" else _WIDEST


def print_answer(lines: Sequence[str]) -> None:
    """Prints each line wrapped at words, the first one bold."""
    line()
    for number, text in enumerate(lines):
        _paragraph(text, style="bold" if number == 0 else None)


def _paragraph(text: str, style: str | None = None) -> None:
    """Wrapped at words, further lines indented. In a log it stays one line."""
    wrapped = (
        textwrap.wrap(printable(text), out.width, subsequent_indent="  ") if out.is_terminal else [printable(text)]
    )
    for part in wrapped:
        out.print(part, style=style)


def _print_excerpt(excerpt: Excerpt, width: int, full: str) -> None:
    """As many columns as fit, a doubt as one character. `full` says where the rest is.

    A number is whole or absent: where no more columns can go the intervals do, and then the ends of the names.
    """
    columns, spared = dict(excerpt.columns), []
    for key in excerpt.spared:
        if _width_of(_drawn(excerpt, columns)) <= width:
            break
        if columns.pop(key, None):
            spared.append(excerpt.columns[key].title)
    if excerpt.intervals and _width_of(_drawn(excerpt, columns)) > width:
        excerpt = replace(excerpt, intervals=())
        spared.append("intervals")
    drawn = _drawn(excerpt, columns)
    if (excess := _width_of(drawn) - width) > 0:
        drawn.columns[1].max_width = max(1, _width_of(_drawn(excerpt, {})) - 2 * _PADDING - excess)
    if excerpt.rows:
        line()
        out.print(drawn, soft_wrap=False, width=max(width, out.width))
    for told in plain.legend(excerpt, spared, full):
        _paragraph(f"  {told}.")


def _width_of(drawn: RichTable) -> int:
    return Measurement.get(out, out.options.update(width=10_000), drawn).maximum


def _drawn(excerpt: Excerpt, columns: Mapping[str, Column]) -> RichTable:
    drawn = RichTable(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.add_column("", no_wrap=True)
    drawn.add_column("configuration", no_wrap=True)
    for column in columns.values():
        title = f"{printable(column.title)}\n{printable(column.unit)}".rstrip()
        drawn.add_column(title, justify="right", no_wrap=True)
    strong = next(iter(excerpt.marks), None)
    for row in plain.by_network(excerpt):
        style = "bold" if row.mark and row.mark == strong else None
        drawn.add_row(*map(printable, plain.cells(excerpt, columns, row)), style=style)
    return drawn


def _print_remarks(remarks: Mapping[str, tuple[str, ...]]) -> None:
    for title, lines in remarks.items():
        line()
        line(title)
        for text in lines:
            line(f"  {text}")


def print_choices(choices: Mapping[str, Choice], absences: Mapping[str, str | None]) -> None:
    """The answer for each device, with its name if there are several, and with a line if its files are not here."""
    for title, choice in choices.items():
        headline, *reasons = answer.lines(choice)
        absence = absences[title]
        told = [f"{title}: {headline}" if len(choices) > 1 else headline, *reasons, *([absence] if absence else [])]
        print_answer(told)
        _print_choice(choice)


def _print_choice(choice: Choice) -> None:
    for section in answer.sections(choice):
        print_section(section)
    _print_remarks(answer.remarks(choice))


_NAME_WIDTH = 19  # of a choice, with its mark


def print_catalogue(entries: Sequence[Entry]) -> None:
    """By kind, in each what is ready first."""
    line(str(Ready.of(entries)))
    line("* marks what is taken where none is named")
    for kind in dict.fromkeys(entry.kind for entry in entries):
        line()
        line(f"{kind}s")
        of_kind = [entry for entry in entries if entry.kind == kind]
        for entry in sorted(of_kind, key=lambda entry: bool(entry.why_unavailable)):
            mark = "*" if entry.is_default else " "
            _hanging(f"{mark} {entry.name}".ljust(_NAME_WIDTH), entry.summary)
            if entry.why_unavailable:
                _hanging(" " * _NAME_WIDTH, f"not here: {entry.why_unavailable}")
            if entry.command:
                line(f"{'':{_NAME_WIDTH}}$ {entry.command}")
        if kind == NETWORKS.kind:
            names = " or ".join(f"{library}:NAME" for library in NETWORKS.libraries)
            _hanging("  ", f"{names}, any classifier that the library lists")


def print_diagnosis(found: Diagnosis) -> None:
    """What is ready, then each gap with its command on a line of its own."""
    line(str(found.ready))
    for gap in found.gaps:
        line()
        _hanging("", ", ".join(gap.names))
        _hanging("    ", gap.reason)
        if gap.command:
            line(f"    $ {gap.command}")
    if not found.gaps:
        line("nothing is missing")


def _hanging(beside: str, text: str) -> None:
    """Wrapped at words, to the right of the first words. No word is broken: it may be a path or an option."""
    for part in _wrapped(printable(text), min(out.width, 80), beside):
        line(part)


def print_section(section: Section) -> None:
    """As tables. Row by row, where the screen is too narrow for the names and a number, or a few rows would be torn to pieces."""
    line()
    parts = list(_parts(section, out.width))
    if _narrowest(section) > out.width or (len(parts) > _MOST_PARTS and len(section.rows) <= _FEW_ROWS):
        _print_rows(section)
    else:
        for number, part in enumerate(parts):
            if number:
                line()
            out.print(part, soft_wrap=False)
    for note in section.notes:
        line(f"  {note}")


def _print_rows(section: Section) -> None:
    """Each row's names, and its numbers below them. None of them is cut or broken in two, if it fits at all."""
    _paragraph(section.title, style="bold")
    titles = {key: f"{column.title}, {column.unit}".removesuffix(", ") for key, column in section.columns.items()}
    for row in section.rows:
        _print_whole(
            [f"{title}: {label}" for title, label in zip(section.label_titles, row.labels, strict=True) if label], ""
        )
        _print_whole([f"{titles[key]}: {row.text(key, column)}" for key, column in section.columns.items()], "  ")


def _print_whole(texts: Sequence[str], indent: str) -> None:
    """As many on each line as fit."""
    shown = ""
    for text in map(printable, texts):
        if shown and cell_len(f"{indent}{shown}; {text}") > out.width:
            out.print(f"{indent}{shown}")
            shown, indent = "", "  "
        shown = f"{shown}; {text}" if shown else text
    out.print(f"{indent}{shown}")


def _labels_width(section: Section) -> int:
    columns = (
        [title, *(row.labels[place] for row in section.rows)] for place, title in enumerate(section.label_titles)
    )
    return sum(map(_width, columns))


def _widths(section: Section) -> dict[str, int]:
    """Of each column, with the space behind it."""
    return {
        key: _width([column.title, column.unit, *(row.text(key, column) for row in section.rows)])
        for key, column in section.columns.items()
    }


def _narrowest(section: Section) -> int:
    """How wide a screen has to be for the section's names and its widest number."""
    return _labels_width(section) + max(_widths(section).values(), default=0) - _PADDING


def _parts(section: Section, width: int) -> Iterator[RichTable]:
    """The section as one table, or as several with the same labels where the screen is too narrow for all columns."""
    room, widths = width - _labels_width(section), _widths(section)
    parts: list[list[str]] = []
    left = 0
    for group in _together(widths):
        for keys in [group] if sum(widths[key] for key in group) <= room else [[key] for key in group]:
            needed = sum(widths[key] for key in keys)
            if not parts or needed > left:
                parts.append([])
                left = room
            parts[-1] += keys
            left -= needed
    title = section.title
    for part in parts:
        yield _rich(section, {key: section.columns[key] for key in part}, title)
        title = f"{section.title}, continued"


def _together(keys: Iterable[str]) -> list[list[str]]:
    """Columns that are not torn apart: one, and those that say something of it, as "a.ratio" does of "a"."""
    groups: list[list[str]] = []
    for key in keys:
        if groups and key.startswith(f"{groups[-1][0]}."):
            groups[-1].append(key)
        else:
            groups.append([key])
    return groups


def _width(texts: Iterable[str]) -> int:
    """Of a column with these cells, and the space behind it."""
    return max(cell_len(printable(text)) for text in texts) + _PADDING


def _rich(section: Section, columns: dict[str, Column], title: str) -> RichTable:
    drawn = RichTable(
        title=printable(title), title_justify="left", title_style="bold", box=None, padding=(0, _PADDING, 0, 0)
    )
    for label in section.label_titles:
        drawn.add_column(printable(label), no_wrap=True)
    for column in columns.values():
        drawn.add_column(f"{printable(column.title)}\n{printable(column.unit)}", justify="right", no_wrap=True)
    for row in section.rows:
        drawn.add_row(*map(printable, (*row.labels, *(row.text(key, column) for key, column in columns.items()))))
    return drawn

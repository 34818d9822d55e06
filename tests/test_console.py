"""Names come from files and may hold anything; a terminal shows them as they are, and nothing follows their orders."""

import io
import itertools
import json
import logging
import re
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from cifar_deploy import console, documents, main, pipeline, steps
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.journal import grouped, read_lines
from cifar_deploy.core.progress import Progress
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.stages.report import build
from tests.in_process import run_here
from tests.reports.tables import table_of
from tests.stages.test_report import no_raw

EVIL = "\x1b[2J\x1b]8;;http://evil\x07 \u202egnp\u2066 :bomb: [bold]b[/] two\nlines\r\x9b1m \udcff\t."
SHOWN = "\\x1b[2J\\x1b]8;;http://evil\\x07 \\u202egnp\\u2066 :bomb: [bold]b[/] two\\nlines\\r\\x9b1m \\udcff\\t."


def test_lines_and_tables_show_hostile_text_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    console.say("train", EVIL)
    console.line(EVIL)
    console.print_table(table_of(EVIL), "summary")
    console.print_table(table_of(EVIL), "all")
    output, errors = capfd.readouterr()
    assert all(line.isprintable() for line in output.split("\n")) and not errors
    assert output.count(SHOWN) >= 12


def test_json_holds_every_character_and_shows_none_that_is_not_ascii(capfd: pytest.CaptureFixture[str]) -> None:
    console.print_document(
        documents.DoctorDocument(
            ready=pipeline.Ready.of([]), gaps=(pipeline.Gap(reason=EVIL, names=(EVIL,), command=None),)
        )
    )
    output, _ = capfd.readouterr()
    assert json.loads(output)["gaps"] == [{"reason": EVIL, "names": [EVIL], "command": None}]
    assert output.isascii() and all(line.isprintable() for line in output.split("\n"))


def test_a_progress_bar_shows_hostile_text_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=400, **console.PLAIN))
    with console.following(EVIL) as on_progress:
        on_progress(Progress(done=1, total=2, message=EVIL))
    assert screen.getvalue().count(SHOWN) >= 2 and "\x1b[2J" not in screen.getvalue()
    assert not {"\u202e", "\u2066", "\x9b", "\r\x9b", "💣"} & set(screen.getvalue())


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_line_of_progress_shows_the_time_left_on_a_narrow_screen(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), force_terminal=True, width=width, **console.PLAIN))
    words = "epoch 10/20  loss 1.632  139 images/s"
    paper = Console(file=io.StringIO(), width=width, **console.PLAIN)
    clock = itertools.count()
    with console._bar() as bar:
        bar.get_time = lambda: float(next(clock))
        show = console._follower(bar, "mobilenet-s8-0.5", print)
        for done in range(1, 30):
            show(Progress(done=100 * done, total=7820, message=words))
        paper.print(bar.get_renderable())
    line = paper.file.getvalue()  # type: ignore[attr-defined]
    assert line.count("\n") == 1 and re.search(r" 37% \d:\d\d:\d\d ", line), line
    assert "━" in line and (words in line) == (width >= 80), line


def test_an_error_and_its_traceback_show_hostile_text_as_text(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise DeployError(EVIL)

    monkeypatch.setattr(pipeline, "catalogue", refuse)
    assert main._exit_code(["list"], debug=True) == 1
    _, errors = capfd.readouterr()
    assert "Traceback" in errors and all(line.isprintable() for line in errors.split("\n"))


def test_of_many_warnings_the_first_are_shown_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> list[object]:
        for number in range(495):
            warnings.warn(f"line {number} is left out\x1b")
        return []

    monkeypatch.setattr(pipeline, "catalogue", warn)
    done = run_here("list")
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and len(lines) == 11
    assert lines[0] == "cifar-deploy: warning: line 0 is left out\\x1b"
    assert lines[-1] == "cifar-deploy: warning: 485 more warnings; --debug shows them"


def test_the_log_shows_hostile_text_as_text(tmp_path: Path) -> None:
    with steps.output_folder(tmp_path):
        logging.getLogger("cifar_deploy").warning("%s\nnext", EVIL)
    text = (tmp_path / "log.txt").read_text()
    assert all(line.isprintable() for line in text.split("\n")) and "\nnext\n" in text


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_a_narrow_screen_shows_fewer_columns_and_says_which_but_no_number_in_part(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = (Path(__file__).parents[1] / "reports" / "results.jsonl", io.StringIO())
    table, screen = build(grouped(read_lines(lines[0]).runs), no_raw), lines[1]
    monkeypatch.setattr(console, "out", Console(file=screen, force_terminal=True, color_system=None, width=width))
    console.print_table(table)
    shown = screen.getvalue().splitlines()
    assert max(map(len, shown)) <= width and len(shown) <= 60
    told = " ".join(screen.getvalue().split())
    (winner,) = (line for line in shown if line.startswith("* resnet18 openvino_int8"))
    assert winner.split()[3:5] == ["90.99", "1.182" if width >= 80 else "1.182~"]
    left_out = {100: None, 80: "group, size", 60: "group, size, memory, speed-up, intervals"}
    if width in left_out:
        assert (f"Not shown at this width: {left_out[width]} (--wide)" in told) == (left_out[width] is not None)
    assert ("9.57~" in winner) == (width >= 80), "the speed-up is the last column to go"


def _picks() -> Section:
    estimate = Estimate(value=1.182, low=1.154, high=1.269, kind="interval")
    columns = {
        name: Column(title=name, unit="ms", stored_unit="ms", digits=3, interval=True)
        for name in ("latency", "load", "first inference")
    }
    values = {name: Value(number=1.182, estimate=estimate) for name in columns}
    labels = ("best trade-off, most accurate", "mobilenet-0.25", "openvino_int8", "onnxruntime")
    rows = tuple(Row(labels=labels, values=values) for _ in range(2))
    return Section(title="Picks", label_titles=("pick", "network", "format", "backend"), columns=columns, rows=rows)


@pytest.mark.parametrize(("width", "tables"), [(45, 0), (60, 0), (80, 0), (100, 0), (130, 2), (200, 1)])
def test_no_name_and_no_number_of_a_section_is_cut(monkeypatch: pytest.MonkeyPatch, width: int, tables: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        console, "out", Console(file=screen, force_terminal=True, color_system=None, width=width, **console.PLAIN)
    )
    console.print_section(_picks())
    shown = screen.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    for text in ("latency", "first inference", "accurate", "openvino_int8", "onnxruntime"):
        assert text in shown
    assert shown.count("1.182 [1.154, 1.269]") == 6
    assert shown.count("first inference, ms: ") == (0 if tables else 2), "a line of it for each row, or a column"
    assert shown.count("continued") == max(0, tables - 1)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_line_of_progress_is_wrapped_at_words_and_indented(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        console, "out", Console(file=screen, force_terminal=True, color_system=None, width=width, **console.PLAIN)
    )
    console.say(
        "",
        "resnet8: epoch 1/2  loss 1.8156  test accuracy 81.94%  1.6 s  500 images/s, in /a/long/path-of-a-file.json",
    )
    first, *others = screen.getvalue().splitlines()
    assert first.startswith("          resnet8: epoch") and others
    assert all(len(line) <= width and line.startswith(" " * 10 + line.strip()[0]) for line in others)
    assert "/a/long/path-of-a-file.json" in others[-1]

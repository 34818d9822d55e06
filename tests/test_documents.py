"""--json: every command prints one document, which its schema describes, even if some of what was asked for failed."""

import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cifar_deploy import console, documents, pipeline
from cifar_deploy.core.table import Column, Row, Section, Value
from tests import models
from tests.conftest import FEW_BACKENDS, FEW_FORMATS, FEW_IMAGES, QUICK, TINY
from tests.in_process import run_here
from tests.reports.tables import SMALL
from tests.schemas import FOLDER, document_of
from tests.test_console import EVIL
from tests.test_docs import COMMANDS

LEAVES = {name: command for name, command in COMMANDS.items() if not hasattr(command, "commands")}


@pytest.fixture
def copy(road: Path, tmp_path: Path) -> Path:
    """A road of one's own, to write to."""
    return Path(shutil.copytree(road, tmp_path / "road"))


def test_every_command_has_json_and_a_document() -> None:
    assert documents.DOCUMENTS.keys() == LEAVES.keys()
    for name, command in LEAVES.items():
        assert any("--json" in option.opts for option in command.params), name


def test_the_schemas_are_current() -> None:
    """`python -m cifar_deploy.documents docs/schemas` writes them anew after a change that is meant."""
    assert {path.name for path in FOLDER.iterdir()} == set(map(documents.schema_file, documents.DOCUMENTS))
    for command in documents.DOCUMENTS:
        kept = json.loads((FOLDER / documents.schema_file(command)).read_text())
        assert kept == documents.schema(command), f"{command}: run make schemas"


def test_writing_the_schemas_wants_a_folder() -> None:
    done = subprocess.run([sys.executable, "-m", "cifar_deploy.documents"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("cifar-deploy: error: cifar_deploy.documents: ") and done.stderr.count("\n") == 1


def on(out: Path) -> dict[str, list[str]]:
    """A line of each command that reads or repeats what is there; the others are below."""
    at = ["--out", str(out)]
    return {
        "run": [*TINY, "--network", "resnet8", *FEW_FORMATS, *FEW_BACKENDS, *QUICK, *at],
        "data": ["--dataset", "digits"],
        "train": ["resnet8", *TINY, *at],
        "train-all": ["--network", "resnet8", *TINY, *at],
        "export": ["--format", "onnx", *at],
        "evaluate": ["--metric", "accuracy", "--metric", "file_size", "--limit-test", "64", *FEW_BACKENDS, *at],
        "report": at,
        "compare": [str(out), str(out)],
        "list": [],
        "doctor": at,
        "env list": [],
    }


# What each document says that is there.
_SAYS: dict[str, Callable[[Any], bool]] = {
    "run": lambda d: d["trained"][0]["reused"] and len(d["artifacts"]) == 2 and d["report"]["tables"] and d["results"],
    "data": lambda d: d["data"]["train_images"] == 1437 and d["reused"] and Path(d["folder"]).is_dir(),
    "train": lambda d: [one["name"] for one in d["trained"]] == ["resnet8"] and not d["failed"],
    "train-all": lambda d: 0 <= d["trained"][0]["accuracy"] <= 1 and Path(d["trained"][0]["folder"]).is_dir(),
    "export": lambda d: (
        d["artifacts"][0]["format"] == "onnx" and d["artifacts"][0]["parity"][0]["backend"] == "onnxruntime"
    ),
    "evaluate": lambda d: (
        {value["unit"] for one in d["results"] for value in one["values"].values()} >= {"1", "bytes"}
        and all(one["reused"] and one["configuration"]["name"] == "resnet8" for one in d["results"])
    ),
    "report": lambda d: (
        any("report.html" in path for path in d["report"]["paths"])
        and d["report"]["tables"][0]["rows"][0]["labels"]["network"] == "resnet8"
        and d["report"]["tables"][0]["rows"][0]["values"]["latency.p50"]["unit"] == "s"
        and d["report"]["answer"]["headline"]
    ),
    "compare": lambda d: (
        {one["word"] for pair in d["pairs"] for one in pair["differences"].values()} <= {"tie", None}
        and d["pairs"][0]["configuration"]["name"] == "resnet8"
        and {pair["differences"]["latency.p50"]["unit"] for pair in d["pairs"]} == {"s"}
    ),
    "list": lambda d: {"resnet18", "onnx", "litert"} <= {entry["name"] for entry in d["entries"]},
    "doctor": lambda d: all(gap["reason"] and gap["names"] for gap in d["gaps"]),
    "env list": lambda d: "executorch" in {one["name"] for one in d["environments"]},
}


@pytest.mark.parametrize("command", _SAYS)
def test_a_command_prints_its_document_and_nothing_else(command: str, copy: Path) -> None:
    done = run_here(*command.split(), *on(copy)[command], "--json")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("cifar-deploy: warning: ") for line in done.stderr.splitlines())
    assert _SAYS[command](document_of(done, command)), done.stdout


def test_choose_prints_its_document_even_if_nothing_qualifies(tmp_path: Path) -> None:
    shipped = ["choose", "--out", Path(__file__).parents[1], "--json"]
    found = document_of(run_here(*shipped), "choose")
    assert found["winner"]["configuration"]["backend"] == "openvino" and found["front"]
    assert found["winner"]["values"]["latency.p50"]["unit"] == "s" and not found["near_misses"]
    assert document_of(run_here(*shipped, "--max-latency", "0.3ms"), "choose")["next_point"]
    done = run_here(*shipped, "--max-latency", "1us")
    assert done.returncode == 1 and done.stderr.startswith("cifar-deploy: error: Nothing qualifies")
    found = document_of(done, "choose")
    assert found["winner"] is None and found["near_misses"][0]["relaxed"][0]["option"] == "--max-latency"


@pytest.mark.usefixtures("workers_here")
def test_bench_prints_its_document_with_what_failed(tmp_path: Path) -> None:
    name = 'a "quoted" größe, =1+1.onnx'
    models.MAKERS["onnxruntime", ".onnx"](tmp_path / name)
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / name).read_bytes()[:99])
    quick = ["--rounds", "1", "--seconds", "0.02", "--backend", "onnxruntime"]
    done = run_here("bench", name, "damaged.onnx", *quick, "--json", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    report = document_of(done, "bench")["report"]
    rows = {row["labels"]["file"]: row for row in report["tables"][0]["rows"]}
    assert rows[name]["values"]["latency.p50"]["number"] > 0 and not report["paths"]
    assert rows["damaged.onnx"]["failures"]["latency.p50"]["kind"] == "load error" and report["failures"]


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize("command", ["train", "train-all", "run"])
def test_a_network_that_failed_is_in_the_document(command: str, tmp_path: Path) -> None:
    networks = ["resnet8"] if command == "train" else ["--network", "resnet8", "--network", "mobilenet-0.25"]
    diverging = [*FEW_IMAGES, "--epochs", "3", "--learning-rate", "1e30"]
    done = run_here(command, *networks, *diverging, "--out", tmp_path, "--json")
    assert done.returncode == 1
    found = document_of(done, command)
    assert not found["trained"] and found["failed"][0]["name"] == "resnet8"
    assert all("the loss became" in one["failure"]["reason"] for one in found["failed"])
    assert len(found["failed"]) == done.stderr.count("the loss became") == (1 if command == "train" else 2)


def test_an_export_and_a_measurement_that_failed_are_in_the_document(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler
    done = run_here("export", "--format", "aoti", "--format", "onnx", "--out", copy, "--json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    first, second = document_of(done, "export")["artifacts"]
    assert (first["format"], first["failure"]["kind"], first["files"]) == ("aoti", "unavailable", [])
    assert second["failure"] is None and second["bytes"] == sum(file["bytes"] for file in second["files"]) > 0
    line = ["evaluate", "--format", "onnx", "--backend", "tests.plugins:LACKS_A_PACKAGE", "--metric", "accuracy"]
    done = run_here(*line, "--out", copy, "--json")
    assert done.returncode == 1
    (result,) = document_of(done, "evaluate")["results"]
    assert result["failure"]["kind"] == "unavailable" and not result["values"] and result["rounds"] == 0


@pytest.mark.parametrize(
    "line", ["report", "choose", "train resnet19", "run --format onxx", "compare a b", "bench nowhere.onnx"]
)
def test_a_refused_command_prints_no_document(line: str, tmp_path: Path) -> None:
    done = run_here(*line.split(), "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_command_without_json_prints_again_after_one_with_it(copy: Path) -> None:
    run_here("report", "--json", "--out", copy)
    assert "What to ship" in run_here("report", "--all", "--out", copy).stdout


def test_in_silence_nothing_but_a_document_is_printed_on_a_terminal_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screens = io.StringIO(), io.StringIO()
    for name, screen in zip(("out", "err"), screens, strict=True):
        monkeypatch.setattr(console, name, Console(file=screen, force_terminal=True, width=200, **console.PLAIN))
    with console.silence():
        with console.following("train"):
            console.say("train", "hello")
        console.line("hello")
        console.print_table(SMALL)
        console.print_document(documents.DoctorDocument(ready=pipeline.Ready.of([]), gaps=()))
    assert screens[0].getvalue() == "" and "hello" not in screens[1].getvalue()
    assert json.loads(capsys.readouterr().out)["gaps"] == []
    console.line("hello")
    assert screens[0].getvalue() == "hello\n"


def test_no_number_is_infinite_and_every_name_survives(capsys: pytest.CaptureFixture[str]) -> None:
    column = Column(title=EVIL, unit="ms", stored_unit="s")
    numbers = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "one": 1.0}
    section = Section(
        title=EVIL,
        label_titles=("network", "two words"),
        columns=dict.fromkeys(numbers, column),
        rows=(Row(labels=(EVIL, "'\"\\"), values={key: Value(number=number) for key, number in numbers.items()}),),
        notes=("größe\u2028\x00",),
    )
    tables = documents.Tables(
        title=EVIL,
        answer=None,
        health=None,
        facts=(),
        tables=(documents.TitledTable.of(section),),
        failures=(),
        lost=(),
        warnings=(),
        paths=(Path("a\nb"),),
    )
    console.print_document(documents.ReportDocument(report=tables))
    output = capsys.readouterr().out
    assert output.isascii() and all(line.isprintable() for line in output.split("\n"))
    report = json.loads(output)["report"]
    (table,), (row,) = report["tables"], report["tables"][0]["rows"]
    assert {key: value["number"] for key, value in row["values"].items()} == {
        "nan": None,
        "inf": None,
        "minus": None,
        "one": 1.0,
    }
    assert row["labels"] == {"network": EVIL, "two_words": "'\"\\"}
    assert (report["title"], table["title"], table["notes"], report["paths"]) == (
        EVIL,
        EVIL,
        ["größe\u2028\x00"],
        ["a\nb"],
    )

"""What --help prints, a refused command line says, and completion offers."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cifar_deploy.cli import app
from tests.in_process import run_here
from tests.test_docs import COMMANDS

WIDTHS = (60, 80, 120)

APP: Any = typer.main.get_command(app)


def help_of(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `--help` prints on a screen of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    context = APP.make_context("cifar-deploy", [], resilient_parsing=True)
    command = APP
    for word in name.split():
        command = command.commands[word]
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    return str(command.get_help(context))


def joined(text: str) -> str:
    """Without spaces and ends of lines: a line may break behind a hyphen."""
    return "".join(text.split())


@pytest.mark.parametrize("name", ["", "train", "env create"])
def test_help_prints_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run_here(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip("\n") == help_of(name, 80, monkeypatch).rstrip("\n")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["", "env", *COMMANDS])
def test_help_fits_the_screen_and_cuts_nothing(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of(name, width, monkeypatch)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text and not re.search(r"\w\.\.\.", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_printed_with_its_words_and_its_default(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(name, width, monkeypatch)
    for parameter in COMMANDS[name].params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--"):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option
        assert joined(parameter.help) in joined(text), parameter.name
        assert not re.fullmatch(r"\[.*\]", parameter.help), f"{parameter.name} has no description"
        if parameter.show_default is True and parameter.default not in (None, False, True):
            assert f"[default:{parameter.default}" in joined(text), parameter.name


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_commands_holds_a_whole_sentence_of_each(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = joined(help_of("", width, monkeypatch) + help_of("env", width, monkeypatch))
    for name, command in COMMANDS.items():
        sentence = " ".join(command.help.split()).split(". ")[0]
        assert joined(f"{name.split()[-1]} {sentence}") in text, name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate", "no such command 'frobnicate'; see cifar-deploy --help"),
        ("trian", "no such command 'trian'; did you mean 'train'; see cifar-deploy --help"),
        ("--frobnicate", "no such option: --frobnicate; see cifar-deploy --help"),
        ("train", "NETWORK: is missing; see cifar-deploy train --help"),
        ("compare runs/a", "B: is missing; see cifar-deploy compare --help"),
        ("bench", "FILE: is missing; see cifar-deploy bench --help"),
        ("env create", "NAME: is missing; see cifar-deploy env create --help"),
        ("env creat", "no such command 'creat'; did you mean 'create'; see cifar-deploy env --help"),
        ("report more", "got unexpected extra argument (more); see cifar-deploy report --help"),
        (
            "train resnet8 --epoch 3",
            "no such option: --epoch (Possible options: --epochs); see cifar-deploy train --help",
        ),
        ("train resnet8 --epochs", "option '--epochs' requires an argument; see cifar-deploy train --help"),
        ("train resnet8 --epochs x", "--epochs: should be a valid integer; see cifar-deploy train --help"),
        ("train resnet8 --epochs 0", "--epochs: should be greater than or equal to 1; see cifar-deploy train --help"),
        ("train resnet8 --bf16=3", "option '--bf16' does not take a value; see cifar-deploy train --help"),
        (
            "train resnet8 --batch-norm x",
            "--batch-norm: 'x' is not one of 'synchronised', 'per-rank'; see cifar-deploy train --help",
        ),
        ("evaluate --budget 5x", "--budget: 5x is no duration, since x is no unit of it; give 90s, 10m or 1.5h"),
        (
            "choose --max-latency 5",
            "--max-latency: 5 has no unit; add one (ns, us, µs, ms, s), as in --max-latency 5ms",
        ),
    ],
)
def test_a_refused_command_line_names_the_option_the_cause_and_the_help_of_its_command(
    line: str, message: str, tmp_path: Path
) -> None:
    done = run_here(*line.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"cifar-deploy: error: {message}\n")


@pytest.mark.parametrize(("line", "command"), [("", "cifar-deploy"), ("env", "cifar-deploy env")])
def test_without_a_command_the_help_is_printed(line: str, command: str) -> None:
    done = run_here(*line.split())
    assert done.returncode == 2 and done.stdout.startswith(f"Usage: {command} ")
    assert re.fullmatch(rf"cifar-deploy: error: {command}: lacks a command; give one of [\w, -]+\n", done.stderr)


REFUSED = [
    "report",
    "choose",
    "evaluate",
    "export",
    "export resnet8",
    "evaluate --max-isa avx2",
    "evaluate --soak 10m --metric memory",
    "run --format onxx",
    "run --network mobilnet",
    "train resnet19",
    "train resnet8 --name ../evil --dataset digits",
    "train resnet8 --dataset image_folder",
    "train resnet8 --dataset image_folder --data-dir nowhere",
    "train resnet8 --dataset digits --threads 9999",
    "bench nowhere.onnx",
]


@pytest.mark.parametrize(
    ("line", "out"), list(zip(REFUSED, itertools.cycle([None, "there", "new/deep"]), strict=False))
)
def test_a_refused_command_leaves_nothing_behind(
    line: str, out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "there").mkdir(parents=True)
    for name in ("cache", "state"):
        monkeypatch.setenv(f"CIFAR_DEPLOY_{name.upper()}", str(tmp_path / name))
    done = run_here(*line.split(), *(["--out", out] if out else []), cwd=here)
    assert done.returncode == 2, done.stderr
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["here", "here/there"]


@pytest.fixture
def copied(road: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(road, tmp_path / "copied"))


def test_a_refused_command_leaves_what_was_there(copied: Path) -> None:
    before = sorted(os.listdir(copied))
    done = run_here("evaluate", "--format", "ncnn", "--out", copied)
    assert done.returncode == 2 and "no ncnn of resnet8 is exported" in done.stderr
    assert sorted(os.listdir(copied)) == before


@pytest.mark.parametrize("command", ["report", "choose", "evaluate", "export", "compare a b"])
def test_where_there_is_nothing_yet_the_exit_code_is_2(command: str, tmp_path: Path) -> None:
    done = run_here(*command.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr


def completed(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the shell would offer for the last word of a line."""
    monkeypatch.setenv("_CIFAR_DEPLOY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"cifar-deploy {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
    done = run_here(cwd=folder)
    assert not done.stderr
    return done.stdout.split()


def test_completion_knows_what_is_trained_and_every_choice(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed("export res", road, monkeypatch) == ["resnet8"]
    assert completed(f"evaluate --out {road} ", tmp_path, monkeypatch) == ["resnet8"]
    assert completed("evaluate ", tmp_path, monkeypatch) == []
    assert completed("evaluate --out nowhere ", tmp_path, monkeypatch) == []
    assert completed("evaluate --max-isa a", tmp_path, monkeypatch) == ["avx2", "avx512"]
    assert completed("choose --runtime o", tmp_path, monkeypatch) == ["onnxruntime", "openvino"]
    assert completed("env create l", tmp_path, monkeypatch) == ["litert"]
    assert list(tmp_path.iterdir()) == []


def test_completion_imports_nothing_heavy(road: Path) -> None:
    code = (
        "import sys; from cifar_deploy import options; import typer\n"
        f"class C: params = {{'out': {str(road)!r}}}\n"
        "assert options._trained(C) == ['resnet8'], options._trained(C)\n"
        "assert not {'torch', 'onnx', 'pandas', 'PIL'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_setting_that_is_not_set_is_said_in_words(copied: Path) -> None:
    done = run_here("train", "resnet8", "--dataset", "digits", "--epochs", "1", "--out", copied)
    assert done.returncode == 2
    assert "None" not in done.stderr and "not set" in done.stderr and "cifar-deploy train resnet8 --name" in done.stderr

"""What `--help` prints, and what a wrong command line is answered."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import cli, commands
from tests.in_process import run_here
from tests.test_cli import assert_refused
from tests.test_docs import COMMANDS

ROOT: Any = cli.tree()
ALL: dict[str, Any] = {"": ROOT, **COMMANDS}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str, int], str]:
    """The help of a command, on a terminal of so many columns."""

    def help(name: str, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        ROOT.main([*name.split(), "--help"], prog_name="cifar-deploy", standalone_mode=False)
        output, errors = capsys.readouterr()
        assert not errors
        return output

    return help


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", ALL)
def test_help_prints_every_name_description_and_default_uncut(
    name: str, columns: int, printed: Callable[[str, int], str]
) -> None:
    text = printed(name, columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text and not re.search(r"\w\.\.\.$", text, re.M)
    words = " ".join(text.split())
    assert " ".join(ALL[name].help.split()) in words
    assert text.count("\n\n  ") == len(ALL[name].help.split("\n\n"))
    for parameter in ALL[name].params:
        if parameter.param_type_name == "option":
            for option in set(parameter.opts + parameter.secondary_opts) - set(commands._FORMER):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), option
        assert parameter.help and parameter.help in words, parameter.name
        if isinstance(parameter.show_default, str):
            assert f"[default: {parameter.show_default}" in words, parameter.name
        elif parameter.default not in (None, False) and not parameter.secondary_opts:
            assert f"[default: {parameter.default}" in words, parameter.name
        for choice in parameter.type_descriptor.choices or ():
            assert re.search(rf"[<|]{choice}[|>]", text), choice
    for command, value in getattr(ALL[name], "commands", {}).items():
        assert re.search(rf"^  {command} +\S", text, re.M)
        assert re.split(r"\.\s", value.help)[0].rstrip(".") in words


@pytest.mark.parametrize("name", ALL)
def test_help_speaks_no_python(name: str, printed: Callable[[str, int], str]) -> None:
    assert not re.search(r"<(str|int|float|bool|path|Path|list)\b|\bNone\b|default: \(", printed(name, 80))


def test_a_long_word_is_broken_in_no_help(printed: Callable[[str, int], str]) -> None:
    assert "CIFAR_DEPLOY_MEMORY_LIMIT" in printed("train", 60)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_default_in_words_is_the_default(name: str) -> None:
    for parameter in COMMANDS[name].params:
        parse = parameter.type_descriptor.parameter_info.parser
        if isinstance(parameter.show_default, str) and parse and parameter.default is not None:
            assert parse(parameter.show_default) == parameter.default


@pytest.mark.parametrize("name", ["", "env"])
def test_without_a_command_the_help_is_printed_and_one_line_says_what_lacks(
    name: str, printed: Callable[[str, int], str]
) -> None:
    text = printed(name, 200)
    for arguments in ([], ["--debug"], ["--"]):
        done = run_here(*name.split(), *arguments)
        assert done.returncode == 2 and done.stdout == text
        error = f"cifar-deploy: error: {f'cifar-deploy {name}'.strip()}: lacks a command; give one of "
        assert done.stderr.splitlines()[0] == error + ", ".join(ALL[name].commands)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "trian: no command has this name; did you mean train? See `cifar-deploy --help`"),
        ("frobnicate", "frobnicate: no command has this name; see `cifar-deploy --help`"),
        ("env creat", "creat: no command has this name; did you mean create? See `cifar-deploy env --help`"),
        (
            "--debg",
            "--debg: no option of `cifar-deploy` has this name; did you mean --debug? See `cifar-deploy --help`",
        ),
        ("train x --epoch 3", "--epoch: no option of `cifar-deploy train` has this name; did you mean --epochs? See"),
        ("train x --epchs=3", "--epchs: no option of `cifar-deploy train` has this name; did you mean --epochs? See"),
        (
            "evaluate --target 2%",
            "--target: no option of `cifar-deploy evaluate` has this name; did you mean --target-i",
        ),
        ("evaluate -t 3", "-t: no option of `cifar-deploy evaluate` has this name; see `cifar-deploy evaluate --help`"),
        ("list --out x", "--out: no option of `cifar-deploy list` has this name; see `cifar-deploy list --help`"),
        ("train -epochs 3", "-epochs: has one dash; write --epochs"),
        ("report -out=x", "-out=x: has one dash; write --out=x"),
        ("train", "NETWORK: is missing; see `cifar-deploy train --help`"),
        ("compare a", "B: is missing; see `cifar-deploy compare --help`"),
        ("bench", "FILE: is missing; see `cifar-deploy bench --help`"),
        ("env create", "NAME: is missing; see `cifar-deploy env create --help`"),
        ("report x", "x: is one argument too many; see `cifar-deploy report --help`"),
        ("env remove x y", "y: is one argument too many; see `cifar-deploy env remove --help`"),
        ("train x --epochs", "--epochs: needs a value; see `cifar-deploy train --help`"),
        ("evaluate --isa", "--max-isa: needs a value; see `cifar-deploy evaluate --help`"),
        (
            "train x --epochs --force",
            "--epochs: needs a value, and --force is an option; see `cifar-deploy train --help`",
        ),
        ("evaluate --device --threads 3", "--device: needs a value, and --threads is an option; see"),
        ("export --force=3", "--force: takes no value; see `cifar-deploy export --help`"),
        ("train x --epochs 1.5", "--epochs: 1.5 is no whole number; see `cifar-deploy train --help`"),
        ("train x --epochs 0", "--epochs: 0 is not 1 or more; see `cifar-deploy train --help`"),
        ("evaluate --threads 0", "--threads: 0 is not 1 or more; see `cifar-deploy evaluate --help`"),
        ("train x --seed 4294967296", "--seed: 4294967296 is not 4294967295 or less; see"),
        ("train x --learning-rate x", "--learning-rate: x is no number; see `cifar-deploy train --help`"),
        (
            "train x --learning-rate nan",
            "--learning-rate: nan is not a positive number; see `cifar-deploy train --help`",
        ),
        ("choose --within nan", "--within: nan is not 100.0 or less; see `cifar-deploy choose --help`"),
        ("export --input int8", "--input: 'int8' is not one of 'float32', 'uint8'; see `cifar-deploy export --help`"),
        ("evaluate --max-isa avx3", "--max-isa: avx3 is no level of instructions; there are: sse41, avx2, avx512; see"),
    ],
)
def test_a_wrong_command_line_is_told_with_the_help_of_its_command(line: str, message: str, tmp_path: Path) -> None:
    done = run_here(*line.split(), cwd=tmp_path)
    assert_refused(done, 2, message)
    assert done.stderr.startswith(f"cifar-deploy: error: {message}") and not done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_points_to_its_own_help(name: str, tmp_path: Path) -> None:
    assert_refused(run_here(*name.split(), "--frobnicate", cwd=tmp_path), 2, f"ee `cifar-deploy {name} --help`")


def test_a_command_has_its_help_in_a_context_of_its_own() -> None:
    for name, command in (("train", ROOT.commands["train"]), ("env create", ROOT.commands["env"].commands["create"])):
        assert command.make_context(name, [], resilient_parsing=True).help_option_names == ["-h", "--help"]


def test_help_is_printed_whatever_else_is_wrong_of_the_arguments() -> None:
    for line in ("train --help", "train a b c --help", "report x -h", "env create -h"):
        done = run_here(*line.split())
        assert done.returncode == 0 and done.stdout.startswith("Usage: cifar-deploy"), done.stderr

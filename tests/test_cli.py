"""Bad input: one line that names the thing, the cause and the way out, the right exit code, nothing half-written."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_deploy import cli, commands, steps
from cifar_deploy.core.machine import allowed_threads
from tests import pictures
from tests.conftest import FEW_IMAGES, TINY, run_cli
from tests.in_process import run_here
from tests.test_docs import COMMANDS


def assert_refused(done: object, code: int, *words: str) -> None:
    errors = done.stderr.splitlines()  # type: ignore[attr-defined]
    assert done.returncode == code, done.stderr  # type: ignore[attr-defined]
    assert len(errors) == 1 and len(errors[0]) <= 300, errors
    assert errors[0].startswith("cifar-deploy: error: ")
    for word in words:
        assert word in errors[0]
    assert not _PYTHON.search(errors[0])
    offered = set(_OPTION.findall(re.sub("`[^`]*`", "", errors[0].rpartition("; ")[2])))
    assert offered <= _options_of(done.args), errors[0]  # type: ignore[attr-defined]


_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# What only Python says.
_PYTHON = re.compile(r"\b(None|True|False|PosixPath|typing)\b|\[\]|\['|<class '|<[\w.]+ object at 0x")


def _options_of(line: Sequence[str]) -> set[str]:
    """What the user could have written there: the options of the command, and what was written."""
    names = [" ".join(line[:count]) for count in (1, 2)]
    known = [cli.tree(), *(COMMANDS[name] for name in names if name in COMMANDS)]
    options = {option for command in known for parameter in command.params for option in parameter.opts}
    return options.union(*map(_OPTION.findall, line))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "resnet19"], ["resnet19", "did you mean 'resnet18'"]),
        (["run", "--network", "mobilnet"], ["did you mean 'mobilenet'"]),
        (["run", "--format", "onxx"], ["did you mean 'onnx'"]),
        (["export", "--format", "checkpoint-uint8"], ["checkpoint-uint8", "no format has this name"]),
        (["run", "--backend", "onnxruntim"], ["did you mean 'onnxruntime'"]),
        (["run", "--metric", "latncy"], ["did you mean 'latency'"]),
        (["run", "--device", "cudaa"], ["did you mean 'cuda'"]),
        (["run", "--recipe", "orignal"], ["did you mean 'original'"]),
        (["data", "--dataset", "cifar1"], ["did you mean 'cifar10'"]),
        (["train", "resnet8", "--epochs", "0"], ["--epochs", "0 is not 1 or more"]),
        (["train", "resnet8", "--seed", "20260101120000"], ["--seed", "4294967295"]),
        (["train", "resnet8", "--batch-size", "-3"], ["--batch-size", "-3 is not 2 or more"]),
        (["train", "resnet8", "--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["train", "resnet8", "--learning-rate", "0"], ["--learning-rate", "not a positive number"]),
        (["evaluate", "--seconds", "0"], ["--seconds"]),
        (["evaluate", "--threads", "0"], ["--threads"]),
        (["evaluate", "--threads", str(allowed_threads() + 1)], ["--threads", "affinity"]),
        (["train", "resnet8", "--threads", str(allowed_threads() + 1)], ["--threads", "affinity"]),
        (["train"], ["NETWORK: is missing", "cifar-deploy train --help"]),
        (["frobnicate"], ["frobnicate"]),
        (["train", "resnet8", "--frobnicate"], ["--frobnicate"]),
        (["train", "resnet8", "--name", "../evil"], ["../evil", "--name"]),
        (["data", "--dataset", "image_folder"], ["--data-dir"]),
        (["data", "--dataset", "image_folder", "--data-dir", "nowhere"], ["nowhere", "does not exist"]),
        (["evaluate", "--max-isa", "avx3"], ["--max-isa", "avx3", "sse41, avx2, avx512"]),
        (["evaluate"], ["no trained network", "train-all"]),
        (["export", "resnet8"], ["resnet8"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    dataset = ["--dataset", "digits"] if arguments[0] in ("train", "run") else []
    out = [] if arguments[0] == "data" else ["--out", str(tmp_path)]
    assert_refused(run_here(*arguments, *dataset, *out), 2, *words)


# Each option that takes a number with a unit: its command, a good value, and what a bare or a foreign one is answered.
WITH_UNIT = [
    ("compare", "--fail-if-slower", "5 %", "5", "add the unit: --fail-if-slower 5%"),
    ("evaluate", "--target-interval", "2%", "2", "add the unit: --target-interval 2%"),
    ("evaluate", "--memory-limit", "4 GiB", "512", "add the unit: --memory-limit 512M"),
    ("evaluate", "--seconds", "500ms", "1,5", "--seconds 1.5"),
    ("evaluate", "--budget", "10 m", "10 days", "90s, 10m or 1.5h"),
    ("evaluate", "--soak", "1.5h", "1h30m", "90s, 10m or 1.5h"),
    ("evaluate", "--timeout", "10m", "inf", "90s, 10m or 1.5h"),
    ("train", "--checkpoint-every", "90", "0s", "90s, 10m or 1.5h"),
]


@pytest.mark.parametrize(("command", "option", "good", "bad", "words"), WITH_UNIT)
def test_a_number_with_a_unit_is_understood_or_explained(
    command: str, option: str, good: str, bad: str, words: str, tmp_path: Path
) -> None:
    arguments = {"compare": [tmp_path / "a", tmp_path / "b"], "train": ["resnet19"], "evaluate": []}[command]
    for value in (bad, "nan", "-5%", "x"):
        done = run_here(command, *arguments, option, value, cwd=tmp_path)
        assert_refused(done, 2, option, value, words if value == bad else "give")
    assert_refused(run_here(command, *arguments, option, "", cwd=tmp_path), 2, option, "is empty")
    understood = run_here(command, *arguments, option, good, cwd=tmp_path)
    assert_refused(understood, 2, "does not exist" if command == "compare" else "no ")
    assert option not in understood.stderr


def test_it_leaves_the_process_with_that_line_and_code(tmp_path: Path) -> None:
    assert_refused(run_cli("train", "resnet19", "--out", tmp_path), 2, "resnet19", "did you mean 'resnet18'")


def test_a_missing_cifar10_offers_the_ways_out(tmp_path: Path) -> None:
    done = run_here("data", "--dataset", "cifar10", "--data-dir", tmp_path)
    assert_refused(done, 1, str(tmp_path), "--dataset digits", "cifar-10-python.tar.gz")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EROFS, 2), (errno.EACCES, 2)]
)
def test_a_full_disk_is_no_wrong_command_line(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = run_here("report", "--out", tmp_path / "new")
    assert_refused(done, code, "--out", os.strerror(number), "give another folder")


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_a_log_that_is_no_file_of_the_folder_is_refused(kind: str, tmp_path: Path) -> None:
    log, elsewhere = tmp_path / "log.txt", tmp_path / "elsewhere"
    {"a link": lambda: log.symlink_to(elsewhere), "a pipe": lambda: os.mkfifo(log), "a folder": log.mkdir}[kind]()
    assert_refused(run_here("report", "--out", tmp_path), 1, str(log), "is no regular file", "--out")
    assert not elsewhere.exists()


@pytest.mark.parametrize("inside", ["", "results.jsonl", "reports/results.jsonl"])
@pytest.mark.parametrize(
    ("target", "words"), [("nowhere", "leads nowhere"), ("results.jsonl", "symbolic links")], ids=["nowhere", "itself"]
)
def test_a_link_that_leads_nowhere_is_content_that_is_missing(
    inside: str, target: str, words: str, tmp_path: Path
) -> None:
    link = tmp_path / "given" / inside if inside else tmp_path / "results.jsonl"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    given = tmp_path / "given" if inside else link
    assert_refused(run_here("compare", given, given), 1, str(link), words)


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [("nothing", 2, "does not exist"), ("a folder", 2, "neither a results.jsonl"), ("a pipe", 1, "is a named pipe")],
)
def test_a_name_of_no_results_is_refused(kind: str, code: int, words: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    {"nothing": lambda: None, "a pipe": lambda: os.mkfifo(given), "a folder": given.mkdir}[kind]()
    assert_refused(run_here("compare", given, given), code, words)


@pytest.mark.parametrize("kind", ["a file", "a link that leads nowhere", "below a file"])
def test_an_out_that_can_be_no_folder_is_named(kind: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    if kind == "a link that leads nowhere":
        given.symlink_to("nowhere")
    else:
        given.write_text("")
    out = given / "below" if kind == "below a file" else given
    assert_refused(run_here("report", "--out", out), 2, "--out", str(out), "cannot be written")


def test_images_of_two_sizes_are_both_named(tmp_path: Path) -> None:
    for index, (split, name) in enumerate((s, n) for s in ("train", "test") for n in ("cat", "dog")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        size = 9 if index == 3 else 8
        Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(folder / "a.png")
    done = run_here("data", "--dataset", "image_folder", "--data-dir", tmp_path)
    assert_refused(done, 1, "test/dog/a.png is 9×9", "train/cat/a.png is 8×8")


@pytest.mark.usefixtures("workers_here")
def test_a_custom_network_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    done = run_here("train", "tests.plugins:wrong_shape", *TINY, "--out", tmp_path)
    assert_refused(done, 2, "(2, 11)", "(2, 10)")
    assert not list(tmp_path.glob("exported/*"))


@pytest.mark.usefixtures("workers_here")
def test_a_network_that_takes_one_size_of_images_is_refused_by_a_recipe_that_changes_it(tmp_path: Path) -> None:
    done = run_here(
        "train", "tests.plugins:of_one_size", *FEW_IMAGES, "--recipe", "fast", "--epochs", "3", "--out", tmp_path
    )
    assert_refused(done, 2, "cannot take images of 24×24", "recipe fast", "--recipe original")
    assert not list(tmp_path.glob("training/*")) and not list(tmp_path.glob("exported/*"))


@pytest.mark.usefixtures("workers_here")
def test_a_network_that_is_refused_does_not_keep_the_next_from_being_trained(tmp_path: Path) -> None:
    networks = ("--network", "tests.plugins:wrong_shape", "--network", "tests.plugins:linear")
    done = run_here("train-all", *networks, *TINY, "--out", tmp_path)
    assert done.returncode == 1 and "tests.plugins:wrong_shape: " in done.stderr, done.stderr
    assert "1 of the asked could not be done; the reasons are above\n" in done.stderr
    assert [path.name for path in (tmp_path / "exported").iterdir()] == ["tests.plugins-linear"]
    assert "tests.plugins-linear: epoch 1/1" in done.stdout, "by the training's own name"


def test_a_module_that_ends_its_process_keeps_no_other_from_being_trained(tmp_path: Path) -> None:
    (tmp_path / "ends_here.py").write_text("import os\nos._exit(3)\n")
    networks = ("--network", "ends_here:build", "--network", "resnet8")
    done = run_here("train-all", *networks, *FEW_IMAGES, "--epochs", "1", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1 and "ends_here-build: the worker left with exit code 3" in done.stderr, done.stderr
    assert [path.name for path in (tmp_path / "out" / "exported").iterdir()] == ["resnet8"]


@pytest.mark.usefixtures("workers_here")
def test_images_of_ones_own_without_their_data_set_are_told_of_it(tmp_path: Path) -> None:
    pictures.folder(tmp_path / "images")
    done = run_here("train", "resnet8", "--data-dir", tmp_path / "images", "--out", tmp_path / "out")
    assert_refused(done, 1, "holds no CIFAR-10", "add --dataset image_folder")
    (tmp_path / "images.tar.gz").write_bytes(b"abc")
    done = run_here(
        "train",
        "resnet8",
        "--dataset",
        "image_folder",
        "--data-dir",
        tmp_path / "images.tar.gz",
        "--out",
        tmp_path / "out",
    )
    assert_refused(done, 1, "is not a whole zip file", "give a folder or a .zip")


def test_a_training_that_needs_more_memory_than_it_may_take_says_what_to_do(tmp_path: Path) -> None:
    done = run_here(*("train", "resnet8", "--name", "large", *FEW_IMAGES, "--memory-limit", "150M", "--out", tmp_path))
    assert_refused(
        done, 1, "cifar-deploy: error: large under a limit of 150 MiB", "give a smaller training batch, or more memory"
    )


@pytest.mark.usefixtures("workers_here")
def test_a_limit_that_limits_nothing_is_no_part_of_a_training(tmp_path: Path) -> None:
    line = (
        "train",
        "tests.plugins:linear",
        "--dataset",
        "digits",
        "--epochs",
        "1",
        "--limit-test",
        "64",
        "--out",
        tmp_path,
    )
    done = run_here(*line, "--limit-train", "5000000")
    assert done.returncode == 0 and "training images" not in done.stdout.partition("train ")[2], done.stderr
    assert "trained before" in run_here(*line).stdout


@pytest.mark.usefixtures("workers_here")
def test_a_custom_network_goes_the_whole_road(tmp_path: Path) -> None:
    done = run_here(
        "run",
        *TINY,
        "--network",
        "tests.plugins:linear",
        "--metric",
        "accuracy",
        "--format",
        "torchscript",
        "--out",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "exported" / "tests.plugins-linear" / "torchscript" / "model.ts").exists()


@pytest.mark.usefixtures("workers_here")
def test_a_loss_that_is_no_number_stops_the_training_and_saves_nothing(tmp_path: Path) -> None:
    done = run_here("train", "resnet8", *FEW_IMAGES, "--epochs", "3", "--learning-rate", "1e30", "--out", tmp_path)
    assert_refused(done, 1, "the loss became", "--learning-rate")
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("state.*"))


def test_weights_of_another_class_count_are_refused(road: Path) -> None:
    from dataclasses import replace

    from cifar_deploy.core.errors import Corrupt
    from cifar_deploy.core.store import Store
    from cifar_deploy.networks import complete

    store = Store(road)
    checkpoint = store.checkpoint("resnet8")
    assert checkpoint
    data = replace(checkpoint.training.data, classes=("a", "b", "c"))
    with pytest.raises(Corrupt, match="with 3 classes"):
        complete.load("resnet8", data, store.checkpoint_folder("resnet8") / "weights.safetensors")


@pytest.mark.parametrize(
    ("command", "former", "today"),
    [
        ("export", ["--again"], "--force"),
        ("train", ["--half"], "--save-fp16"),
        ("evaluate", ["--isa", "neon"], "--max-isa"),
        ("evaluate", ["--precision=200%"], "--target-interval"),
        ("evaluate", ["--sustain", "soon"], "--soak"),
        ("compare", ["--unlike"], "--allow-mismatch"),
    ],
)
def test_a_former_name_of_an_option_is_understood_and_shown_nowhere(
    command: str, former: list[str], today: str, tmp_path: Path
) -> None:
    given = run_here(command, *former, cwd=tmp_path)
    renamed = run_here(command, *[word.replace(former[0].split("=")[0], today) for word in former], cwd=tmp_path)
    assert (given.returncode, given.stderr) == (renamed.returncode, renamed.stderr)
    assert "no option of" not in given.stderr
    shown = run_here(command, "--help").stdout
    assert today in shown and not re.search(rf"{former[0].split('=')[0]}\b", shown)
    unknown = run_here("report", *former)
    assert unknown.returncode == 2 and "no option of" in unknown.stderr


def test_a_former_flag_is_told_what_it_is_now(tmp_path: Path) -> None:
    done = run_here("train", "resnet8", "--bf16", "--out", tmp_path)
    assert done.returncode == 2 and "error: --bf16: has another name now; give --arithmetic bfloat16" in done.stderr
    assert "no option of" in run_here("report", "--bf16").stderr


def test_help_answers_without_importing_what_commands_need() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cifar_deploy", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "train-all" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported and not imported & {"numpy", "pandas", "PIL", "onnx", "torch", "rich.progress"}
    own = {name for name in imported if name.startswith("cifar_deploy.")}
    assert own <= {
        *(
            f"cifar_deploy.{name}"
            for name in ("process", "main", "cli", "steps", "options", "commands", "config", "networks")
        ),
        *(f"cifar_deploy.core{name}" for name in ("", ".defaults", ".errors", ".on_first_use")),
        *(
            f"cifar_deploy.core.{name}"
            for name in ("cgroups", "registry", "interpreter", "limits", "trust", "units", "variables")
        ),
    }


def test_version_answers_without_work() -> None:
    assert run_here("--version").stdout.startswith("cifar-deploy ")


# Each once, with a command that takes it: all commands are of one kind.
_PARAMETERS = {
    parameter.name: (name, parameter)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if not getattr(parameter, "is_flag", False)
}


def test_every_command_is_of_the_kind_that_checks_its_values() -> None:
    for command in COMMANDS.values():
        assert isinstance(command, commands.Command) or hasattr(command, "commands")


def _given(name: str, parameter: Any, *values: str) -> list[str]:
    """A command line with these values of the parameter, and something for every other that is required."""
    arguments: list[str] = []
    for other in COMMANDS[name].params:
        if other is parameter and parameter.param_type_name == "argument":
            arguments += values
        elif other.required and other is not parameter:
            arguments.append("x")
    own = [word for value in values for word in (*parameter.opts[:1], value)]
    return [*name.split(), *arguments, *([] if parameter.param_type_name == "argument" else own)]


@pytest.mark.parametrize("name", _PARAMETERS)
def test_an_empty_value_is_refused(name: str) -> None:
    command, parameter = _PARAMETERS[name]
    assert_refused(run_here(*_given(command, parameter, "")), 2, f"{commands.named(parameter)}: is empty")


@pytest.mark.parametrize("name", [name for name, (_, own) in _PARAMETERS.items() if own.param_type_name == "option"])
def test_of_an_option_that_takes_one_value_a_second_is_refused(name: str) -> None:
    command, parameter = _PARAMETERS[name]
    if parameter.multiple:
        done = run_here(*_given(command, parameter, "1", "1"), "--frobnicate")
        assert_refused(done, 2, "--frobnicate: no option of")
    else:
        done = run_here(*_given(command, parameter, "1", "2"))
        assert_refused(done, 2, commands.named(parameter), "was given 2 times")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "-o", "a", "--out", "b"], ["--out", "2 times"]),
        (["report", "--out=a", "-oa", "--out", "a"], ["--out", "3 times"]),
        (["evaluate", "--controls", "--no-controls"], ["--controls", "2 times"]),
        (["list", "--json", "--json", "--out"], ["--out"]),  # a flag says the same twice
        (["export", "resnet8", ""], ["NAME", "is empty"]),
        (["report", "--out="], ["--out", "is empty"]),
        ([""], ["command: no command has this name"]),
        ([], ["cifar-deploy: lacks a command; give one of run, quickstart, data, train"]),
        (["env"], ["cifar-deploy env: lacks a command; give one of create"]),
    ],
    ids=" ".join,
)
def test_an_option_given_again_or_empty_is_named(arguments: list[str], words: list[str]) -> None:
    assert_refused(run_here(*arguments), 2, *words)


def test_a_report_is_named_even_if_the_working_directory_is_gone_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert steps.from_here(tmp_path / "report.md") == "../report.md"
    gone.rmdir()
    assert steps.from_here(tmp_path / "report.md") == str(tmp_path / "report.md")

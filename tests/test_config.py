"""Options from a file: taken as from the command line, refused with their line, and nothing given away by a found one."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from cifar_deploy import cli, config, main, pipeline
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.defaults import ROUNDS
from cifar_deploy.core.errors import Corrupt, DeployError, one_line
from cifar_deploy.core.machine import allowed_threads
from cifar_deploy.core.records import ConfigFile, Run
from cifar_deploy.core.store import Store
from tests.in_process import run_here
from tests.probes import a_run
from tests.test_cli import assert_refused

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"

ROOT: Any = cli.tree()
COMMANDS = {" ".join(way): command for way, command in config._commands(ROOT).items()}

# What a file that is only found may give: it trusts nothing, deletes nothing, writes and sends nothing elsewhere, installs
# nothing. A new option stands here, or in config._ONLY_IF_NAMED.
HARMLESS = {
    *(
        "a",
        "all",
        "arithmetic",
        "artifact",
        "allow-mismatch",
        "as",
        "b",
        "backend",
        "batch-norm",
        "batch-size",
        "bias-rate",
        "budget",
        "calibration-data",
        "channels",
        "checkpoint-every",
        "classes",
        "machine",
    ),
    *(
        "controls",
        "cool-to",
        "cool-wait",
        "cpus",
        "crop",
        "data-dir",
        "dataset",
        "device",
        "entry",
        "epochs",
        "fail-if-slower",
        "file",
        "format",
        "freeze",
        "image",
        "images",
        "init",
        "input",
        "interpolation",
        "json",
        "keep",
    ),
    *("learning-rate", "limit-test", "limit-train", "max-energy", "max-isa", "max-latency", "max-memory", "max-size"),
    *(
        "mean",
        "memory-limit",
        "metric",
        "min-accuracy",
        "min-throughput",
        "mlflow-experiment",
        "name",
        "network",
        "no-controls",
        "no-send",
        "pair",
    ),
    *(
        "percentile",
        "preprocess",
        "quiet",
        "recipe",
        "resize",
        "rounds",
        "runtime",
        "save-fp16",
        "seconds",
        "seed",
        "send",
        "shape",
        "size",
        "skip-broken",
        "soak",
        "std",
    ),
    *(
        "target-interval",
        "threads",
        "timeout",
        "train-batch-size",
        "train-threads",
        "value",
        "verify-memory",
        "weights",
    ),
    *("layout", "output", "reference", "scale", "teacher", "temperature", "top", "weight", "wide", "within"),
}

# What an option that is parsed takes.
TYPED = {
    **dict.fromkeys(("budget", "seconds", "timeout", "soak", "checkpoint-every"), "90s"),
    **{"memory-limit": "4G", "target-interval": "2%", "fail-if-slower": "5%", "max-isa": "avx2"},
    **{
        "shape": "ids=1,128:int64",
        "value": "rate=16000",
        "trust-code": "their.module:object",
        "mean": "0.5",
        "std": "0.5,0.4,0.3",
        "learning-rate": "0.01",
        "weight": 0.5,
        "temperature": 2.5,
    },
    **{"max-latency": "5ms", "max-memory": "60MB", "max-size": "4MB", "min-accuracy": "84%", "max-energy": "5mJ"},
    **{"min-throughput": "500/s", "as": "pi5"},
}


def typed(key: str, parameter: Any) -> Any:
    """Of a parameter some value as a file gives it."""
    if getattr(parameter, "is_flag", False):
        return True
    if choices := parameter.type_descriptor.choices:
        value: Any = choices[-1]
    else:
        value = TYPED.get(key) or (3 if "int" in str(parameter.type_descriptor.annotation) else 'a "b" \\ é')
        if parameter.type_descriptor.annotation is float and key not in TYPED:
            value = 1.5
    is_several = getattr(parameter, "multiple", False) or parameter.nargs == -1
    return [value, value] if is_several else value


def words(key: str, parameter: Any, value: Any) -> list[str]:
    """The same on a command line."""
    if value is True:
        return [f"--{key}"]
    values = value if isinstance(value, list) else [value]
    option = [] if parameter.param_type_name == "argument" else [f"--{key}"]
    return [word for each in values for word in (*option, str(each))]


def parsed(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What the function of a command is called with. What --save-config names is written."""
    *groups, last = name.split()
    context = typer.Context(ROOT, info_name="cifar-deploy")
    command = ROOT
    for group in groups:
        command = command.commands[group]
        context = typer.Context(command, info_name=group, parent=context)
    command = command.commands[last]
    with contextlib.ExitStack() as closed:
        made = closed.enter_context(command.make_context(last, list(arguments), parent=context))
        config.save(made)
        return dict(made.params)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(content: str | bytes, line: str, *words: str, code: int = 2, found: bool = False) -> None:
    """Of a file, named by --config or found, nothing is taken."""
    path = Path("cifar-deploy.toml" if found else "sweep.toml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_error([*line.split(), *([] if found else ["--config", str(path)])], code, *words)


def assert_error(line: Sequence[str], code: int, *words: str) -> None:
    """The line is refused before its command does anything, as the program says it."""
    name = " ".join(line[: 2 if line[0] == "env" else 1])
    with pytest.raises(DeployError) as caught:
        parsed(name, line[len(name.split()) :])
    told = one_line(f"cifar-deploy: error: {caught.value}")
    assert_refused(subprocess.CompletedProcess(line, caught.value.exit_code, "", told), code, *words)


# Taken


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_gives_every_option_and_argument_as_the_command_line_does(name: str) -> None:
    command: Any = COMMANDS[name]
    arguments: list[str] = []
    table = {}
    taken = set()
    for key, parameter in command.keys.items():
        if parameter.name not in taken:
            taken.add(parameter.name)
            table[key] = typed(key, parameter)
            arguments += words(key, parameter, table[key])
    assert {parameter.name for parameter in command.params if parameter.expose_value} == taken
    Path("sweep.toml").write_text(
        "\n".join((f"[{'.'.join(name.split())}]", *(f"{key} = {_toml(value)}" for key, value in table.items())))
    )
    expected = parsed(name, arguments)
    assert parsed(name, ["--config", "sweep.toml"]) == expected
    assert config.file() and config.file().name == "sweep.toml"  # type: ignore[union-attr]
    # So does what --save-config writes of either, which is the same.
    assert parsed(name, [*arguments, "--save-config", "of-line.toml"]) == expected
    assert config.file().name == "of-line.toml"  # type: ignore[union-attr]
    assert parsed(name, ["--config", "sweep.toml", "--save-config", "of-file.toml"]) == expected
    assert parsed(name, ["--config", "of-line.toml"]) == expected
    saved = Path("of-line.toml").read_text()
    assert saved == Path("of-file.toml").read_text()
    tables: Any = tomllib.loads(saved)
    for part in name.split():
        tables = tables[part]
    assert {key: _as_typed(value) for key, value in tables.items()} == {k: _as_typed(v) for k, v in table.items()}


def _as_typed(value: Any) -> Any:
    return list(map(str, value)) if isinstance(value, list) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"'{value}'" if isinstance(value, str) else str(value)


def test_no_argument_has_the_name_of_an_option() -> None:
    for command in COMMANDS.values():
        assert len({parameter.name for parameter in command.keys.values()}) == sum(
            parameter.expose_value for parameter in command.params
        )


def test_the_command_line_wins_over_the_file() -> None:
    Path("cifar-deploy.toml").write_text(
        '[evaluate]\nname = ["a", "b"]\nthreads = [1, 2]\nrounds = 7\ncontrols = false\nbackend = "openvino"\n'
    )
    given = parsed("evaluate", ["c", "--threads", "1", "--controls", "--rounds=3"])
    assert (given["name"], given["threads"], given["rounds"], given["controls"]) == (["c"], [1], 3, True)
    assert given["backend"] == ["openvino"]
    assert str(config.used()) == "options from cifar-deploy.toml: [evaluate] backend"
    assert not parsed("evaluate", ["--no-config"])["backend"] and config.used() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no-controls = true", {"controls": False}),
        ("no-controls = false", {"controls": True}),
        ("controls = false", {"controls": False}),
        ("threads = 2", {"threads": [2]}),
        ("threads = 0x2", {"threads": [2]}),
        ('threads = "2"', {"threads": [2]}),
        ("batch-size = [\n  1,\n  8,  # two\n]", {"batch_size": [1, 8]}),
        ("budget = 600", {"budget": 600.0}),
        ("seconds = 0.5", {"seconds": 0.5}),
        ("verify-memory = false", {"verify_memory": False}),
        ('"rounds" = 3', {"rounds": 3}),
        ("", {"rounds": ROUNDS}),
    ],
)
def test_a_value_is_what_would_be_typed(text: str, expected: dict[str, Any]) -> None:
    for before, after in (("[evaluate]\n", ""), ("\ufeff[evaluate]\r\n", "\r\n")):
        Path("cifar-deploy.toml").write_text(before + text.replace("\n", "\r\n" if after else "\n") + after)
        given = parsed("evaluate", [])
        assert {name: given[name] for name in expected} == expected


def test_the_first_line_says_which_options_a_file_gives() -> None:
    Path("cifar-deploy.toml").write_text('[train]\nepochs = 1\n[choose]\nmax-latency = "5ms"\nwithin = 1\n')
    done = run_here("choose")
    assert done.stderr.splitlines()[0] == "cifar-deploy: options from cifar-deploy.toml: [choose] max-latency, within"
    assert "cifar-deploy: options" not in run_here("choose", "--no-config").stderr
    assert "cifar-deploy: options" not in run_here("report").stderr  # it gives none
    named = run_here("report", "--config", "cifar-deploy.toml").stderr
    assert named.startswith("cifar-deploy: no options from cifar-deploy.toml: it gives none for [report]\n")


def test_a_found_file_is_that_of_the_current_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-deploy.toml").write_text("no TOML")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert run_here("env", "list").returncode == 0
    monkeypatch.chdir(tmp_path)
    for line in ("evaluate --help", "env --help", "--version"):
        assert run_here(*line.split()).returncode == 0
    assert run_here("env", "list", "--no-config").returncode == 0
    assert run_here("env", "list").returncode == 2


# Refused


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[evaluate]\n\nthrads = 1", "list", "line 3: [evaluate] thrads: no option of `cifar-deploy evaluate` has this name; "
         "did you mean threads? See `cifar-deploy evaluate --help`"),
        ("[evaluate]\nx = 1", "list", "line 2: [evaluate] x: no option of `cifar-deploy evaluate` has this name; see"),
        ("[train]\nbatch_size = 1", "list", "did you mean batch-size?"),
        ("[export]\nepochs = 1", "list", "line 2: [export] epochs: belongs to [run], [train], [train-all], and is no option"),
        ("epochs = 1", "list", "line 1: epochs: belongs to [run], [train], [train-all]; write it below that"),
        ("[evalute]", "list", "line 1: [evalute]: no command has this name; did you mean [evaluate]?"),
        ("[env.crate]", "list", "line 1: [env.crate]: no command has this name; did you mean [env.create]?"),
        ("[env]\nfrobnicate = 1", "list", "line 2: [env] frobnicate: no command has this name; there are: [env.create],"),
        ("frob = 1", "list", "frob: no command has this name; there are: [run], [quickstart], [data] and "),
        ("env = 1", "list", "line 1: env: is a number; write [env] above its options"),
        ("train = []", "list", "line 1: train: is a list; write [train] above its options"),
        ("[[train]]", "list", "line 1: train: is a list; write [train] above its options"),
        ("train = {epoch = 1}", "list", "sweep.toml: [train] epoch: no option"),
        ("train.epoch = 1", "list", "line 1: [train] epoch: no option"),
        ('[train]\nconfig = "x"', "list", "line 2: [train] config: stands on the command line alone; remove it here"),
        ("[train]\nhelp = true", "list", "line 2: [train] help: no option of `cifar-deploy train`"),
        ("[evaluate]\nrounds = 0", "evaluate", "line 2: [evaluate] rounds: 0 is not 1 or more; see `cifar-deploy evaluate"),
        ("[evaluate]\nrounds = 1.5", "evaluate", "line 2: [evaluate] rounds: 1.5 is no whole number"),
        ("[evaluate]\nrounds = true", "evaluate", "rounds: is true, and --rounds takes one value; see"),
        ("[evaluate]\nrounds = [1, 2]", "evaluate", "rounds: is a list, and --rounds takes one value"),
        ("[evaluate]\nrounds = 2026-01-01", "evaluate", "rounds: is a date or time, and"),
        ("[evaluate]\nthreads = [[1]]", "evaluate", "threads: is a list, and --threads takes one value or a list of them"),
        ("[evaluate]\nthreads = []", "evaluate", "threads: is empty"),
        ("[evaluate.threads]", "evaluate", "line 1: [evaluate.threads]: is a table, and --threads takes"),
        ("[evaluate]\nname = [5]", "evaluate", "name: is a number, and NAME takes text; write it in quotes"),
        ('[evaluate]\nformat = ""', "evaluate", "format: is empty"),
        ('[evaluate]\nformat = "a\\u0000"', "evaluate", "format: holds a NUL character"),
        ('[evaluate]\nforce = "yes"', "evaluate", "force: is text, and --force takes true or false"),
        ("[evaluate]\ncontrols = true\nno-controls = true", "evaluate", "line 3: [evaluate] no-controls: is controls again"),
        (f"[evaluate]\nrounds = 0x{'f' * 5000}", "evaluate", "rounds: is too large a number"),
        ('[evaluate]\nbudget = "ten"', "evaluate", "budget: ten is no duration; give 90s, 10m or 1.5h"),
        ("[evaluate]\nmemory-limit = 4", "evaluate", 'memory-limit: 4: add the unit: memory-limit = "4M"; see'),
        ("[train]\nlearning-rate = nan", "train x", "learning-rate: nan is not a positive number"),
        ("[train]\nlearning-rate = inf", "train x", "learning-rate: inf is not a positive number"),
        ("[train]\nepochs = 1", "train", "NETWORK: is missing; see `cifar-deploy train --help`"),
        ("[choose]\nmax-latency = 5", "choose", 'max-latency: 5: add the unit: max-latency = "5ms"'),
        ('[compare]\na = "x"', "compare", "B: is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(text: str, line: str, message: str) -> None:
    refused(text, line, "error: sweep.toml" if "missing" not in message else "", message)


def test_so_is_what_a_command_refuses() -> None:
    Path("sweep.toml").write_text('[train]\nnetwork = "resnet19"\n[evaluate]\nthreads = [1, 9999]\n')
    for line, place, message in (
        ("train", "2: [train] network", "resnet19: no network has this name; did you mean 'resnet18'?"),
        ("evaluate", "4: [evaluate] threads", f"9999 is more than the {allowed_threads()} this process may use"),
    ):
        done = run_here(line, "--config", "sweep.toml")
        first, *errors = done.stderr.splitlines()
        assert first.startswith("cifar-deploy: options from sweep.toml: ") and done.returncode == 2
        assert len(errors) == 1 and errors[0].startswith(f"cifar-deploy: error: sweep.toml, line {place}: {message}")
    assert "--threads: 9999" in run_here("evaluate", "--threads", "9999").stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = ", "sweep.toml, end of document: is not TOML (invalid value); mend it, or give another"),
        (b"a = \n", "sweep.toml, line 1, column 5: is not TOML (invalid value)"),
        (b"[train]\nseed = 1\nseed = 2\n", "sweep.toml, line 3, column 9: is not TOML (a key is there twice)"),
        (b"[train]\n[train]\n", "sweep.toml, line 2, column 7: is not TOML (cannot declare ('train',) twice)"),
        (b'a = "', "is not TOML"),
        (b"\x7fELF\0\0", "is not TOML"),
        (b"\xff\xfe[\0", "sweep.toml: byte 1 is not UTF-8; save it as UTF-8, or give another"),
        ("[train] # é".encode("latin-1"), "byte 11 is not UTF-8"),
        (b"a = " + b"[" * 30_000, "sweep.toml: is nested too deeply"),
        (b"a = " + b"9" * 5000, "sweep.toml: holds too long a number"),
        (b"\x1b[31m = 1", "is not TOML"),
        (b'"\\u001b[31m" = 1', "\\x1b[31m: no command has this name"),
        (b"x" * 300 + b" = 1", "no command has this name"),
    ],
    ids=str,
)
def test_what_is_no_toml_is_one_line(content: bytes, message: str) -> None:
    refused(content, "list", message)


@pytest.mark.parametrize("option", [["--config", "cifar-deploy.toml"], []], ids=["named", "found"])
def test_a_file_that_cannot_be_read_is_one_line(option: list[str]) -> None:
    path = Path("cifar-deploy.toml")
    path.mkdir()
    assert_error(["list", *option], 1, "cifar-deploy.toml: is a folder, and not a regular file; replace or remove it")
    path.rmdir()
    os.mkfifo(path)
    assert_error(["list", *option], 1, "cifar-deploy.toml: is a named pipe, and not a regular file")
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(2**30)
    assert_error(["list", *option], 1, "is 1,073,741,824 bytes, and at most 32,768 are read")
    path.unlink()
    path.symlink_to("nowhere")
    assert_error(["list", *option], 1, "cifar-deploy.toml", "cannot be read (")
    path.unlink()
    path.symlink_to(path)
    assert_error(["list", *option], 1, "cifar-deploy.toml", "cannot be read (Too many levels of symbolic links)")


def test_a_file_that_is_not_there_is_a_wrong_command_line() -> None:
    assert_error(["list", "--config", "x.toml"], 2, "--config: x.toml does not exist; give a file of options")
    assert_error(["list", "--config", "x", "--no-config"], 2, "--config, --no-config: exclude each other; give one")
    assert_error(["list", "--config", ""], 2, "--config: is empty; give a value or leave it out")
    for group, command in (("", "list"), ("env ", "list")):
        done = run_here(*group.split(), "--config", "x.toml", command)
        assert_refused(done, 2, f"--config: belongs behind the command; write `cifar-deploy {group}COMMAND --config`")
    assert_error(["list", "--save-config", "x" * 300], 2, "--save-config: xxx", ": is not the name of a file that can")
    Path("a\nb").write_text("")
    assert_error(["list", "--config", "a\nb"], 2, "is not the name of a file that can be shown; give another")


# A file that is only found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("evaluate", "trust = true"),
        ("evaluate", 'trust-code = ["a:b"]'),
        ("evaluate", "force = true"),
        ("evaluate", 'out = "elsewhere"'),
        ("evaluate", 'format = ["onnx", "evil:FORMAT"]'),
        ("bench", 'out = "elsewhere"'),
        ("train", 'network = "evil:build"'),
        ("train-all", 'network = ["evil:build"]'),
        ("data", 'dataset = "evil:DATA"'),
        ("choose", 'runtime = "evil:x"'),
        ("env create", 'name = "litert"'),
        ("env remove", 'name = "litert"'),
    ],
)
def test_a_found_file_gives_no_trust_and_destroys_nothing(line: str, text: str, tmp_path: Path) -> None:
    Path("evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    Path("x.onnx").touch()
    more = ' file = "x.onnx"'.strip() if line == "bench" else ""
    content = f"[{'.'.join(line.split())}]\n{more}\n{text}\n"
    refused(content, line, "line 3: [", "only found; type it, or add --config cifar-deploy.toml", found=True)
    assert not Path("ran").exists() and not Path("elsewhere").exists()
    # Of the same file, if it is named, all is taken.
    name = text.partition(" ")[0]
    Path("named.toml").write_text(content)
    assert parsed(line, ["--config", "named.toml"])[{"runtime": "backend"}.get(name, name.replace("-", "_"))]
    # What the command line gives is not the file's to give.
    value = {"force": ["--force"], "trust": ["--trust"]}.get(name)
    if value:
        assert parsed(line, value)[name]


def test_a_found_file_may_name_a_network_of_a_library() -> None:
    """As a network, and as nothing else."""
    Path("cifar-deploy.toml").write_text('[train]\nnetwork = "torchvision:resnet18"\n')
    assert parsed("train", [])["network"] == "torchvision:resnet18"
    refused('[export]\nformat = "torchvision:resnet18"\n', "export", "names code", found=True)


def test_a_flag_that_a_found_file_leaves_off_is_nothing() -> None:
    Path("cifar-deploy.toml").write_text("[evaluate]\nforce = false\ntrust = false\n")
    assert parsed("evaluate", [])["force"] is False and parsed("evaluate", ["--force"])["force"] is True


def test_every_option_is_harmless_in_a_found_file_or_refused_there() -> None:
    keys = {key for command in COMMANDS.values() for key in command.keys}
    unjudged = keys - HARMLESS - config._ONLY_IF_NAMED
    assert not unjudged, "may a file that is only found give it? Then it belongs into HARMLESS"
    assert not HARMLESS & config._ONLY_IF_NAMED
    for key in config._ONLY_IF_NAMED:
        way, _, last = key.rpartition(".")
        assert not way or last in COMMANDS[way.replace(".", " ")].keys


# Saved


def test_a_saved_file_replaces_no_other_and_the_same_command_goes_on() -> None:
    line = ["choose", "--max-latency", "5ms", "--within", "1.5", "--save-config"]
    run_here(*line, "mine.toml")
    saved = Path("mine.toml").read_text()
    assert saved == '# Options of `cifar-deploy choose`, for --config.\n[choose]\nmax-latency = "5ms"\nwithin = 1.5\n'
    before = Path("mine.toml").stat()
    run_here(*line, "mine.toml")
    assert Path("mine.toml").stat() == before
    for name, content in (("results.toml", b"[choose]\n"), ("model.onnx", b"\0" * 100), ("large", b"x" * 70_000)):
        Path(name).write_bytes(content)
        assert_error([*line, name], 2, f"--save-config: {name} exists and holds something else; delete it, or give")
        assert Path(name).read_bytes() == content
    Path("folder").mkdir()
    assert_error([*line, "folder"], 2, "folder exists and holds something else")
    assert_error([*line, "mine.toml/x"], 1, "mine.toml/x: cannot be written (")
    address = "https://me:secret@tracking.example"
    assert_error(
        ["report", "--mlflow", address, "--save-config", "y"], 2, "--save-config: the address of --mlflow holds"
    )
    assert not Path("y").exists()
    assert_error(["choose", "--out", "\udcff", "--save-config", "x"], 2, "--save-config: a value is not UTF-8")
    assert sorted(os.listdir()) == ["folder", "large", "mine.toml", "model.onnx", "results.toml"]


def test_a_wrong_command_line_saves_nothing() -> None:
    assert_refused(run_here("evaluate", "--rounds", "0", "--save-config", "x.toml"), 2, "--rounds: 0 is not 1 or more")
    run_here("evaluate", "--help", "--save-config", "x.toml")
    assert not Path("x.toml").exists()


# Recorded


@pytest.mark.slow
def test_the_pages_example_is_a_sweep_whose_results_and_report_name_it(
    road: Path, tmp_path: Path, workers_here: None
) -> None:
    out, sweep = tmp_path / "out", Path("private/sweep.toml")
    shutil.copytree(road, out)
    before = len(Store(out).runs())
    sweep.parent.mkdir()
    sweep.write_text(PAGE.read_text().partition("```toml\n")[2].partition("```")[0])
    for name in ("train-all", "export"):
        assert parsed(name, ["--config", str(sweep)]) and config.used().entries  # type: ignore[union-attr]
    given = parsed("evaluate", ["--config", str(sweep)])
    assert (given["threads"], given["batch_size"], given["seconds"], given["controls"]) == ([1, 2], [1, 8], 0.1, False)
    line = ["--threads", "1", "--rounds", "1", "--seconds", "0.02", "--metric", "latency", "--config", sweep]
    done = run_here("evaluate", *line, "--out", out)
    assert done.returncode == 0, done.stderr
    told = "options from sweep.toml: [evaluate] name, format, batch-size, controls"
    assert done.stderr.startswith(f"cifar-deploy: {told}\n") and told in Store(out).log.read_text()

    runs = Store(out).runs()
    sha256 = hashlib.sha256(sweep.read_bytes()).hexdigest()
    assert {run.config_file for run in runs[:before]} == {None}
    runs = runs[before:]
    assert {run.config_file for run in runs} == {ConfigFile(name="sweep.toml", sha256=sha256)}
    measured = {(run.job.artifact.format, run.job.batch_size) for run in runs if run.job.artifact.name == "resnet8"}
    assert measured == {(format, size) for format in ("torchscript", "onnx") for size in (1, 8)}
    assert len({run.session for run in runs}) == 1
    assert "private" not in Store(out).results_path.read_text()

    shown = f"from sweep.toml (sha256 {sha256[:16]})"
    table, paths = pipeline.report(Store(out))
    assert table.facts["options"] == ("from the command line", shown)
    assert shown in (out / "reports" / "report.html").read_text().partition('id="reproduce"')[2]
    assert not any("private" in path.read_text() for path in paths)
    facts = json.loads(run_here("report", "--json", "--out", out).stdout)["report"]["facts"]
    assert {"name": "options", "values": ["from the command line", shown]} in facts


def test_a_report_of_no_file_says_nothing_of_options(road: Path) -> None:
    assert "options" not in pipeline.report(Store(road))[0].facts


def test_a_run_keeps_its_file_and_an_old_one_has_none() -> None:
    run = replace(a_run(), config_file=ConfigFile(name="é weird [x].toml", sha256="0" * 64))
    record: dict[str, Any] = to_json(run)
    assert from_json(Run, record) == run
    del record["config_file"]
    assert from_json(Run, record).config_file is None


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "../x.toml", "sha256": "0" * 64},
        {"name": "", "sha256": "0" * 64},
        {"name": "x" * 256, "sha256": "0" * 64},
        {"name": "\x1b[31m", "sha256": "0" * 64},
        {"name": "a\u202eb", "sha256": "0" * 64},
        {"name": "x.toml", "sha256": "0"},
        {"name": 5, "sha256": "0" * 64},
        {"name": "x.toml"},
        [],
        "x.toml",
    ],
)
def test_a_record_whose_file_cannot_be_one_is_refused(fields: Any) -> None:
    with pytest.raises(Corrupt, match=r"Run\.config_file"):
        from_json(Run, {**to_json(a_run()), "config_file": fields})  # type: ignore[dict-item]


def test_a_name_that_is_a_pages_code_is_shown_as_text(road: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(road, out)
    store = Store(out)
    last = store.runs()[-1]
    with store:
        store.append(replace(last, config_file=ConfigFile(name="<script>alert(1)<|script>", sha256="0" * 64)))
    pipeline.report(store)
    assert "from <script>" not in (out / "reports" / "report.html").read_text()
    assert "from &lt;script&gt;" in (out / "reports" / "report.html").read_text()


def test_what_follows_an_interruption_heeds_the_file() -> None:
    Path("named.toml").write_text('[bench]\nfile = "x"\nout = "kept"\n[evaluate]\nforce = true\n')
    parsed("bench", ["--config", "named.toml"])
    assert main._how_to_go_on(["bench", "--config", "named.toml"]) == "the same command goes on from here"
    parsed("evaluate", ["--config", "named.toml"])
    assert main._how_to_go_on(["evaluate"]) == "with --force the same command starts over"


def test_the_page_names_what_a_found_file_cannot_give() -> None:
    text = PAGE.read_text().partition("## A file that is not yours")[2].partition("## ")[0]
    for key in config._ONLY_IF_NAMED:
        *way, last = key.split(".")
        assert f"`{last}`" in text and (not way or f"`[{'.'.join(way)}]`" in text), key
    assert f"{config._LARGEST_BYTES // 1024} KiB" in PAGE.read_text()

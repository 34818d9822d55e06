"""A message offers only what the user can do: options that the command has, or a whole command that has them."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_docs import COMMANDS

PACKAGE = Path(__file__).parents[1] / "cifar_deploy"

_TRAINING = {"run", "train", "train-all"}
_MEASURING = {"run", "evaluate", "bench"}
_ALL = set(COMMANDS)

# Which commands print the messages of a file: the longest beginning of its path counts. Left out is cli.py, whose messages are
# of single commands, and what stands in reports: a note names the option of the command that measured.
PRINTED_BY = {
    "training/": _TRAINING,
    "stages/train.py": _TRAINING,
    "workers/train.py": _TRAINING,
    "core/ranks.py": _TRAINING,
    "core/generations.py": _TRAINING,
    "datasets/": {"data", "add", "bench", *_TRAINING},
    "workers/prepare.py": {"data", "add", "bench", *_TRAINING},
    "stages/add.py": {"add"},
    "workers/add.py": {"add"},
    "networks/usual.py": {"add"},
    "networks/diagnosis.py": {"add"},
    "networks/weights.py": {"add", "train"},
    "stages/feeding.py": {"bench"},
    "core/feeding.py": {"bench"},
    "stages/predict.py": {"predict"},
    "workers/predict.py": {"predict"},
    "stages/prepare.py": {"export", *_TRAINING, *_MEASURING},
    "stages/export.py": {"run", "export", "evaluate"},
    "workers/export.py": {"run", "export", "evaluate"},
    "formats/": {"run", "export", "evaluate"},
    "devices/": {"list", "doctor", "evaluate", *_TRAINING},
    "stages/plan.py": {"run", "evaluate"},
    "stages/rounds.py": _MEASURING,
    "stages/evaluate.py": _MEASURING,
    "workers/measure.py": _MEASURING,
    "stages/bench.py": {"bench"},
    "workers/inspect.py": {"bench"},
    "core/samples.py": {"report", "choose", "compare", *_MEASURING},
    "choice/": {"choose"},
    "stages/compare.py": {"compare"},
    "stages/pairing.py": {"compare"},
    "core/store.py": {"report", "choose", "doctor", "export", *_TRAINING, *_MEASURING},
    "core/trust.py": {"report", "choose", "compare", "doctor", "export", *_MEASURING},
    "core/journal.py": {"report", "choose", "compare", "doctor", *_MEASURING},
    "metrics/summary.py": {"report", "choose", "compare", "bench"},
    "stages/report.py": {"report", "choose", "run", "bench"},
    "stages/doctor.py": {"doctor"},
    "stages/devices.py": {"device ssh"},
    "remote/": {"device ssh"},
}
# Commands of others that a message may spell out.
_OTHERS = {"ansible-inventory", "uv"}

# Options that only a command which has them can lead to.
GIVEN = {
    ("training/initial.py", "--freeze"): "train alone has it",
    ("stages/train.py", "--init"): "train alone has it",
    **{
        ("stages/prepare.py", f"--{name}"): "of a function that only commands with these options call"
        for name in ("size", "resize", "crop", "interpolation", "classes", "skip-broken")
    },
    ("core/ranks.py", "--nproc-per-node"): "torchrun's own",
    ("training/ranks.py", "--nproc-per-node"): "torchrun's own",
    ("training/ranks.py", "--batch-norm"): "only train-all and train can be started by torchrun",
    ("core/ranks.py", "--batch-size"): "only train can be started by torchrun",
    ("stages/compare.py", "--limit-test"): "how it was measured",
    ("stages/evaluate.py", "--metric"): "only evaluate has --verify-memory and --soak",
}


def _options(command: str) -> set[str]:
    return {option for parameter in COMMANDS[command].params for option in (*parameter.opts, *parameter.secondary_opts)}


def _mentions(file: str) -> list[tuple[str, str]]:
    """The options that its texts name, each with the text, outside of a whole command in backticks."""
    found = []
    nodes = list(ast.walk(ast.parse((PACKAGE / file).read_text())))
    inner = {id(value) for node in nodes if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in nodes:
        if id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(value.value if isinstance(value, ast.Constant) else "…" for value in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        outside = re.sub(rf"`({'|'.join(('cifar-deploy', *COMMANDS, *_OTHERS))}) [^`]*`?", "", text)
        outside = "" if re.fullmatch(r"cifar-deploy [\w -]+", text) else outside  # a whole command
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", outside):
            if not text.startswith(option):  # the user gave it
                found.append((option, text))
    return found


def _printed_by(file: str) -> set[str]:
    beginnings = [beginning for beginning in PRINTED_BY if file.startswith(beginning)]
    return PRINTED_BY[max(beginnings, key=len)] if beginnings else set()


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", [file for file in FILES if _printed_by(file) and _mentions(file)])
def test_a_message_offers_no_option_that_its_command_lacks(file: str) -> None:
    tree = ast.get_docstring(ast.parse((PACKAGE / file).read_text())) or ""
    for option, text in _mentions(file):
        if text.strip() == tree.strip() or (file, option) in GIVEN:
            continue
        lacking = sorted(command for command in _printed_by(file) if option not in _options(command))
        assert not lacking, (
            f"{file}: {option} in {text!r}: {', '.join(lacking)} lacks it; name the command in backticks"
        )


def test_every_file_of_the_table_is_there() -> None:
    for beginning in PRINTED_BY:
        assert any(file.startswith(beginning) for file in FILES), beginning


def test_every_worker_is_told_what_it_does_for_the_message_about_its_end() -> None:
    silent = [
        f"{file}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse((PACKAGE / file).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Worker"
        if "what" not in {keyword.arg for keyword in node.keywords}
    ]
    assert not silent, "the user would read the name of a function"


_WHOLE = re.compile(r"`(?:cifar-deploy )?((?:env |device )?[a-z-]+)((?: [^`\s]+)*)`")


SPELLED_OUT = [
    (file, command, option)
    for file in FILES
    for command, rest in _WHOLE.findall((PACKAGE / file).read_text())
    for option in re.findall(r"(?<!\S)--[a-z-]+", rest)
    if command not in _OTHERS
]


@pytest.mark.parametrize(("file", "command", "option"), sorted(set(SPELLED_OUT)))
def test_a_command_that_a_message_spells_out_has_the_options_that_it_gives_there(
    file: str, command: str, option: str
) -> None:
    assert command in COMMANDS and option in _options(command)

"""The code blocks of README.md and docs/: found, run, and their output compared with what the page shows.

A ```console block holds `$ ` lines, each a command, and below each what it prints. A ```python block is a script. Blocks
of one page and one folder run in the page's order, in one fresh copy of that folder, as a reader would run them.
Comments on the lines above a fence say more:

- `<!-- not run: REASON -->`: it is not run.
- `<!-- run in: NAME -->`: it runs in a copy of this folder of FOLDERS (`empty`, where there is no such comment).
- `<!-- slow -->`: it takes more than a few seconds. A command that is not in FAST needs no such comment, nor does a
  folder that takes long to make.

`python -m tests.blocks PAGE...` writes what the blocks of a page show anew.
"""

import contextlib
import dataclasses
import difflib
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.in_process import as_in_a_new_process, run_here

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What is shown on a page fits into this.
COLUMNS = 160

# Commands that take less than a few seconds.
FAST = {"choose", "compare", "doctor", "list", "report", "env list", "--help", "--version"}
# Those of FAST that print the same for the same results, wherever they run: their numbers are compared as well.
EXACT = {"choose", "compare", "report"}
# Programs that a machine may lack.
OPTIONAL = {"jq"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    page: Path
    line: int  # of the fence, from 1
    language: str
    text: str
    folder: str = "empty"
    not_run: str | None = None
    is_slow: bool = False

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A command of a console block, and what stands below it. Nothing there says nothing about what it prints."""

    command: str
    output: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.command.replace("\\\n", " "), comments=True)

    @functools.cached_property
    def verb(self) -> str | None:
        """Of one call of cifar-deploy, and nothing else: its command. None if it takes a shell."""
        lexer = shlex.shlex(self.command.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>()")
        lexer.wordchars += ":,%@^"
        words = list(lexer)
        if words[:1] != ["cifar-deploy"] or any(set(word) & set("|&;<>()$*~`") for word in words):
            return None
        asked = {"--help", "-h", "--version"} & set(words)
        if asked:
            return "--version" if "--version" in asked else "--help"
        return " ".join(words[1:3]) if words[1:2] == ["env"] else " ".join(words[1:2])


_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)")
_MARK = re.compile(r"<!-- *(not run|run in|slow) *(?:: *(.*?))? *-->$")


def blocks_of(page: Path) -> list[Block]:
    """Raises ValueError for a mark that is above no fence, since a misplaced one would be heeded nowhere."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        if mark := _MARK.match(line.strip()):
            marks[mark[1]] = mark[2] or ""
            continue
        fence = _FENCE.match(line)
        if not fence:
            if marks:
                raise ValueError(f"{page}:{number}: the mark above is above no fence")
            continue
        inside = []
        for _, text in lines:
            if re.fullmatch(rf" *{fence['fence'][0]}{{{len(fence['fence'])},}} *", text):
                break
            inside.append(text.removeprefix(fence["indent"]))
        found.append(
            Block(
                page=page,
                line=number,
                language=fence["language"],
                text="\n".join(inside),
                folder=marks.get("run in", "empty"),
                not_run=marks.get("not run"),
                is_slow="slow" in marks,
            )
        )
        marks = {}
    return found


def steps_of(block: Block) -> list[Step]:
    """Raises ValueError for a block that starts with something else than a command."""
    steps: list[tuple[list[str], list[str]]] = []
    goes_on = False
    for line in block.text.splitlines():
        if goes_on:
            steps[-1][0].append(line)
        elif line.startswith("$ "):
            steps.append(([line.removeprefix("$ ")], []))
        elif steps:
            steps[-1][1].append(line)
        elif line:
            raise ValueError(f"{block}: starts with no `$ ` line")
        goes_on = bool(steps) and not steps[-1][1] and _goes_on("\n".join(steps[-1][0]))
    return [Step(command="\n".join(command), output="\n".join(output).strip("\n")) for command, output in steps]


def _goes_on(command: str) -> bool:
    """Whether the next line belongs to it: after a backslash, or within quotes."""
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def is_slow(block: Block) -> bool:
    if block.is_slow or block.folder in SLOW_FOLDERS:
        return True
    return block.language == "console" and not all(
        step.verb in FAST or _programs(step.command).isdisjoint({"cifar-deploy", "python", "make"}) or _is_piped(step)
        for step in steps_of(block)
    )


def _is_piped(step: Step) -> bool:
    """Whether every call in it is of FAST: `cifar-deploy choose --json | jq .winner`."""
    parts = re.split(r"\|\|?|&&|;", step.command)
    calls = [Step(command=part.strip(), output="") for part in parts if "cifar-deploy" in part]
    return bool(calls) and all(call.verb in FAST for call in calls)


def _programs(command: str) -> set[str]:
    """What a shell would start: the first word of each part."""
    parts = [part.split() for part in re.split(r"\|\|?|&&|;|\n", command.replace("\\\n", " "))]
    return {Path(part[0]).name for part in parts if part and not part[0].startswith("#")}


def missing(block: Block) -> str | None:
    """Of the programs that a machine may lack, one that this block needs and this machine lacks."""
    steps = steps_of(block) if block.language == "console" else []
    needed = {program for step in steps for program in _programs(step.command)}
    return next((program for program in sorted(needed & OPTIONAL) if not shutil.which(program)), None)


# The folders that blocks run in. To add one, add its name, and how an empty folder becomes it.


def _empty(folder: Path) -> None:
    pass


def _clone(folder: Path) -> None:
    """What is shipped: networks, and their results."""
    for name in ("exported", "reports"):
        listed = subprocess.run(["git", "ls-files", "-z", name], cwd=ROOT, capture_output=True, check=True, text=True)
        for file in filter(None, listed.stdout.split("\0")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / file)


def _digits(folder: Path) -> None:
    """resnet8, trained for one epoch of small steps, in two formats and six short rounds beside the checkpoint."""
    chosen = ["checkpoint", "torchscript", "onnx"], ["pytorch", "torchscript", "onnxruntime"]
    options = [word for format in chosen[0] for word in ("--format", format)]
    run = ["run", "--dataset", "digits", "--network", "resnet8", "--epochs", "1", "--train-batch-size", "16", *options]
    run += [word for backend in chosen[1] for word in ("--backend", backend)]
    run += [word for metric in ("accuracy", "latency", "memory", "file_size") for word in ("--metric", metric)]
    run += ["--learning-rate", "0.003", "--seconds", "0.05", "--rounds", "6", "--no-controls"]
    subprocess.run([sys.executable, "-m", "cifar_deploy", *run], cwd=folder, check=True, capture_output=True, text=True)


FOLDERS: dict[str, Callable[[Path], None]] = {"empty": _empty, "clone": _clone, "digits": _digits}
SLOW_FOLDERS = {"digits"}


class Session:
    """Runs the blocks of a page in one folder, one after the other."""

    def __init__(self, folder: Path, *, in_process: bool) -> None:
        self._folder = folder
        self._in_process = in_process
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> Iterator[tuple[Step, str]]:
        """Each step of a console block with what it printed; of a script nothing. Raises AssertionError if one failed."""
        if block.language == "python":
            code = compile("\n" * block.line + block.text, str(block.page), "exec")
            with _wide(), as_in_a_new_process(self._folder), contextlib.redirect_stdout(io.StringIO()):
                exec(code, self._names)
            return
        for step in steps_of(block):
            code, printed = self._ran(step)
            may_fail = "cifar-deploy: error: " in step.output
            assert (code != 0) == may_fail, f"{block}: `{step.command}` ended with {code}:\n{printed}"
            yield step, printed

    def _ran(self, step: Step) -> tuple[int, str]:
        if self._in_process and step.verb:
            with _wide():
                done = run_here(*step.words[1:], cwd=self._folder)
            return done.returncode, done.stdout + _without_progress(done.stderr)
        with tempfile.TemporaryDirectory() as programs, _wide():
            for name, words in {
                "cifar-deploy": [sys.executable, "-m", "cifar_deploy"],
                "python": [sys.executable],
                "python3": [sys.executable],
            }.items():
                program = Path(programs) / name
                program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
                program.chmod(0o755)
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", step.command],
                cwd=self._folder,
                env={**os.environ, "PATH": os.pathsep.join([programs, os.environ["PATH"]])},
                capture_output=True,
                text=True,
            )
        return done.returncode, done.stdout + _without_progress(done.stderr)


def _without_progress(errors: str) -> str:
    """What a reader at a terminal sees of stderr: there progress is a bar, and not a line every half minute."""
    return re.sub(r"^[^:\n]+: \d+/\d+ .*\n", "", errors, flags=re.M)


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


# A verdict and a shared rank depend on how quiet a machine is, as a number does.
_NUMBER = re.compile(r"\b[0-9a-f]{12,}\b|[-+]?\d(?:,?\d)*(?:\.\d+)?(?:e[-+]?\d+)?")
_VERDICT = re.compile(r"\b(?:noisy|invalid|T-(?=\d))")


def differs(step: Step, printed: str) -> str | None:
    """The first line that is shown and was not printed in its place; None if there is none.

    Words have to be equal, numbers need not, save for those of EXACT. A line `...` stands for any lines, and `...` within
    a line for anything.
    """
    if not step.output:
        return None
    plain = (lambda line: line) if step.verb in EXACT else _without_numbers
    shown, found = [[plain(" ".join(line.split())) for line in text.splitlines()] for text in (step.output, printed)]
    shown = [line for line in shown if line]
    text = "".join(f"{line}\n" for line in found if line)
    patterns = ["(?:.*\n)*" if line == "..." else _pattern(line) + "\n" for line in shown]
    if re.fullmatch("".join(patterns), text):
        return None
    for count, line in enumerate(shown, start=1):
        if not re.match("".join(patterns[:count]), text):
            return f"not printed there: {line}"
    return "more is printed; a line `...` leaves it out"


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split("...")))


def _without_numbers(line: str) -> str:
    return " ".join(_NUMBER.sub("#", _VERDICT.sub("", line)).split())


def parse(block: Block) -> None:
    """A file that is shown is one. Raises ValueError or yaml.YAMLError where it is not."""
    readers: dict[str, Callable[[str], Any]] = {"toml": tomllib.loads, "json": json.loads, "yaml": _yaml}
    readers[block.language](block.text)


def _yaml(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def renew(page: Path) -> None:
    """Write what the blocks of a page show anew: all of what a step prints, or each line of an excerpt."""
    sessions: dict[str, Session] = {}
    lines = page.read_text().splitlines()
    with tempfile.TemporaryDirectory() as temporary:
        for block in blocks_of(page):
            if block.not_run is not None or block.language not in ("console", "python") or missing(block):
                continue
            if block.folder not in sessions:
                folder = Path(temporary) / block.folder
                folder.mkdir()
                FOLDERS[block.folder](folder)
                sessions[block.folder] = Session(folder, in_process=False)
            for step, printed in sessions[block.folder].run(block):
                if not differs(step, printed):
                    continue
                shown, found = step.output.splitlines(), [line.rstrip() for line in printed.strip("\n").splitlines()]
                _replace(lines, shown, _renewed(shown, found) if "..." in shown else found)
                page.write_text("\n".join(lines) + "\n")


def _renewed(shown: Sequence[str], found: Sequence[str]) -> list[str]:
    """An excerpt, with each line that is no longer printed replaced by the one that is most like it, where there is one."""
    renewed, start = [], 0
    for line in shown:
        rest = found[start:]
        same = next(
            (one for one in rest if re.fullmatch(_pattern(" ".join(line.split())), " ".join(one.split()))), None
        )
        near = difflib.get_close_matches(line, rest, n=1) if not same and "..." not in line else [line]
        renewed += near
        if line != "..." and (taken := same or (near[0] if near else None)) in rest:
            start += rest.index(taken) + 1
    return renewed


def _replace(lines: list[str], old: Sequence[str], new: Sequence[str]) -> None:
    """Of a page, with the indentation that the old ones have."""
    wanted = [line.strip() for line in old]
    stripped = [line.strip() for line in lines]
    start = next(number for number in range(len(lines)) if stripped[number : number + len(wanted)] == wanted)
    indent = lines[start].removesuffix(old[0])
    lines[start : start + len(wanted)] = [(indent + line).rstrip() for line in new]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        renew(Path(name).resolve())

"""Every code block of README.md and docs/ does what the page shows, or says why it is not run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cifar_deploy.core.locks import Lock
from tests import blocks
from tests.blocks import FOLDERS, PAGES, Block, Session, Step, blocks_of, differs, is_slow, missing, parse, steps_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.not_run is None and block.language in ("console", "python")]

Make = Callable[[str], Path]


@pytest.fixture
def copy_of(of_all: Path, tmp_path: Path) -> Make:
    """A fresh copy of a folder of FOLDERS, which is made once."""

    def copy(name: str) -> Path:
        made = of_all / "folders" / name
        with Lock(of_all / f"folder-{name}.lock", None):
            if not made.exists():
                started = made.with_name(f"{name}.started")
                shutil.rmtree(started, ignore_errors=True)
                started.mkdir(parents=True)
                FOLDERS[name](started)
                started.rename(made)
        return Path(shutil.copytree(made, tmp_path / name))

    return copy


def _groups() -> Iterator[object]:
    """The blocks of a page that run in one folder. One that is slow makes all of them slow."""
    for page, folder in dict.fromkeys((block.page, block.folder) for block in RUN):
        those = [block for block in RUN if (block.page, block.folder) == (page, folder)]
        marks = [pytest.mark.slow] if any(map(is_slow, those)) else []
        yield pytest.param(those, id=f"{page.relative_to(blocks.ROOT)}-{folder}", marks=marks)


@pytest.mark.parametrize("those", [*_groups()])
def test_a_block_prints_what_its_page_shows(those: list[Block], copy_of: Make) -> None:
    session = Session(copy_of(those[0].folder), in_process=not any(map(is_slow, those)))
    for block in those:
        if program := missing(block):
            pytest.skip(f"{program} is not installed")
        for step, printed in session.run(block):
            told = differs(step, printed)
            assert not told, f"{block}: `{step.command}`\n{told}\n\nIt printed:\n{printed}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    known = ("console", "python", "toml", "json", "yaml", "text")
    assert block.language in known, f"`{block.language}` is not one of {', '.join(known)}"
    assert block.not_run != "", "a block that is not run says why"
    assert block.folder in FOLDERS
    if block.language in ("toml", "json", "yaml") and block.not_run is None:
        parse(block)


PAGE = """\
Text.

<!-- run in: clone -->
<!-- slow -->
```console
$ cifar-deploy evaluate --rounds 6 \\
    --format onnx  # a comment
one line
...
$ cifar-deploy list
```

- in a list:

  <!-- not run: it needs a phone -->
  ```python
  print(1)
  ```

````text
```console
$ not a command
```
````
"""


@pytest.fixture
def found(tmp_path: Path) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    return blocks_of(page)


def test_a_block_is_found_with_its_marks(found: list[Block]) -> None:
    first, second, third = found
    assert (first.language, first.folder, first.not_run, first.is_slow, first.line) == (
        "console",
        "clone",
        None,
        True,
        5,
    )
    assert (second.language, second.folder, second.not_run) == ("python", "empty", "it needs a phone")
    assert second.text == "print(1)"
    assert third.language == "text" and "not a command" in third.text


def test_a_step_is_a_command_with_its_lines_and_what_stands_below(found: list[Block]) -> None:
    first, second = steps_of(found[0])
    assert first.words[1:] == ["evaluate", "--rounds", "6", "--format", "onnx"] and first.verb == "evaluate"
    assert first.output == "one line\n..."
    assert (second.verb, second.output) == ("list", "")


def test_a_mark_above_no_fence_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: lost -->\n\n```console\n$ false\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:2: the mark above is above no fence"):
        blocks_of(page)


@pytest.mark.parametrize(
    ("command", "slow"),
    [
        ("cifar-deploy choose --max-latency 5ms", False),
        ("cifar-deploy train --help", False),
        ("cifar-deploy choose --json | jq .winner", False),
        ("ls reports", False),
        ("cifar-deploy bench a.onnx", True),
        ("cifar-deploy bench a.onnx --json | jq .report", True),
        ("make run", True),
    ],
)
def test_a_command_that_measures_is_slow(command: str, slow: bool) -> None:
    block = Block(page=Path("page.md"), line=1, language="console", text=f"$ {command}")
    assert is_slow(block) == slow


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("resnet8  3.1 ms", "resnet8 12.7 ms", True),
        ("resnet8 3.1 ms", "resnet8 3.1 s", False),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\nd", "a\nb\nd", False),
        ("b\n...\na", "a\nb", False),
        ("made in ... MiB", "made in /tmp/x, 3 MiB", True),
        ("rank T-1 noisy", "rank 2", True),
        ("12 ms invalid", "3 ms", True),
        ("fingerprint be71bb1f2980b094", "fingerprint 0123456789abcdef", True),
        ("1.5e-07 of 1,437", "2.0 of 10", True),
    ],
)
def test_words_are_compared_and_numbers_are_not(shown: str, printed: str, same: bool) -> None:
    assert (differs(Step(command="cifar-deploy evaluate", output=shown), printed) is None) == same


def test_numbers_are_compared_where_the_results_are_given() -> None:
    assert differs(Step(command="cifar-deploy choose", output="3.1 ms"), "3.2 ms") == "not printed there: 3.1 ms"


def test_more_than_is_shown_is_told() -> None:
    assert differs(Step(command="true", output="a\n...\nb"), "a\nb\nc") == "more is printed; a line `...` leaves it out"


@pytest.mark.parametrize("command", ["false", "cifar-deploy no-such-command", "false | cat"])
def test_a_command_that_fails_fails(command: str, tmp_path: Path) -> None:
    block = Block(page=Path("page.md"), line=1, language="console", text=f"$ {command}")
    with pytest.raises(AssertionError, match="ended with"):
        list(Session(tmp_path, in_process=True).run(block))


def test_an_error_that_is_shown_is_expected(tmp_path: Path) -> None:
    text = "$ cifar-deploy choose\ncifar-deploy: error: ..."
    block = Block(page=Path("page.md"), line=1, language="console", text=text)
    ((step, printed),) = Session(tmp_path, in_process=True).run(block)
    assert differs(step, printed) is None


def test_lines_of_progress_are_left_out(tmp_path: Path) -> None:
    text = "$ printf 'resnet8: 8/50 epoch 1/1\\nwarning: 1\\n' >&2\nwarning: 1"
    ((_step, printed),) = Session(tmp_path, in_process=True).run(
        Block(page=Path("page.md"), line=1, language="console", text=text)
    )
    assert printed == "warning: 1\n"


def test_scripts_of_a_page_share_their_names(tmp_path: Path) -> None:
    session = Session(tmp_path, in_process=True)
    for text in ("import pathlib\npathlib.Path('a').touch()", "assert pathlib.Path('a').exists()"):
        list(session.run(Block(page=Path("page.md"), line=1, language="python", text=text)))
    assert (tmp_path / "a").exists()


def test_an_excerpt_is_written_anew_line_by_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ printf 'head\\nresnet8  12 ms\\nfoot\\n'\n...\nresnet8  13 s\n...\n```\n")
    blocks.renew(page)
    assert page.read_text().splitlines()[2:-1] == ["...", "resnet8  12 ms", "..."]


def test_the_output_of_a_page_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("- As an item:\n\n  ```console\n  $ printf 'one\\n\\n  two\\n'\n  zero\n  ```\n")
    blocks.renew(page)
    assert (
        page.read_text() == "- As an item:\n\n  ```console\n  $ printf 'one\\n\\n  two\\n'\n  one\n\n    two\n  ```\n"
    )

"""docs/quickstart.ipynb: what is committed says nothing of the machine that ran it, and it runs."""

import getpass
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need_package
from tests.notebook import PATH, executed


@pytest.fixture
def notebook() -> Any:
    need_package("nbformat")
    import nbformat

    found = nbformat.read(PATH, as_version=4)
    nbformat.validate(found)
    return found


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def kinds(notebook: Any) -> list[tuple[str, ...]]:
    """Of each output, what it is: printed text, a table, a picture."""
    return [tuple(sorted(output.get("data", {output.get("name"): ""}))) for output in outputs(notebook)]


def test_the_notebook_is_small_and_was_run_once_from_the_start_or_not_at_all(notebook: Any) -> None:
    assert PATH.stat().st_size < 200_000
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts in ([None] * len(counts), list(range(1, len(counts) + 1)))


def test_the_notebook_says_nothing_of_the_machine_that_ran_it(notebook: Any) -> None:
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and set(notebook.metadata.language_info) == {
        "name"
    }
    assert not any(cell.metadata for cell in notebook.cells)
    texts = " ".join(
        str(text) for output in outputs(notebook) for text in (output.get("text"), *output.get("data", {}).values())
    )
    texts = re.sub(r"[A-Za-z0-9+/=\n]{200,}", "", texts)  # pictures
    named = [platform.node(), os.path.expanduser("~"), sys.prefix, "/tmp/", "/home/", "Traceback"]
    assert not [word for word in named if word in texts]
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert getpass.getuser() not in re.findall(r"\w+", texts)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_a_table_and_plots(notebook: Any, tmp_path: Path) -> None:
    for package in ("ipykernel", "matplotlib", "nbclient"):
        need_package(package)
    committed = kinds(notebook)
    shown = kinds(executed(notebook, tmp_path))
    assert committed in ([], shown)
    assert ("stderr",) not in shown and sum("text/html" in kind for kind in shown) == 2
    assert sum("image/png" in kind for kind in shown) == 2
    assert (tmp_path / "runs" / "notebook" / "reports" / "results.jsonl").exists()

"""What the shell is offered to complete a line with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_deploy.core.records import Isa
from tests.in_process import run_here


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder with the records of two trainings, one of which cannot be read, and with what is no training."""
    for name in ("mine-1", "mine-2"):
        (tmp_path / "exported" / name / "checkpoint").mkdir(parents=True)
        (tmp_path / "exported" / name / "checkpoint" / "checkpoint.json").write_text("{")
    (tmp_path / "exported" / "mine-3").mkdir()
    return tmp_path


def _offered(line: str, monkeypatch: pytest.MonkeyPatch, cwd: Path) -> list[str]:
    """As bash asks: a line that ends in a blank wants the next word."""
    monkeypatch.setenv("_CIFAR_DEPLOY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"cifar-deploy {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) + line.endswith(" ")))
    done = run_here(cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("export ", ["mine-1", "mine-2"]),
        ("evaluate mine-2 mi", ["mine-1", "mine-2"]),
        ("evaluate --out . m", ["mine-1", "mine-2"]),
        ("export --out nowhere ", []),
        ("evaluate --max-isa ", ["sse41", "avx2", "avx512"]),
        ("evaluate --max-isa=av", ["avx2", "avx512"]),
        ("evaluate --isa av", ["avx2", "avx512"]),
        ("evaluate --max-", ["--max-isa"]),
        ("evaluate --is", []),
        ("evaluate --precis", []),
        ("export --format onnx_", ["onnx_ort", "onnx_int8", "onnx_fp16"]),
        ("train resnet2", ["resnet20"]),
        ("run --data-", ["--data-dir"]),
        ("env create lit", ["litert"]),
    ],
)
def test_the_shell_is_offered_what_there_is(
    line: str, offered: list[str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(trained)
    assert sorted(_offered(line, monkeypatch, trained)) == sorted(offered)
    assert _files(trained) == before


def test_every_level_of_instructions_can_be_completed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(_offered("evaluate --max-isa ", monkeypatch, trained)) == Isa.__args__  # type: ignore[attr-defined]


def test_a_folder_that_cannot_be_read_offers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported").write_text("no folder")
    assert _offered("export ", monkeypatch, tmp_path) == []
    assert _offered("export --out exported/x ", monkeypatch, tmp_path) == []


def test_completion_imports_no_framework(trained: Path) -> None:
    variables = {"_CIFAR_DEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": "cifar-deploy export ", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cifar_deploy"],
        capture_output=True,
        text=True,
        cwd=trained,
        env={**os.environ, **variables},
    )
    assert done.stdout.split() == ["mine-1", "mine-2"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "onnx", "onnxruntime", "pandas", "sklearn", "PIL", "rich.progress"}

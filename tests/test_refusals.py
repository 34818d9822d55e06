"""A command line that is refused (exit code 2) changes nothing: it leaves no file, no folder and no line in a log."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from cifar_deploy.core.errors import Busy, UsageError
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.machine import allowed_threads
from cifar_deploy.core.store import Store
from tests.conftest import FEW_IMAGES, TINY
from tests.in_process import run_here
from tests.test_cli import assert_refused
from tests.test_docs import COMMANDS

TOO_MANY = str(allowed_threads() + 1)

# What is refused, and what of it is named. `a.onnx` and `notes.txt` are files that exist, `.` is a folder of no results.
WRONG = [
    ("train resnet19", "resnet19"),
    ("train resnet8 --dataset cifar1", "cifar1"),
    ("train resnet8 --dataset image_folder", "--data-dir"),
    ("train resnet8 --dataset image_folder --data-dir nowhere", "nowhere does not exist"),
    ("train resnet8 --dataset cifar10 --data-dir nowhere", "nowhere does not exist"),
    ("train resnet8 --dataset digits --data-dir .", "--data-dir"),
    ("train resnet8 --recipe orignal", "orignal"),
    ("train resnet8 --device cudaa", "cudaa"),
    (f"train resnet8 --threads {TOO_MANY}", "--threads"),
    ("train resnet8 --dataset digits --name ../x", "../x"),
    ("train nowhere:network --dataset digits", "nowhere"),
    ("train my_net.py:build --dataset digits", "write my_net:build"),
    ("train ./my_net.py:build --dataset digits", "write my_net:build"),
    ("train my_net.build --dataset digits", "your own is named module:OBJECT"),
    # What no list holds is looked for before the images are read.
    ("train nowhere:network --dataset image_folder --data-dir nowhere", "module 'nowhere'"),
    ("train torchvision:resnt18 --dataset image_folder --data-dir nowhere", "torchvision:resnet18"),
    (
        "train-all --network resnet8 --network nowhere:network --dataset image_folder --data-dir nowhere",
        "module 'nowhere'",
    ),
    ("train resnet8 --dataset digits --epochs 99999999999999999999", "--epochs"),
    ("train resnet8 --dataset digits --batch-size 99999999999999999999", "--batch-size"),
    ("train resnet8 --dataset digits --learning-rate 1e300", "--learning-rate: 1e+300 is more than"),
    ("train resnet8 --dataset digits --bias-rate 1e300", "--bias-rate: 1e+300 is more than"),
    ("train tests.plugins:nothing --dataset digits", "nothing"),
    (f"train tests.plugins:wrong_shape {' '.join(TINY)}", "(2, 11)"),
    (f"train tests.plugins:of_one_size {' '.join(FEW_IMAGES)} --recipe fast --epochs 3", "24×24"),
    ("train-all --network resnet19", "resnet19"),
    (f"train-all --threads {TOO_MANY}", "--threads"),
    ("run --network resnet19", "resnet19"),
    ("run --metric latncy", "latncy"),
    ("run --format torchscript --backend onnxruntime", "--backend: onnxruntime reads onnx"),
    (f"run --train-threads {TOO_MANY}", "--train-threads"),
    (f"run --threads {TOO_MANY}", "--threads"),
    ("run --dataset image_folder --data-dir nowhere", "nowhere does not exist"),
    ("export", "no trained network"),
    ("export resnet8", "resnet8: no trained network has this name, nor any other"),
    ("export ../resnet8", "../resnet8"),
    ("export --format onxx", "onxx"),
    ("evaluate", "no trained network"),
    ("evaluate resnet8", "resnet8: no trained network has this name, nor any other"),
    ("evaluate --backend onnxruntim", "onnxruntim"),
    ("evaluate --device cudaa", "cudaa"),
    ("evaluate --metric latncy", "latncy"),
    ("bench nowhere.onnx", "nowhere.onnx: does not exist"),
    ("bench notes.txt", "notes.txt: .txt is opened by none"),
    ("bench a.onnx a.onnx", "a.onnx again"),
    ("bench a.onnx --backend onnxruntim", "onnxruntim"),
    ("bench a.onnx --backend torchscript", "a.onnx: .onnx is opened by none of torchscript"),
    ("report", "no results yet"),
    ("choose", "no results yet"),
    ("choose --percentile 90", "--percentile"),
    ("doctor", "does not exist"),
    ("profile resnet8", "resnet8: no trained network has this name, nor any other"),
    ("profile resnet8 --backend onnxruntim", "onnxruntim"),
    ("predict resnet8 a.onnx", "resnet8: no trained network has this name, nor any other"),
    ("predict gone/onnx a.onnx", "gone/onnx: does not exist"),
    ("predict a.onnx a.onnx", "a.onnx: no artifact.json or checkpoint.json lies there"),
    ("predict resnet8 a.onnx --backend onnxruntim", "onnxruntim"),
    ("predict ./a.onnx a.onnx --format onnx", "--format: the record of ./a.onnx says its format"),
    ("predict resnet8", "IMAGE"),
    ("compare nowhere .", "nowhere: does not exist"),
    ("compare . .", "results.jsonl"),
    ("data --dataset cifar1", "cifar1"),
    ("data --dataset image_folder --data-dir nowhere", "nowhere does not exist"),
    ("env create lite", "lite"),
    ("env remove lite", "lite"),
    ("list --frobnicate", "--frobnicate"),
    ("selftest x", "x"),
]

# Of a folder in which resnet8 is trained on few images, exported to torchscript and onnx, and measured.
WRONG_OF_ROAD = [
    (f"train resnet8 {' '.join(FEW_IMAGES)} --epochs 2", "exists already with epochs 1, not 2"),
    ("train resnet8 --dataset digits --epochs 1", "exists already with limit train 128, not unset"),
    (f"train-all --network resnet8 {' '.join(TINY)} --save-fp16", "exists already with weights float32, not float16"),
    ("export resnet9", "did you mean 'resnet8'"),
    ("evaluate resnet9", "did you mean 'resnet8'"),
    ("evaluate --format litert", "--format: no litert of resnet8 is exported"),
    ("evaluate --format onnx --backend torchscript", "--backend: torchscript reads torchscript"),
    ("evaluate --metric accuracy --soak 10m", "--soak"),
    ("evaluate --metric accuracy --verify-memory", "--verify-memory"),
    ("evaluate --metric accuracy --max-isa avx2", "--max-isa"),
    ("choose --max-latency 5", "--max-latency"),
    ("predict resnet8 nowhere.png", "nowhere.png: does not exist"),
    ("predict resnet8 road/reports/raw", "road/reports/raw: holds no image"),
    ("predict resnet8 road/log.txt --format litert", "--format: no litert of resnet8 is exported"),
    ("predict resnet8 road/log.txt --backend torchscript", "--backend: torchscript does not read onnx"),
    ("predict road/exported/resnet8/onnx/labels.txt road/log.txt", "is not the main file of resnet8 onnx"),
    (
        "predict road/exported/resnet8 road/log.txt",
        "road/exported/resnet8: no artifact.json or checkpoint.json lies there",
    ),
    ("bench nowhere.onnx", "nowhere.onnx"),
]


def _tree(folder: Path) -> Mapping[str, object]:
    """Everything below a folder. A lock says who held it last."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and path.name != ".lock" else path.is_dir()
        for path in folder.rglob("*")
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def _takes_out(line: str) -> bool:
    return any("--out" in parameter.opts for parameter in COMMANDS[line.split()[0]].params)


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize(("line", "words"), WRONG, ids=lambda value: value)
def test_a_refused_command_leaves_nothing_behind(
    line: str, words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _tree(here)
    if "digits" not in line:  # which it takes a second to decode
        for name in ("CACHE", "STATE"):
            monkeypatch.setenv(f"CIFAR_DEPLOY_{name}", str(here / name))
    out = ["--out", "new/deeper"] if _takes_out(line) else []
    assert_refused(run_here(*line.split(), *out, cwd=here), 2, words)
    assert _tree(here) == before


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize(
    ("line", "words"),
    [("report", "no results"), ("evaluate", "no trained network"), WRONG[10]],
    ids=lambda value: value,
)
def test_nor_in_the_folder_that_it_was_given_in(line: str, words: str, here: Path) -> None:
    before = _tree(here)
    assert_refused(run_here(*line.split(), cwd=here), 2, words)
    assert _tree(here) == before


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize(("line", "words"), WRONG_OF_ROAD, ids=lambda value: value)
def test_a_refused_command_leaves_results_and_log_as_they_are(
    line: str, words: str, road: Path, tmp_path: Path
) -> None:
    out = tmp_path / "road"
    shutil.copytree(road, out)
    before = _tree(out)
    assert_refused(run_here(*line.split(), "--out", out, cwd=tmp_path), 2, words)
    assert _tree(out) == before and list(tmp_path.iterdir()) == [out]


def test_what_fails_otherwise_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "results.jsonl").write_text("no line of ours\n")
    assert run_here("report", "--out", tmp_path).returncode == 1
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_a_folder_that_holds_something_by_then_stays_with_its_log(tmp_path: Path) -> None:
    root = tmp_path / "out"
    with pytest.raises(UsageError), Store(root) as store:
        store.log.write_text("of use")
        (store.exported / "mine").mkdir(parents=True)
        raise UsageError("of a later step")
    assert store.log.exists() and (store.exported / "mine").exists()


def test_a_lock_that_its_holder_deletes_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with Lock(path, None):
        path.unlink()
        another = Lock(path, "busy; wait")
        with another, pytest.raises(Busy), Lock(path, "busy; wait"):
            pass
    with Lock(path, "busy; wait"):
        assert path.read_text().startswith("process ")

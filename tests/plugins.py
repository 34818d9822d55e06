"""Plugins and functions for the tests that run inside a worker: backends that fail, each in its own way."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.backends import Backend, Input, Opened, Opener, synthetic
from cifar_deploy.core.arrays import Images, ImageSet, Logits, Predict
from cifar_deploy.core.environment import Environment
from cifar_deploy.core.records import Artifact, Job
from cifar_deploy.datasets import Dataset, Preparation
from cifar_deploy.formats import Choices, Source, onnx, torchscript


def measure_and_list_torch(job: Job, root: Path, data_folder: Path) -> list[str]:
    """Measure a job here, then say which modules of torch were imported."""
    from cifar_deploy.workers import measure

    measure.measure(job, root, data_folder, None, "probe", False)
    return sorted(name for name in sys.modules if name.split(".")[0] == "torch")


def _backend(predict: Predict) -> Backend:
    return Backend(
        summary="fails",
        reads=("onnx",),
        targets={"cpu": "cpu"},
        requires=(),
        load=lambda path, artifact, target, threads: predict,
    )


def _crash(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _run_out(images: Images) -> Logits:
    raise MemoryError("no more")


def _refuse(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    raise RuntimeError("no such operator: Frobnicate")


CRASHES = _backend(_crash)
HANGS = replace(synthetic.HANGS, reads=("onnx",))
RUNS_OUT_OF_MEMORY = _backend(_run_out)
ANSWERS_NAN = _backend(lambda images: np.full((len(images), 10), np.nan, np.float32))


def _crash_in_the_third_process(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    """Each process leaves a mark beside the artifact's folder; the third one dies."""
    beside = path.parents[1]
    marks = len(list(beside.glob("mark.*")))
    (beside / f"mark.{os.getpid()}").touch()
    if marks >= 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return lambda images: np.zeros((len(images), 10), np.float32)


CRASHES_ONCE_IN_A_WHILE = Backend(
    summary="crashes in the third process",
    reads=("onnx",),
    targets={"cpu": "cpu"},
    requires=(),
    load=_crash_in_the_third_process,
)
TINY_ENVIRONMENT = Environment(
    name="tiny",
    summary="two packages of a module each",
    packages=("tiny_package==1.0", "iniconfig==99.0"),
    brings=("tiny_package", "iniconfig"),
)


def _load_in_an_environment(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import iniconfig

    assert iniconfig.VERSION == "99.0"
    return lambda images: np.zeros((len(images), 10), np.float32)


IN_AN_ENVIRONMENT = Backend(
    summary="runs in an environment",
    reads=("onnx",),
    targets={"cpu": "cpu"},
    requires=("tiny_package",),
    load=_load_in_an_environment,
    environment=TINY_ENVIRONMENT,
)
REFUSES = Backend(summary="refuses", reads=("onnx",), targets={"cpu": "cpu"}, requires=(), load=_refuse)


def _write_other_weights(source: Source, path: Path) -> Choices:
    import torch

    with torch.no_grad():
        next(source.network[1].parameters()).add_(0.5)  # type: ignore[index]
    return onnx.FORMAT.write(source, path)


def _write_fewer_classes(source: Source, path: Path) -> Choices:
    from torch import nn

    fewer = nn.Sequential(source.network, nn.Linear(10, 5)).eval()
    return torchscript.FORMAT.write(replace(source, network=fewer), path)


DIES_IN_EXPORT = replace(onnx.FORMAT, summary="an export that crashes", write=_crash)
DIES_IN_VALIDATION = replace(
    onnx.FORMAT, summary="an export that crashes its runtime", read_by=("tests.plugins:CRASHES",)
)
WRONG_WEIGHTS = replace(
    onnx.FORMAT,
    summary="an export with a weight that is not the network's",
    write=_write_other_weights,
    read_by=("onnxruntime",),
)
MISREAD = replace(
    onnx.FORMAT,
    summary="an export that one of its two runtimes misreads",
    read_by=("tests.plugins:ANSWERS_NAN", "onnxruntime"),
)
WRONG_SHAPE = replace(
    torchscript.FORMAT, summary="an export with fewer classes", write=_write_fewer_classes, read_by=("torchscript",)
)


def wrong_shape(classes: int) -> Any:
    """A network that has a class too many."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes + 1))


def of_one_size(classes: int) -> Any:
    """A network for images of 32×32 alone."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))


def linear(classes: int) -> Any:
    """A network of one layer."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))


def _noise(data_dir: Path | None, preparation: Preparation) -> ImageSet:
    random = np.random.default_rng(0)
    images = random.integers(256, size=(64, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(64, dtype=np.int64) % 10
    return ImageSet(
        train_images=images,
        train_labels=labels,
        test_images=images[:40],
        test_labels=labels[:40],
        classes=tuple("abcdefghij"),
        source="noise",
    )


NOISE = Dataset(summary="images of nothing", requires=(), identify=lambda data_dir: "noise", load=_noise)


def _opened_to_crash(path: Path, target: str, threads: int) -> Opened:
    return Opened(inputs=(Input(name="x", dtype="float32", shape=(1, 3)),), run=_crash)


CRASHES_ON_ANY_FILE = replace(CRASHES, opens=Opener(suffixes={".onnx": None}, open=_opened_to_crash))
LACKS_A_PACKAGE = replace(CRASHES_ON_ANY_FILE, requires=("a_package_that_nobody_has",))

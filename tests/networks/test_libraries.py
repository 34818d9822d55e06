"""Networks of torchvision and timm by their names, and what such a name cannot do."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar_deploy.core import trust
from cifar_deploy.core.errors import Unavailable, UnknownName, Untrusted, UsageError
from cifar_deploy.core.records import Data
from cifar_deploy.core.registry import load_object, missing
from cifar_deploy.formats import FORMATS
from cifar_deploy.networks import NETWORKS, complete, libraries
from tests.in_process import run_here
from tests.probes import a_checkpoint

needs_timm = pytest.mark.skipif(bool(missing(["timm"])), reason="timm is not installed: pip install timm")

TIMMS = "timm:mobilenetv4_conv_small"


def data_of(height: int, width: int) -> Data:
    return replace(a_checkpoint().training.data, height=height, width=width)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("torchvision:resnet18", 32, 48),
        ("torchvision:mobilenet_v3_small", 32, 32),
        ("torchvision:vit_b_32", 64, 64),
        ("torchvision:swin_t", 64, 96),
        pytest.param("torchvision:maxvit_t", 224, 224, marks=pytest.mark.slow),
        pytest.param("timm:mobilenetv4_conv_small", 32, 48, marks=needs_timm),
        pytest.param("timm:resnet18.a1_in1k", 32, 32, marks=needs_timm),
        pytest.param("timm:vit_tiny_patch16_224", 64, 96, marks=needs_timm),
        pytest.param("timm:swin_tiny_patch4_window7_224", 64, 64, marks=needs_timm),
    ],
)
def test_a_network_is_built_for_the_size_and_the_classes_of_the_data(name: str, height: int, width: int) -> None:
    data = data_of(height, width)
    with torch.device("meta"):  # the shapes alone: large ones are as fast as small ones
        network = complete.build(name, data).eval()
        assert network(torch.zeros(2, 3, height, width)).shape == (2, len(data.classes))


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:",
        "torchvision:models",
        "torchvision:get_image_backend",
        "torchvision:models.resnet:resnet18",
        "torchvision:fcn_resnet50",
        "torchvision:quantized_resnet18",
        "torchvision:../resnet18",
        pytest.param("timm:create_model", marks=needs_timm),
        pytest.param("timm:hf-hub:timm/resnet18.a1_in1k", marks=needs_timm),
        pytest.param("timm:local-dir:.", marks=needs_timm),
        pytest.param("timm:resnet18.no_such_tag", marks=needs_timm),
    ],
)
def test_what_the_library_does_not_list_as_a_classifier_is_no_network(name: str) -> None:
    with pytest.raises(UnknownName, match="no network of t"):
        libraries.build(name, 10, 32, 32)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean torchvision:mobilenet_v3_small or torchvision:mob"):
        libraries.build("torchvision:mobilenet_v3_smal", 10, 32, 32)
    with pytest.raises(UnknownName, match=r"torchvision lists \d+ classifiers"):
        libraries.build("torchvision:zzz", 10, 32, 32)


def test_a_size_that_the_network_cannot_be_built_for_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="torchvision:vit_b_16: cannot be built for images of 65×65"):
        libraries.build("torchvision:vit_b_16", 10, 65, 65)


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Unavailable, match="network timm:resnet18: needs timm; run `pip install timm`"):
        libraries.build("timm:resnet18", 10, 32, 32)


def test_the_name_of_a_librarys_network_is_no_code_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by itself, nor as another kind of plugin that a record names, nor from the current folder."""
    monkeypatch.setenv("CIFAR_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm.py").write_text("raise SystemExit('imported')\n")
    for name in ("torchvision:resnet18", "timm:resnet18"):
        assert NETWORKS.given(name) == name
        assert name not in trust.given() and not trust.code_path().exists()
        with pytest.raises(Untrusted):
            load_object("network", name)
        with pytest.raises(Untrusted):
            FORMATS[name]


@pytest.mark.slow  # three seconds
def test_a_network_with_more_outputs_than_one_in_training_is_refused_with_one_line() -> None:
    from cifar_deploy.training.trial import try_out

    training = replace(a_checkpoint().training, network="torchvision:googlenet", data=data_of(64, 64))
    with pytest.raises(UsageError, match="torchvision:googlenet: returned GoogLeNetOutputs in training"):
        try_out(training, "cpu", 1)


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize(
    "name",
    ["torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small", pytest.param(TIMMS, marks=needs_timm)],
)
def test_a_librarys_network_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    """In float32 its answers must be right; what INT8 keeps of a network of few steps is not asked."""
    few = ["--dataset", "digits", "--limit-train", "256", "--limit-test", "64", "--batch-size", "32", "--epochs", "1"]
    for line in (
        ["train", name, "--name", "theirs", *few],
        ["export", "theirs", "--format", "torchscript", "--format", "onnx"],
        ["evaluate", "theirs", "--backend", "onnxruntime", "--backend", "torchscript", "--metric", "accuracy"],
    ):
        done = run_here(*line, "--out", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "logits differ by at most" in run_here("export", "theirs", "--format", "onnx", "--out", tmp_path).stdout

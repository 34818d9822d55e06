"""The ladder: what the first exporter cannot take is tried with the next, and which one it was is recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar_deploy.core.errors import ExportError
from cifar_deploy.core.records import Trained
from cifar_deploy.formats import Source, onnx
from tests.probes import a_checkpoint


class Plain(nn.Module):
    """Logits of three classes: the mean of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class Branches(Plain):
    def forward(self, images: Tensor) -> Tensor:
        if images.sum() < 0:  # what torch.export refuses, and a trace keeps one side of
            return images.flatten(1)
        return super().forward(images)


class Refuses(Plain):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no such operator: Frobnicate")


def source_of(network: nn.Module) -> Source:
    checkpoint = a_checkpoint()
    data = checkpoint.training.data
    return Source(
        network=network.eval(),
        origin=Trained(checkpoint=checkpoint),
        images=torch.rand(4, 3, data.height, data.width),
        calibration_images=lambda count: np.zeros((count, 3, data.height, data.width), np.float32),
    )


@pytest.mark.parametrize(
    ("network", "exporter", "opset"),
    [(Plain(), "dynamo", 20), (Branches(), "torchscript", 17)],
    ids=["plain", "branches"],
)
def test_the_rung_that_worked_is_recorded(network: nn.Module, exporter: str, opset: int, tmp_path: Path) -> None:
    import onnxruntime

    source = source_of(network)
    choices = onnx.write(source, tmp_path / "model.onnx")
    assert (choices["exporter"], choices["opset"]) == (exporter, opset)
    above = str(choices.get("instead_of", ""))
    assert [rung in above for rung in ("dynamo of opset 20: ", "dynamo of opset 18: ")] == [exporter != "dynamo"] * 2
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):  # any batch size
        images = source.images[:count].numpy()
        (logits,) = session.run(["logits"], {"image": images})
        np.testing.assert_allclose(logits, images.mean((2, 3)), rtol=1e-5)


def test_what_no_rung_takes_says_why_of_each(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refused:
        onnx.write(source_of(Refuses()), tmp_path / "model.onnx")
    for rung in ("dynamo of opset 20: ", "dynamo of opset 18: ", "torchscript of opset 17: RuntimeError: no such"):
        assert rung in str(refused.value)

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import VisionTransformer

from cifar_deploy.core.isolate import Worker
from cifar_deploy.formats import onnx_fp16
from tests.formats.test_onnx import source_of


def answers(path: Path, images: list[list[list[list[float]]]]) -> list[list[float]]:
    """A worker's task: ONNX Runtime may crash."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: np.array(images, np.float32)})
    found: list[list[float]] = np.asarray(logits).tolist()
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_vision_transformer_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=3
    )
    torch.nn.init.normal_(network.heads[0].weight)
    images = torch.rand(4, 3, 32, 32)
    onnx_fp16.write(replace(source_of(network), images=images), tmp_path / "model.onnx")
    found = Worker().call(answers, path=tmp_path / "model.onnx", images=images.tolist())
    with torch.no_grad():
        np.testing.assert_allclose(found, network(images), atol=0.05)

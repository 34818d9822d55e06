"""torch.export's program, run by PyTorch operation by operation."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    module = torch.export.load(path).module()

    def predict(images: Images) -> Logits:
        with torch.inference_mode():
            logits: Logits = module(torch.from_numpy(images)).numpy()
            return logits

    return predict


BACKEND = Backend(
    summary="torch.export's program in PyTorch",
    reads=("torch_export",),
    targets={"cpu": "cpu"},
    requires=("torch",),
    load=load,
)

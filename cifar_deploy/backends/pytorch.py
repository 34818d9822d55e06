"""PyTorch eager: the network's own code, channels last (the faster layout for convolutions on a CPU)."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    from cifar_deploy.networks import complete

    torch.set_num_threads(threads)
    training = artifact.checkpoint.training
    network = complete.on(target, complete.load(training.network, training.data, path))

    def predict(images: Images) -> Logits:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(target, memory_format=torch.channels_last)
            logits: Logits = network(batch).cpu().numpy()
            return logits

    return predict


BACKEND = Backend(
    summary="PyTorch eager, channels last",
    reads=("checkpoint",),
    targets={"cpu": "cpu", "cuda": "cuda", "mps": "mps"},
    requires=("torch", "safetensors"),
    load=load,
)

"""torch.compile: the network's own code, compiled when it first runs (which is in the first call's time)."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch

    from cifar_deploy.networks import complete

    torch.set_num_threads(threads)
    training = artifact.checkpoint.training
    network = torch.compile(
        complete.on(target, complete.load(training.network, training.data, path)), options={"freezing": True}
    )

    def predict(images: Images) -> Logits:
        with torch.no_grad():
            batch = torch.from_numpy(images).to(target, memory_format=torch.channels_last)
            logits: Logits = network(batch).cpu().numpy()
            return logits

    return predict


BACKEND = Backend(
    summary="PyTorch with torch.compile, channels last",
    reads=("checkpoint",),
    targets={"cpu": "cpu", "cuda": "cuda"},
    requires=("torch", "safetensors"),
    programs=("g++",),
    load=load,
    options={"freezing": "on"},
)

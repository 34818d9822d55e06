"""The GPU of an Apple machine, through Metal."""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.machine import machine
from cifar_deploy.devices import Device


def probe() -> str:
    import torch

    if not torch.backends.mps.is_available():
        raise Unavailable("device mps: PyTorch finds no Metal GPU here; use device cpu")
    return f"GPU of {machine().processor}"


def peak_bytes() -> int | None:
    # Metal tells what is allocated now, not the most that ever was.
    return None


DEVICE = Device(summary="the GPU of an Apple machine", probe=probe, peak_bytes=peak_bytes, requires=("torch",))

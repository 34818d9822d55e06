"""An NVIDIA GPU (or an AMD one, through PyTorch's ROCm build, which answers to the same name)."""

from cifar_deploy.core.errors import Unavailable
from cifar_deploy.devices import Device


def probe() -> str:
    import torch

    if not torch.cuda.is_available():
        raise Unavailable("device cuda: PyTorch finds no CUDA GPU here; use device cpu, or check nvidia-smi")
    name: str = torch.cuda.get_device_name()
    return name


def peak_bytes() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated()


def restart_peak() -> None:
    import torch

    torch.cuda.reset_peak_memory_stats()


DEVICE = Device(
    summary="an NVIDIA GPU", probe=probe, peak_bytes=peak_bytes, restart_peak=restart_peak, requires=("torch",)
)

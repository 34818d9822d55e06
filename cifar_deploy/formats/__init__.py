"""From a network to a file. A new format is one file here and one line below.

`checkpoint` is what training writes; the others are made from it by `export`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Format:
    """`write(network, images, path, checkpoint)` writes `path` and whatever belongs beside it.

    The network is in evaluation mode on the CPU; `images` are real ones, float32 (N, 3, H, W) in [0, 1]. Raises
    ExportError if the outcome is not what was asked for; any other exception counts as one too.
    """

    summary: str
    filename: str
    requires: tuple[str, ...]  # import names
    write: Callable[[nn.Module, Tensor, Path, Checkpoint], None]
    # The parity gate: the largest difference of a logit, as a fraction of the largest logit, and the share of images
    # that must keep their label.
    tolerance: float
    agreement: float
    is_program: bool = False  # running the file runs code of whoever wrote it
    read_by: tuple[str, ...] = ()  # backends that do not list this format themselves


FORMATS: Registry[Format] = Registry(
    "format",
    __name__,
    {
        "checkpoint": "checkpoint:FORMAT",
        "torchscript": "torchscript:FORMAT",
        "onnx": "onnx:FORMAT",
    },
)

"""From a network to a file. A new format is one file here and one line below.

`checkpoint` is what training writes; the others are made from it by `export`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from cifar_deploy.core.arrays import Images
from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


Choices: TypeAlias = Mapping[str, int | float | str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a format is made from."""

    network: nn.Module  # in evaluation mode, on the CPU
    checkpoint: Checkpoint
    images: Tensor  # real test images, to trace with and nothing else: float32 (N, 3, H, W) in [0, 1]
    training_images: Callable[[int], Images]  # so many, in a seeded order; raises Unavailable where there are none


@dataclass(frozen=True, kw_only=True)
class Format:
    """`write(source, path)` writes `path` and whatever belongs beside it, and returns what it chose, for the record.

    Raises ExportError if the outcome is not what was asked for; any other exception counts as one too.
    """

    summary: str
    filename: str
    requires: tuple[str, ...]  # import names
    write: Callable[[Source, Path], Choices]
    # The parity gate: the largest difference of a logit, as a fraction of the largest logit, and the share of images
    # that must keep their label.
    tolerance: float
    agreement: float
    programs: tuple[str, ...] = ()  # that must be on the path
    is_program: bool = False  # running the file runs code of whoever wrote it
    is_portable: bool = True  # False: it is for the processor that it was made on, alone
    precision: Literal["float32", "float16", "int8"] = "float32"
    reduces: str | None = None  # the float32 format that this one is a smaller form of
    read_by: tuple[str, ...] = ()  # backends that do not list this format themselves


FORMATS: Registry[Format] = Registry(
    "format",
    __name__,
    {
        "checkpoint": "checkpoint:FORMAT",
        "torchscript": "torchscript:FORMAT",
        "onnx": "onnx:FORMAT",
        "onnx_int8": "onnx_int8:FORMAT",
        "onnx_fp16": "onnx_fp16:FORMAT",
        "onnx_ort": "onnx_ort:FORMAT",
        "torch_export": "torch_export:FORMAT",
        "aoti": "aoti:FORMAT",
        "openvino_ir": "openvino_ir:FORMAT",
    },
)

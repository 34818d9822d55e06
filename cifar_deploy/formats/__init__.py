"""From a network to a file. A new format is one file here and one line below.

`checkpoint` is what training writes; the others are made from it by `export`, each for float32 or uint8 images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Pixels, as_input
from cifar_deploy.core.errors import Corrupt, UnknownName
from cifar_deploy.core.records import Artifact, Baseline, ImageType, Trained, variant_name
from cifar_deploy.core.registry import Registry, Requirements
from cifar_deploy.core.store import CHECKPOINT

if TYPE_CHECKING:
    from torch import Tensor, nn


Choices: TypeAlias = Mapping[str, int | float | str]

# The choice of an INT8 artifact that says which images of the user's it was calibrated on.
CALIBRATION = "calibration_data_hash"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a format is made from."""

    network: nn.Module  # in evaluation mode, on the CPU
    origin: Trained | Baseline
    images: Tensor  # real test images as the network takes them (see Format.prepare), to trace with and nothing else
    # So many as the network takes them, in a seeded order: training images, or those that the user gave. Raises Unavailable
    # where there are none.
    calibration_images: Callable[[int], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Format(Requirements):
    """`write(source, path)` writes `path` and whatever belongs beside it, and returns what it chose, for the record.

    Raises ExportError if the outcome is not what was asked for; any other exception counts as one too.
    """

    summary: str
    filename: str
    write: Callable[[Source, Path], Choices]
    # Output validation: the largest difference of a logit, as a fraction of the largest logit, and the share of images
    # that must keep their label.
    tolerance: float
    agreement: float
    is_program: bool = False  # running the file runs code of whoever wrote it
    is_portable: bool = True  # False: it is for the processor that it was made on, alone
    precision: Literal["float32", "float16", "int8"] = "float32"
    reduces: str | None = None  # the float32 format that this one is a smaller form of
    read_by: tuple[str, ...] = ()  # backends that do not list this format themselves
    input: ImageType = "float32"
    names: tuple[str, str] | None = None  # that the file has for its input and its output; None: it has none
    has_batch: bool = True  # False: it takes one image, without a dimension for more

    def taking(self, input: ImageType) -> Format:
        """The same with another input, which the graph itself brings to what the network takes."""
        if input == self.input:
            return self
        return replace(self, summary=f"{self.summary}; its input is uint8 (N, H, W, 3)", input=input)

    def prepare(self, pixels: Pixels) -> NDArray[Any]:
        """Stored pixels as an artifact of this format takes them: Images, or as they are."""
        return as_input(pixels) if self.input == "float32" else np.ascontiguousarray(pixels)


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
        "openvino_int8": "openvino_int8:FORMAT",
        "litert": "litert:FORMAT",
        "litert_int8": "litert_int8:FORMAT",
        "ncnn": "ncnn:FORMAT",
        "executorch": "executorch:FORMAT",
        "executorch_int8": "executorch_int8:FORMAT",
    },
)


def given(name: str) -> tuple[str, ImageType]:
    """The format and the input that the user named, as `onnx` or `onnx-uint8`. Raises UnknownName."""
    base, input = parted(name)
    if base == CHECKPOINT and input == "uint8":
        raise UnknownName.among(FORMATS.kind, name, FORMATS)
    return FORMATS.given(base), input


def parted(variant: str) -> tuple[str, ImageType]:
    """The format and the input in a name that anybody gave, a record too: code that it names is no more trusted then."""
    base = variant.removesuffix(variant_name("", "uint8"))
    return base, "float32" if base == variant else "uint8"


def format_of(artifact: Artifact) -> Format:
    """Of an artifact that is no external model."""
    assert artifact.format
    return FORMATS[artifact.format].taking(artifact.input)


def main_file(artifact: Artifact, paths: Mapping[str, Path]) -> Path:
    """The file that a runtime loads, among the artifact's verified ones. Raises Corrupt if its record does not list it."""
    name = format_of(artifact).filename
    if name not in paths:
        raise Corrupt(f"{artifact.title}: its record does not list {name}; run `cifar-deploy export --force`")
    return paths[name]

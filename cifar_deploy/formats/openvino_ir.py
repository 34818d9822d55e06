"""OpenVINO's intermediate representation, float32: model.xml and model.bin."""

from __future__ import annotations

import sys
from pathlib import Path

from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import onnx as onnx_format


def write(source: Source, path: Path) -> Choices:
    tell_nobody()
    import openvino

    with onnx_format.temporary(source) as (float_path, made):
        model = openvino.convert_model(float_path)
        openvino.save_model(model, path, compress_to_fp16=False)  # it would, unless told
    return made


def tell_nobody() -> None:
    """For a worker, before it imports OpenVINO's converter or NNCF.

    Both report their use to their maker, unasked, through a package that they do without where it is missing.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


FORMAT = Format(
    summary="OpenVINO IR, float32",
    filename="model.xml",
    names=onnx_format.FORMAT.names,
    requires=(*onnx_format.FORMAT.requires, "openvino"),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

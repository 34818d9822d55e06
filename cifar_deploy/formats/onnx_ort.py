"""ONNX Runtime's own format: the graph as it was optimised for this processor, which then need not be done at each load.

It is for the machine that it was made on: the layout of its convolutions is the one that suits this processor.
"""

from __future__ import annotations

from pathlib import Path

from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import onnx as onnx_format


def write(source: Source, path: Path) -> Choices:
    import onnxruntime

    with onnx_format.temporary(source) as (float_path, made):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.log_severity_level = 3  # its warning, that this is for this machine, is what the format is about
        onnxruntime.InferenceSession(float_path, options, providers=["CPUExecutionProvider"])
    return made


FORMAT = Format(
    summary="ONNX Runtime's own, optimised for this machine and not for any other",
    filename="model.ort",
    names=onnx_format.FORMAT.names,
    requires=(*onnx_format.FORMAT.requires, "onnxruntime"),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
    is_portable=False,
)

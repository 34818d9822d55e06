"""ONNX with float16 weights and arithmetic; input and logits stay float32.

Half of the size. On processors without float16 arithmetic the runtime computes in float32 all the same.
"""

from __future__ import annotations

from pathlib import Path

from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import onnx as onnx_format

# ONNX Runtime 1.32 crashes on a vision transformer whose Gelu is float16: two of its optimizers, NchwcTransformer and
# FuseFp16InitializerToFp32NodeTransformer, do not go together.
_FLOAT32 = ("Gelu",)


def write(source: Source, path: Path) -> Choices:
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with onnx_format.temporary(source) as (float_path, made):
        blocked = [*DEFAULT_OP_BLOCK_LIST, *_FLOAT32]
        model = convert_float_to_float16(onnx.load(float_path), keep_io_types=True, op_block_list=blocked)
    OnnxModel(model).topological_sort()  # the converter puts its casts last
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return made


FORMAT = Format(
    summary="ONNX with float16 weights, half the size",
    filename="model.onnx",
    names=onnx_format.FORMAT.names,
    requires=(*onnx_format.FORMAT.requires, "onnxruntime"),
    write=write,
    tolerance=1e-2,
    agreement=0.99,
    precision="float16",
    reduces="onnx",
)

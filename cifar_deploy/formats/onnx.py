"""ONNX: one file, float32, any batch size, input `image` and output `logits`."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cifar_deploy.core.errors import ExportError
from cifar_deploy.formats import Choices, Format, Source

OPSET = 20  # torch.onnx's own in torch 2.14: the one its converters are tested with


def write(source: Source, path: Path) -> Choices:
    import onnx
    import torch

    # Batch 2 as the example: torch.export takes a batch of 1 for a constant.
    program = torch.onnx.export(
        source.network,
        (source.images[:2],),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)

    model = onnx.load(path)
    checkpoint, data = source.checkpoint, source.checkpoint.training.data
    _check(model, source)
    onnx.helper.set_model_props(
        model,
        {
            "network": checkpoint.training.network,
            "classes": json.dumps(data.classes, ensure_ascii=False),
            "data": data.source,
            "data_fingerprint": data.fingerprint,
            "weights_sha256": checkpoint.weights.sha256,
            "input": "RGB in [0, 1]; the network normalises it"
            if source.images.is_floating_point()
            else "RGB in 0..255, channels last; the network normalises it",
        },
    )
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return {}


@contextlib.contextmanager
def temporary(source: Source) -> Iterator[Path]:
    """The file, for another format to be made from; at the end of the block it is gone."""
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        path = Path(box) / FORMAT.filename
        write(source, path)
        yield path


def _check(model: object, source: Source) -> None:
    """What was asked for is what came: torch.onnx has been seen to change the opset without failing."""
    import onnx

    assert isinstance(model, onnx.ModelProto)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset != OPSET:
        raise ExportError(f"onnx: torch.onnx wrote opset {opset}, not {OPSET}")
    expected = {
        "image": ["batch", *source.images.shape[1:]],
        "logits": ["batch", len(source.checkpoint.training.data.classes)],
    }
    for value in (*model.graph.input, *model.graph.output):
        shape = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if expected.get(value.name) != shape:
            raise ExportError(f"onnx: torch.onnx wrote {value.name} {shape}; expected {expected}")


FORMAT = Format(
    summary="ONNX, one file, float32, any batch size",
    filename="model.onnx",
    requires=("torch", "onnx", "onnxscript"),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

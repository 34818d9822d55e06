"""ONNX: one file, float32, any batch size, input `image` and output `logits`."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cifar_deploy.core.errors import ExportError, is_out_of_memory, one_line
from cifar_deploy.formats import Choices, Format, Source

# The ways to write it, best first: the exporter and its opset. 20 is torch.onnx's own in torch 2.14, the one that its
# converters are tested with; what torch.export cannot take, such as a branch on the images, can still be traced.
_LADDER: tuple[tuple[Literal["dynamo", "torchscript"], int], ...] = (
    ("dynamo", 20),
    ("dynamo", 18),
    ("torchscript", 17),
)
_LONGEST_REASON = 120


def write(source: Source, path: Path) -> Choices:
    failed: list[str] = []
    for exporter, opset in _LADDER:
        try:
            (_dynamo if exporter == "dynamo" else _torchscript)(source, path, opset)
            _complete(source, path, opset)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            failed.append(one_line(f"{exporter} of opset {opset}: {type(error).__name__}: {error}", _LONGEST_REASON))
            continue
        return {"exporter": exporter, "opset": opset, **({"instead_of": "; ".join(failed)} if failed else {})}
    raise ExportError(f"onnx: {'; '.join(failed)}")


def _dynamo(source: Source, path: Path, opset: int) -> None:
    import torch

    # Batch 2 as the example: torch.export takes a batch of 1 for a constant.
    program = torch.onnx.export(
        source.network,
        (source.images[:2],),
        dynamo=True,
        opset_version=opset,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)


def _torchscript(source: Source, path: Path, opset: int) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated, and that a trace keeps the branch that it took
        torch.onnx.export(
            source.network,
            (source.images[:2],),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def _complete(source: Source, path: Path, opset: int) -> None:
    """Check what was written, and add what the file is."""
    import onnx

    model = onnx.load(path)
    origin, data = source.origin, source.origin.data
    _check(model, source, opset)
    onnx.helper.set_model_props(
        model,
        {
            "network": origin.network,
            "classes": json.dumps(data.classes, ensure_ascii=False),
            "data": data.source,
            "data_fingerprint": data.fingerprint,
            "weights_sha256": origin.weights.sha256,
            "input": "RGB in [0, 1]; the network normalises it"
            if source.images.is_floating_point()
            else "RGB in 0..255, channels last; the network normalises it",
        },
    )
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


@contextlib.contextmanager
def temporary(source: Source) -> Iterator[tuple[Path, Choices]]:
    """The file and how it was made, for another format to be made from; at the end of the block it is gone."""
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        path = Path(box) / FORMAT.filename
        yield path, write(source, path)


def _check(model: object, source: Source, asked: int) -> None:
    """What was asked for is what came: torch.onnx has been seen to change the opset without failing."""
    import onnx

    assert isinstance(model, onnx.ModelProto)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset != asked:
        raise ExportError(f"torch.onnx wrote opset {opset}, not {asked}")
    expected = {
        "image": ["batch", *source.images.shape[1:]],
        "logits": ["batch", len(source.origin.data.classes)],
    }
    for value in (*model.graph.input, *model.graph.output):
        shape = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if expected.get(value.name) != shape:
            raise ExportError(f"torch.onnx wrote {value.name} {shape}; expected {expected}")


FORMAT = Format(
    summary="ONNX, one file, float32, any batch size",
    filename="model.onnx",
    names=("image", "logits"),
    requires=("torch", "onnx", "onnxscript"),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

"""LiteRT's interpreter on the processor, with its XNNPACK kernels."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.backends import Backend, Example, Input, Opened, Opener
from cifar_deploy.core.arrays import NUMBERS, Arrays, Images, Logits, Predict, batched
from cifar_deploy.core.content import TFLITE
from cifar_deploy.core.errors import Unsupported
from cifar_deploy.core.records import Artifact, Quantisation
from cifar_deploy.environments.litert import ENVIRONMENT, IMAGE_BY_IMAGE


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    run = _running(_interpreter(path, threads))

    def at_once(images: Images) -> Logits:
        (logits,) = run([images])
        return logits

    def one_by_one(images: Images) -> Logits:
        return np.concatenate([at_once(image) for image in batched(images, 1)])

    return one_by_one if artifact.choices.get("batch") == IMAGE_BY_IMAGE else at_once


def open_(path: Path, target: str, threads: int) -> Opened:
    interpreter = _interpreter(path, threads)
    of_signatures = _names_of_signatures(interpreter)
    try:
        details = interpreter.get_input_details()
    except ValueError as error:  # a type that numpy has not
        types = ", ".join(type_ for type_, _ in _declared(path))
        raise Unsupported(
            f"{path}: LiteRT's Python runtime has no arrays of all its inputs' types ({types})"
        ) from error
    inputs = tuple(
        Input(
            name=each["name"],
            aliases=tuple(of_signatures.get((each["index"], each["name"]), ())),
            dtype=np.dtype(each["dtype"]).name,
            shape=tuple(None if size < 0 else int(size) for size in each["shape_signature"]),
            quantisation=_quantisation(each),
        )
        for each in details
    )
    outputs = tuple(each["name"] for each in interpreter.get_output_details())
    return Opened(inputs=inputs, outputs=outputs, run=_running(interpreter))


def _quantisation(told: Mapping[str, Any]) -> Quantisation | None:
    """Of a whole tensor; a file gives one to the other types too, with a scale of 0."""
    scale, zero_point = told["quantization"]
    if np.dtype(told["dtype"]).kind not in "iu" or not scale > 0:
        return None
    return Quantisation(scale=float(scale), zero_point=int(zero_point))


def _names_of_signatures(interpreter: Any) -> dict[tuple[int, str], list[str]]:
    """By index and name of an input's tensor, what the file's signatures call it: `x`, of `serving_default_x:0`."""
    found: dict[tuple[int, str], list[str]] = {}
    for signature in interpreter.get_signature_list():
        for name, each in interpreter.get_signature_runner(signature).get_input_details().items():
            names = found.setdefault((each["index"], each["name"]), [])
            if name not in (each["name"], *names):
                names.append(name)
    return found


def _corrected(path: Path, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """The inputs as the file declares them.

    The interpreter is no source for them: it reports an unknown rank as a scalar, and float8 and 4-bit types as int8.
    """
    return tuple(
        replace(input, dtype=type_ if type_ not in NUMBERS else input.dtype, shape=input.shape if is_ranked else None)
        for input, (type_, is_ranked) in zip(inputs, _declared(path), strict=True)
    )


def _declared(path: Path) -> list[tuple[str, bool]]:
    """By input, its type in TFLite's words, small, and whether its rank is known."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name.lower() for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    tensors = [graph.Tensors(graph.Inputs(place)) for place in range(graph.InputsLength())]
    return [
        (
            names.get(each.Type(), str(each.Type())),
            bool(each.ShapeLength() or each.ShapeSignatureLength()) or each.HasRank(),
        )
        for each in tensors
    ]


def _running(interpreter: Any) -> Callable[[Arrays], list[NDArray[Any]]]:
    told, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shapes = [tuple(each["shape"]) for each in told]

    def run(arrays: Arrays) -> list[NDArray[Any]]:
        # A file is for one size; a batch of another size than the last is planned anew.
        if [array.shape for array in arrays] != shapes:
            for each, array in zip(told, arrays, strict=True):
                interpreter.resize_tensor_input(each["index"], array.shape)
            interpreter.allocate_tensors()
            shapes[:] = [array.shape for array in arrays]
        for each, array in zip(told, arrays, strict=True):
            interpreter.set_tensor(each["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in outputs]

    return run


def _interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


BACKEND = Backend(
    title="LiteRT",
    summary="LiteRT's interpreter, with XNNPACK",
    reads=("litert", "litert_int8"),
    targets={"cpu": "cpu"},
    requires=("ai_edge_litert",),
    modules=("ai_edge_litert.interpreter",),
    environment=ENVIRONMENT,
    why_no_profile="its Python package does not bind the profiler of its C library",
    load=load,
    example=Example(
        packages=("ai-edge-litert",),
        imports=("from ai_edge_litert.interpreter import Interpreter",),
        run=(
            "interpreter = Interpreter(model_path=str($model))",
            "interpreter.allocate_tensors()",
            'interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)',
            "interpreter.invoke()",
            'logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]',
        ),
    ),
    opens=Opener(suffixes={".tflite": TFLITE}, open=open_, corrected=_corrected),
)

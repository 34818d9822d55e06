"""LiteRT's interpreter on the processor, with its XNNPACK kernels."""

from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.backends import Backend, Input, Opened, Opener
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict
from cifar_deploy.core.records import Artifact
from cifar_deploy.environments.litert import ENVIRONMENT


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    interpreter = _interpreter(path, threads)
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = tuple(image["shape"])

    def predict(images: Images) -> Logits:
        nonlocal shape
        if images.shape != shape:  # the file is for one image; a batch of another size than the last is planned anew
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        logits: Logits = interpreter.get_tensor(output["index"])
        return logits

    return predict


def open_(path: Path, target: str, threads: int) -> Opened:
    interpreter = _interpreter(path, threads)
    told, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shapes = [tuple(each["shape"]) for each in told]
    inputs = tuple(
        Input(
            name=each["name"],
            dtype=np.dtype(each["dtype"]).name,
            shape=tuple(None if size < 0 else int(size) for size in each["shape_signature"]),
        )
        for each in told
    )

    def run(arrays: Arrays) -> object:
        if [array.shape for array in arrays] != shapes:
            for each, array in zip(told, arrays, strict=True):
                interpreter.resize_tensor_input(each["index"], array.shape)
            interpreter.allocate_tensors()
            shapes[:] = [array.shape for array in arrays]
        for each, array in zip(told, arrays, strict=True):
            interpreter.set_tensor(each["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in outputs]

    return Opened(inputs=inputs, run=run)


def _interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


BACKEND = Backend(
    summary="LiteRT's interpreter, with XNNPACK",
    reads=("litert", "litert_int8"),
    targets={"cpu": "cpu"},
    requires=("ai_edge_litert",),
    modules=("ai_edge_litert.interpreter",),
    environment=ENVIRONMENT,
    load=load,
    opens=Opener(suffixes=(".tflite",), open=open_),
)

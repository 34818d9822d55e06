"""LiteRT's interpreter on the processor, with its XNNPACK kernels."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.records import Artifact
from cifar_deploy.environments.litert import ENVIRONMENT


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
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


BACKEND = Backend(
    summary="LiteRT's interpreter, with XNNPACK",
    reads=("litert", "litert_int8"),
    targets={"cpu": "cpu"},
    requires=("ai_edge_litert",),
    modules=("ai_edge_litert.interpreter",),
    environment=ENVIRONMENT,
    load=load,
)

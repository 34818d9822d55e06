"""ONNX Runtime with all graph optimisations."""

from pathlib import Path
from typing import Any

from cifar_deploy.backends import Backend, Input, Opened, Opener
from cifar_deploy.core.arrays import Arrays, Images, Logits, Predict
from cifar_deploy.core.content import ONNX, ORT
from cifar_deploy.core.errors import LoadError, Unavailable
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    session = _session(path, target, threads)

    def predict(images: Images) -> Logits:
        logits: Logits = session.run(["logits"], {"image": images})[0]
        return logits

    return predict


def open_(path: Path, target: str, threads: int) -> Opened:
    session = _session(path, target, threads)
    inputs = tuple(
        Input(
            name=node.name,
            dtype=_dtype(node.type),
            shape=tuple(node.shape),
        )
        for node in session.get_inputs()
    )

    def run(arrays: Arrays) -> object:
        return session.run(None, {input.name: array for input, array in zip(inputs, arrays, strict=True)})

    return Opened(inputs=inputs, run=run)


def _dtype(word: str) -> str:
    """Numpy's name of "tensor(float)" and its like; of a sequence or a map its own word."""
    if not word.startswith("tensor("):
        return word
    return {"float": "float32", "double": "float64"}.get(inner := word[len("tensor(") : -1], inner)


def _session(path: Path, target: str, threads: int) -> Any:
    import onnxruntime

    if target not in onnxruntime.get_available_providers():
        raise Unavailable(f"backend onnxruntime: has no {target} here; pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    # Unset, the pool would have the machine's size, whatever the affinity.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The gain over PyTorch on convolutions comes with the last level (its blocked NCHWc layout).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=[target])
    if session.get_providers()[0] != target:
        raise LoadError(
            f"onnxruntime: asked for {target}, got {session.get_providers()[0]}; pip install onnxruntime-gpu"
        )
    return session


BACKEND = Backend(
    summary="ONNX Runtime, all graph optimisations",
    reads=("onnx", "onnx_int8", "onnx_fp16", "onnx_ort"),
    targets={"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
    requires=("onnxruntime",),
    load=load,
    opens=Opener(suffixes={".onnx": ONNX, ".ort": ORT}, open=open_),
)

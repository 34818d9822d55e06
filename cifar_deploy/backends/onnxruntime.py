"""ONNX Runtime with all graph optimisations."""

from pathlib import Path

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.errors import LoadError, Unavailable
from cifar_deploy.core.records import Artifact


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
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

    def predict(images: Images) -> Logits:
        logits: Logits = session.run(["logits"], {"image": images})[0]
        return logits

    return predict


BACKEND = Backend(
    summary="ONNX Runtime, all graph optimisations",
    reads=("onnx", "onnx_int8", "onnx_fp16", "onnx_ort"),
    targets={"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
    requires=("onnxruntime",),
    load=load,
)

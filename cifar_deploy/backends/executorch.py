"""ExecuTorch's runtime, in Python. It takes few images a call: a larger batch is several calls."""

from pathlib import Path

import numpy as np

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.errors import LoadError
from cifar_deploy.core.records import Artifact
from cifar_deploy.environments.executorch import ENVIRONMENT, MOST_IMAGES


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    torch.set_num_threads(threads)
    # Before anything is loaded: the pool has the machine's size otherwise, and a program keeps the one that it found.
    portable_lib._unsafe_reset_threadpool(threads)
    if (got := portable_lib._threadpool_get_thread_count()) != threads:
        raise LoadError(f"executorch: asked for {threads} threads, got {got}")
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    if method is None:
        raise LoadError(f"{path}: this program has no method forward")

    def few(images: Images) -> Logits:
        (logits,) = method.execute([torch.from_numpy(images)])
        return np.array(logits)  # the runtime uses its memory again

    def predict(images: Images) -> Logits:
        if len(images) <= MOST_IMAGES:
            return few(images)
        return np.concatenate(
            [few(images[start : start + MOST_IMAGES]) for start in range(0, len(images), MOST_IMAGES)]
        )

    return predict


BACKEND = Backend(
    summary="ExecuTorch, through XNNPACK",
    reads=("executorch", "executorch_int8"),
    targets={"cpu": "cpu"},
    requires=("executorch", "torch"),
    modules=("executorch.runtime", "executorch.extension.pybindings.portable_lib"),
    environment=ENVIRONMENT,
    load=load,
    options={"most images a call": MOST_IMAGES},
)

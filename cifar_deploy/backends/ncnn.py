"""ncnn on the processor. It takes one image a call: a batch is so many calls."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cifar_deploy.backends import Backend, Example
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.errors import LoadError
from cifar_deploy.core.records import Artifact

# It would round weights and activations to 16 bits by itself where that is faster.
_OPTIONS: Mapping[str, str] = dict.fromkeys(
    ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"), "off"
)


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in _OPTIONS:
        setattr(net.opt, name, False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise LoadError(f"{path}: ncnn cannot read it")

    def classify(image: Images) -> Logits:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        failed, logits = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"ncnn: the network ended with {failed}")
        return np.array(logits)

    return lambda images: np.stack([classify(image) for image in images])


BACKEND = Backend(
    title="ncnn",
    summary="ncnn, one image a call",
    reads=("ncnn",),
    targets={"cpu": "cpu"},
    requires=("ncnn",),
    why_no_profile="its Python package is built without NCNN_BENCHMARK, its timer of layers",
    load=load,
    example=Example(
        packages=("ncnn",),
        imports=("import ncnn",),
        run=(
            "network = ncnn.Net()",
            "assert network.load_param(str($model)) == 0",
            'assert network.load_model(str($model.with_suffix(".bin"))) == 0',
            "extractor = network.create_extractor()",
            'extractor.input("$input", ncnn.Mat(images[0]))',
            'logits = np.array(extractor.extract("$output")[1])',
        ),
    ),
    options={**_OPTIONS, "images a call": 1},
)

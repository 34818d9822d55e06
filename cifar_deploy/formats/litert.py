"""LiteRT (once TensorFlow Lite), float32: a .tflite file of litert-torch.

It takes images as every other format does (N, 3, H, W), for which the converter puts a transposition in front. Its converter
cannot leave the batch open, so the file is for one image; the runtime resizes it to the batches that it is given. For some
networks (ConvNeXt, ViT) the converter writes the batch of one into a reshape. The runtime cannot resize such a file, and the
backend gives it image by image.
"""

from __future__ import annotations

from pathlib import Path

from cifar_deploy.environments.litert import ENVIRONMENT, IMAGE_BY_IMAGE
from cifar_deploy.formats import Choices, Format, Source


def write(source: Source, path: Path) -> Choices:
    import litert_torch

    litert_torch.convert(source.network, (source.images[:1],)).export(path)
    return {"layout": "NCHW", "batch": "1, resized by the runtime" if _can_resize(path) else IMAGE_BY_IMAGE}


def _can_resize(path: Path) -> bool:
    """Whether the runtime answers two images with the logits of two. With some files it fails, or answers the first alone."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    try:
        interpreter.resize_tensor_input(image["index"], (2, *image["shape"][1:]))
        interpreter.allocate_tensors()
        interpreter.invoke()
    except RuntimeError:
        return False
    return len(interpreter.get_tensor(output["index"])) == 2


FORMAT = Format(
    summary="LiteRT (TensorFlow Lite), float32",
    filename="model.tflite",
    requires=("torch", "litert_torch", "ai_edge_litert"),
    environment=ENVIRONMENT,
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

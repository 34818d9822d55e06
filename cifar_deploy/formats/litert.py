"""LiteRT (once TensorFlow Lite), float32: a .tflite file of litert-torch.

It takes images as every other format does (N, 3, H, W), for which the converter puts a transposition in front. Its converter
cannot leave the batch open, so the file is for one image; the runtime resizes it to the batches that it is given.
"""

from __future__ import annotations

from pathlib import Path

from cifar_deploy.environments.litert import ENVIRONMENT
from cifar_deploy.formats import Choices, Format, Source


def write(source: Source, path: Path) -> Choices:
    import litert_torch

    litert_torch.convert(source.network, (source.images[:1],)).export(path)
    return {"layout": "NCHW", "batch": "1, resized by the runtime"}


FORMAT = Format(
    summary="LiteRT (TensorFlow Lite), float32",
    filename="model.tflite",
    requires=("torch", "litert_torch"),
    environment=ENVIRONMENT,
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

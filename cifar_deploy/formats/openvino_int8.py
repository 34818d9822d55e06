"""OpenVINO's intermediate representation, quantised to INT8 after training by NNCF.

Unless told otherwise NNCF also corrects each layer's bias by what the quantisation has shifted. On a network of little training
(resnet8 after 3 epochs of the digits) that left 77 % of the labels as they were, and leaving it out 99 %. So both are tried, on
several numbers of images: see formats.calibration.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from cifar_deploy.core.arrays import Images, Logits, batched
from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import openvino_ir as float_format
from cifar_deploy.formats.calibration import Calibration, Reported, best

# Whether biases are corrected, and on how many images.
_CALIBRATIONS = ((False, 16), (False, 64), (False, 256), (True, 64), (True, 256))
_BATCH = 32


def write(source: Source, path: Path) -> Choices:
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        float_path = Path(box) / path.name
        made = float_format.write(source, float_path)
        calibrations = [
            Calibration(
                method=f"{'with' if corrects else 'without'} bias correction",
                images=count,
                quantise=functools.partial(_quantise, float_path, corrects),
            )
            for corrects, count in _CALIBRATIONS
        ]
        return {**made, **best(source, float_path, path, calibrations, _logits)}


def _quantise(float_path: Path, corrects: bool, images: Images, path: Path) -> None:
    float_format.tell_nobody()
    import nncf
    import openvino

    quantised = nncf.quantize(
        openvino.Core().read_model(float_path),
        nncf.Dataset(Reported(images, "calibrating, image"), lambda image: image[None]),
        subset_size=len(images),
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=not corrects),
    )
    openvino.save_model(quantised, path, compress_to_fp16=False)


def _logits(path: Path, images: Images) -> Logits:
    import openvino

    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    batches = Reported(list(batched(images, _BATCH)), "comparing labels, batch")
    return np.concatenate([compiled(batch)[0] for batch in batches])


FORMAT = Format(
    summary="OpenVINO IR INT8, by NNCF, calibrated on training images",
    filename="model.xml",
    names=float_format.FORMAT.names,
    requires=(*float_format.FORMAT.requires, "nncf"),
    write=write,
    tolerance=0.5,
    agreement=0.9,
    precision="int8",
    reduces="openvino_ir",
)

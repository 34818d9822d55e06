"""ExecuTorch, quantised to INT8 after training by torchao: activations and weights signed, weights per channel.

Its observer of the activations is a histogram, whose range loses the least; on how many images it looks is found by
formats.calibration.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Logits
from cifar_deploy.environments.executorch import ENVIRONMENT, MOST_IMAGES
from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import executorch as float_format
from cifar_deploy.formats.calibration import Calibration, Reported, best

_IMAGES = (16, 64, 256)
_BATCH = 16


def write(source: Source, path: Path) -> Choices:
    calibrations = [
        Calibration(method="histogram", images=count, quantise=functools.partial(_quantise, source))
        for count in _IMAGES
    ]
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        float_path = Path(box) / path.name
        made = float_format.write(source, float_path)
        return {**made, **best(source, float_path, path, calibrations, _logits)}


def _quantise(source: Source, images: NDArray[Any], path: Path) -> None:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    with torch.no_grad():
        observed = prepare_pt2e(float_format.program(source.network, source).module(), quantizer)
        for batch in Reported(torch.from_numpy(images).split(_BATCH), "calibrating, batch"):
            observed(batch)
        quantised = convert_pt2e(observed)
    float_format.lower(quantised, source, path)


def _logits(path: Path, images: NDArray[Any]) -> Logits:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)  # which the method does not keep
    method = program.load_method("forward")
    assert method is not None
    batches = Reported(torch.from_numpy(images).split(MOST_IMAGES), "comparing labels, batch")
    return np.concatenate([np.array(method.execute([batch])[0]) for batch in batches])


FORMAT = Format(
    summary="ExecuTorch INT8, through XNNPACK, calibrated on training images",
    filename="model.pte",
    requires=(*float_format.FORMAT.requires, "torchao"),
    environment=ENVIRONMENT,
    write=write,
    tolerance=0.5,
    agreement=0.9,
    precision="int8",
    reduces="executorch",
)

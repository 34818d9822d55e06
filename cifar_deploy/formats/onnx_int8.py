"""ONNX, quantised to INT8 after training: QDQ, activations unsigned, weights signed and per channel.

Unsigned activations with signed weights are what ONNX Runtime has kernels for on x86; with both signed it is several
times slower, and says nothing. Several calibrations are tried (see formats.calibration); its entropy method is not among
them: as it is set up it finds the same ranges as MinMax, to the last digit.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Logits, batched
from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import onnx as onnx_format
from cifar_deploy.formats.calibration import Calibration, Reported, best

# The percentage of an activation's values that its range holds, and on how many images.
_CALIBRATIONS = ((100.0, 16), (100.0, 64), (100.0, 256), (99.99, 64), (99.99, 256), (99.9, 256))
_BATCH = 32


def write(source: Source, path: Path) -> Choices:
    with onnx_format.temporary(source) as (float_path, made):
        calibrations = [
            Calibration(
                method="MinMax" if percentile == 100 else f"{percentile}th percentile",
                images=count,
                quantise=functools.partial(_quantise, float_path, percentile),
            )
            for percentile, count in _CALIBRATIONS
        ]
        return {**made, **best(source, float_path, path, calibrations, _logits)}


def _quantise(float_path: Path, percentile: float, images: NDArray[Any], path: Path) -> None:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        """In batches, of which its length and ranges count too."""

        def __init__(self) -> None:
            self._all = list(batched(images, _BATCH))
            self.set_range(0, len(self))

        def __len__(self) -> int:
            return len(self._all)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._batches = iter(Reported(self._all[start_index:end_index], "calibrating, batch"))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"image": batch}

    extra: dict[str, Any] = {}
    if percentile < 100:
        # Symmetric, its own choice for percentiles, would waste half of an unsigned range. Its histograms are made of a
        # batch after the other: else it would first keep each layer's output for all images.
        extra = {"CalibTensorRangeSymmetric": False, "CalibPercentile": percentile, "CalibStridedMinMax": 1}
    q.quantize_static(
        float_path,
        path,
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod.MinMax if percentile == 100 else q.CalibrationMethod.Percentile,
        extra_options=extra,
    )


def _logits(path: Path, images: NDArray[Any]) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batches = Reported(list(batched(images, _BATCH)), "comparing labels, batch")
    return np.concatenate([session.run(["logits"], {"image": batch})[0] for batch in batches])


FORMAT = Format(
    summary="ONNX INT8 (QDQ: activations unsigned, weights signed and per channel), calibrated on training images",
    filename="model.onnx",
    names=onnx_format.FORMAT.names,
    requires=(*onnx_format.FORMAT.requires, "onnxruntime"),
    write=write,
    tolerance=0.5,
    agreement=0.9,
    precision="int8",
    reduces="onnx",
)

"""LiteRT, quantised to INT8 after training: activations and weights signed, weights per channel; float32 in and out.

Its quantiser takes the ranges of the activations from one image after the other: the least and the greatest of all, or
averages that move with each image. Which of them, and on how many images, is found by formats.calibration.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from cifar_deploy.core.arrays import Images, Logits
from cifar_deploy.environments.litert import ENVIRONMENT
from cifar_deploy.formats import Choices, Format, Source
from cifar_deploy.formats import litert as litert_format
from cifar_deploy.formats.calibration import Calibration, Reported, best

_CALIBRATIONS = (("MinMax", 16), ("MinMax", 64), ("MinMax", 256), ("moving average", 64), ("moving average", 256))


def write(source: Source, path: Path) -> Choices:
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        float_path = Path(box) / path.name
        converted = litert_format.write(source, float_path)
        _flatten_biases(float_path)
        calibrations = [
            Calibration(method=method, images=count, quantise=functools.partial(_quantise, float_path, method))
            for method, count in _CALIBRATIONS
        ]
        return {**converted, **best(source, float_path, path, calibrations, _logits)}


def _flatten_biases(path: Path) -> None:
    """Rewrite the file with every bias of a fully connected layer as one dimension.

    The converter fuses an addition into the layer and keeps its shape, as (1, 1, 1, 768) in ConvNeXt. The quantiser gives such
    a bias 768 scales along its first dimension, which LiteRT refuses.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code == schema.BuiltinOperator.FULLY_CONNECTED and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                bias = graph.tensors[operator.inputs[2]]
                if model.buffers[bias.buffer].data is not None:  # it is a constant, and no other layer's answer
                    bias.shape, bias.shapeSignature = np.array([np.prod(bias.shape)], np.int32), None
    flatbuffer_utils.write_model(model, str(path))


def _quantise(float_path: Path, method: str, images: Images, path: Path) -> None:
    from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    told = recipe_manager.RecipeManager()
    told.load_quantization_recipe(recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        # Else images and logits would be INT8 too, and whoever calls would have to know their scales.
        told.add_quantization_config(".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    ranges = calibrator.Calibrator(
        str(float_path),
        num_threads=1,
        qsv_update_func=qsv_utils.min_max_update if method == "MinMax" else qsv_utils.moving_average_update,
    )
    ((signature, ends),) = ranges.get_signature_list().items()
    (image,) = ends["inputs"]
    calls = [{image: each[None]} for each in images]
    ranges.calibrate({signature: Reported(calls, "calibrating, image")}, told)
    quantised = quantizer.Quantizer(str(float_path), told.get_quantization_recipe()).quantize(ranges.get_model_qsvs())
    quantised.export_model(str(path))


def _logits(path: Path, images: Images) -> Logits:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    logits = []
    for each in Reported(images, "comparing labels, image"):
        interpreter.set_tensor(image["index"], each[None])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(output["index"]))
    return np.concatenate(logits)


FORMAT = Format(
    summary="LiteRT INT8 (activations and weights signed, weights per channel), calibrated on training images",
    filename="model.tflite",
    requires=(*litert_format.FORMAT.requires, "ai_edge_quantizer"),
    environment=ENVIRONMENT,
    write=write,
    tolerance=0.5,
    agreement=0.9,
    precision="int8",
    reduces="litert",
)

import tempfile
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.formats.litert_int8 import FORMAT, _flatten_biases, _logits, _quantise
from tests import probes
from tests.conftest import Exported

pytestmark = pytest.mark.slow


def test_convolutions_are_of_int8_and_images_and_logits_are_not(exported: Exported) -> None:
    artifact, path = exported("litert_int8")
    told = Worker(interpreter=interpreter_for(FORMAT)).call(probes.types_in_litert, path=path)
    assert told == {"input": "float32", "output": "float32", "convolutions": "int8 int8 int8"}
    assert artifact.choices["calibration_images"] in (16, 64, 256)


def test_a_bias_that_the_converter_left_in_four_dimensions_is_quantised(exported: Exported) -> None:
    """As of ConvNeXt's layers, here of the last one of a network whose float file is exported."""
    _, path = exported("litert")
    differences = Worker(interpreter=interpreter_for(FORMAT)).call(quantised_with_a_bias_of_four_dimensions, path=path)
    assert differences == {"float": 0.0, "INT8": pytest.approx(0, abs=0.1)}


def quantised_with_a_bias_of_four_dimensions(path: Path) -> dict[str, float]:
    """A worker's task: the largest differences of a logit from the file's own, as shares of the largest logit."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    with tempfile.TemporaryDirectory() as box:
        changed, quantised = Path(box) / "changed.tflite", Path(box) / "quantised.tflite"
        model = flatbuffer_utils.read_model(str(path))
        (graph,) = model.subgraphs
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
                bias = graph.tensors[operator.inputs[2]]
                bias.shape = np.array([1, 1, 1, *bias.shape], np.int32)
        flatbuffer_utils.write_model(model, str(changed))
        _, *shape = graph.tensors[graph.inputs[0]].shape
        images = np.random.default_rng(0).random((8, *shape), np.float32)
        expected = _logits(path, images)
        _flatten_biases(changed)
        _quantise(changed, "MinMax", images, quantised)
        largest = np.abs(expected).max()
        return {
            "float": float(np.abs(_logits(changed, images) - expected).max() / largest),
            "INT8": float(np.abs(_logits(quantised, images) - expected).max() / largest),
        }

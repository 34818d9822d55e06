import onnx
from onnx import TensorProto, numpy_helper

from tests.conftest import Exported


def test_activations_are_unsigned_and_weights_signed_and_per_channel(exported: Exported) -> None:
    _, path = exported("onnx_int8")
    graph = onnx.load(path).graph
    constants = {constant.name: constant for constant in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made_by = {output: node for node in graph.node for output in node.output}
    assert len(convolutions) == 9
    for node in convolutions:
        activation, weight = (made_by[name] for name in node.input[:2])
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        assert constants[activation.input[2]].data_type == TensorProto.UINT8
        stored, scales = constants[weight.input[0]], numpy_helper.to_array(constants[weight.input[1]])
        assert stored.data_type == TensorProto.INT8
        assert scales.shape == (stored.dims[0],), "a scale for each output channel"


def test_the_calibration_is_chosen_on_training_images_and_recorded(exported: Exported) -> None:
    artifact, _ = exported("onnx_int8")
    # Half of the 1,437 training digits at most calibrate, here as many as there are candidates for.
    assert artifact.choices["calibration_images"] in (16, 64, 256)
    assert artifact.choices["held_out_images"] == 1437 - 256
    agreement = artifact.choices["held_out_agreement"]
    assert isinstance(agreement, float) and agreement > 0.95
    assert ", calibration " in artifact.chosen and ", held out agreement " in artifact.chosen

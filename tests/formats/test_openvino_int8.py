from xml.etree import ElementTree

import pytest

from tests.conftest import Exported

pytestmark = pytest.mark.slow


def test_every_convolutions_weights_are_of_int8(exported: Exported) -> None:
    artifact, path = exported("openvino_int8")
    layers = list(ElementTree.parse(path).getroot().iter("layer"))
    stored = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    convolutions = [layer for layer in layers if layer.get("type") == "Convolution"]
    weights = [data for data in stored if data is not None and data.get("element_type") == "i8"]
    assert len(convolutions) == 9 and len(weights) == 9 + 1, "the last layer's too"
    assert sum(layer.get("type") == "FakeQuantize" for layer in layers) >= 9
    assert artifact.choices["calibration_images"] in (16, 64, 256)

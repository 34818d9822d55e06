import pytest

from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.formats.litert_int8 import FORMAT
from tests import probes
from tests.conftest import Exported

pytestmark = pytest.mark.slow


def test_convolutions_are_of_int8_and_images_and_logits_are_not(exported: Exported) -> None:
    artifact, path = exported("litert_int8")
    told = Worker(interpreter=interpreter_for(FORMAT)).call(probes.types_in_litert, path=path)
    assert told == {"input": "float32", "output": "float32", "convolutions": "int8 int8 int8"}
    assert artifact.choices["calibration_images"] in (16, 64, 256)

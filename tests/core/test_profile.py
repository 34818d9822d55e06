"""A profile counts what its operators say, and calls as often as it has time."""

from dataclasses import replace

import numpy as np
import pytest

from cifar_deploy.core.profile import Calls
from cifar_deploy.core.records import File
from tests.probes import a_job, a_profile, an_operator

JOB = replace(a_job(format="onnx_int8"), backend="onnxruntime")
MIXED = a_profile(
    JOB,
    an_operator("a", "Conv", "float32", 0.002),
    an_operator("b", "QLinearConv", "uint8", 0.001),
    an_operator("c", "QLinearConv", "int8", 0.003),
    an_operator("d", "Conv", "float16", 0.001),
    an_operator("e", "Gemm", "int8", 0.0005),
)


def test_convolutions_are_counted_by_precision_and_nothing_else_is() -> None:
    assert MIXED.convolutions() == {"float32": 1, "int8": 2, "float16": 1}
    assert MIXED.convolutions_in("int8") == "2 of 4 convolutions run in INT8"
    assert MIXED.convolutions_in("float16") == "1 of 4 convolutions run in FP16"


def test_a_runtime_that_does_not_say_is_not_counted_as_float() -> None:
    unknown = a_profile(JOB, an_operator("a", "Conv", None, 0.001), an_operator("b", "Conv", None, 0.001))
    assert unknown.convolutions_in("int8") == "2 convolutions run; the runtime does not say in which precision"


def test_operators_of_a_type_and_a_precision_stand_together_largest_first() -> None:
    found = [(one.type, one.precision, one.calls, one.seconds) for one in MIXED.by_type()]
    assert found == [
        ("QLinearConv", "int8", 8, 0.004),
        ("Conv", "float32", 4, 0.002),
        ("Conv", "float16", 4, 0.001),
        ("Gemm", "int8", 4, 0.0005),
    ]
    assert MIXED.profiled_share == pytest.approx(0.75)
    assert [one.name for one in MIXED.by_node()] == ["c", "a", "b", "d", "e"]


def test_a_profile_is_of_one_artifact_on_one_machine_with_one_set_of_versions() -> None:
    assert MIXED.is_of(JOB)
    others = [
        replace(JOB, backend="openvino"),
        replace(JOB, versions={**JOB.versions, "onnxruntime": "0"}),
        replace(JOB, machine=replace(JOB.machine, instructions=("avx2",))),
        replace(JOB, artifact=replace(JOB.artifact, files=(File(name="model.onnx", bytes=1, sha256="2" * 64),))),
    ]
    assert not any(map(MIXED.is_of, others))


@pytest.mark.parametrize(("seconds", "count"), [(1e-9, 5), (100.0, 200)])
def test_calls_are_at_least_five_and_at_most_two_hundred(seconds: float, count: int) -> None:
    seen: list[int] = []
    batches = [np.full((1,), index) for index in range(3)]

    def predict(batch: np.ndarray) -> np.ndarray:
        seen.append(int(batch[0]))
        return batch

    found = Calls(batches=batches, seconds=seconds).timed(predict)
    assert len(found) == len(seen) == count
    assert seen[:5] == [0, 1, 2, 0, 1]  # the batches in turn

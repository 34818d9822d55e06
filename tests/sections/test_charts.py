"""The charts of a report hold the numbers of its results, in the unit of their axis."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cifar_deploy.core.charts import Bars, Chart, Forest, Heat, Lines, Scatter
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import Job, Measurement, Parity, Run, Trained, UnderIsa
from cifar_deploy.core.statistics import difference
from cifar_deploy.core.table import Table
from cifar_deploy.stages import report
from tests.probes import a_job, a_run, a_session

EAGER = a_job()
ONNX = replace(a_job(format="onnx"), backend="onnxruntime")
INT8 = replace(a_job(format="onnx_int8"), backend="onnxruntime")


def validated(job: Job) -> Job:
    parity = Parity(backend=job.backend, images=256, largest_difference=0, largest_logit=1, agreement=1)
    return replace(job, artifact=replace(job.artifact, parity=(parity,)))


def no_raw(measurement: Measurement) -> Mapping[str, Any]:
    raise Corrupt("no samples")


def once(job: Job, metric: str, **values: float) -> Run:
    return replace(a_run(job=replace(job, metric=metric)), measurement=Measurement(values=values))


def labelled(job: Job, correct: int) -> Run:
    return once(job, "accuracy", accuracy=correct / 1000, correct=correct, images=1000)


def named(job: Job, name: str) -> Job:
    origin = job.artifact.origin
    assert isinstance(origin, Trained)
    training = replace(origin.checkpoint.training, name=name)
    renamed = replace(origin, checkpoint=replace(origin.checkpoint, training=training))
    return replace(job, artifact=replace(job.artifact, origin=renamed))


def built(latencies_ms: Sequence[tuple[Job, float]], *others: Run) -> Table:
    """Of jobs with stated latencies in seven rounds of one session, and of other runs."""
    session = a_session(*(job for job, _ in latencies_ms))
    runs = [
        a_run(job=job, session=session, round=index, value=ms / 1000 * (1 + 0.001 * (index - 3)))
        for job, ms in latencies_ms
        for index in range(7)
    ]
    return report.build(grouped([*runs, *others]), no_raw)


def chart(table: Table, part: str, kind: type[Any]) -> Any:
    found: list[Chart] = [each for each in table.charts if each.part == part and isinstance(each, kind)]
    assert len(found) == 1
    return found[0]


def three() -> Table:
    jobs = [(EAGER, 4.0), (validated(ONNX), 2.0), (validated(INT8), 0.5)]
    return built(jobs, *(labelled(job, correct) for (job, _), correct in zip(jobs, (900, 900, 880), strict=True)))


def test_the_trade_off_has_each_configuration_in_ms_and_percent_and_rings_the_picks() -> None:
    found = chart(three(), "trade-off", Scatter)
    points = {point.shape + ("*" if point.filled else ""): point for point in found.points}
    assert {shape: (point.x, point.y) for shape, point in points.items()} == {
        "PyTorch eager": (pytest.approx(4.0), pytest.approx(90.0)),
        "ONNX Runtime": (pytest.approx(2.0), pytest.approx(90.0)),
        "ONNX Runtime*": (pytest.approx(0.5), pytest.approx(88.0)),
    }
    assert points["PyTorch eager"].x_between == (pytest.approx(3.988), pytest.approx(4.012))
    assert points["ONNX Runtime*"].name == "small onnx_int8 on ONNX Runtime"
    assert [x for x, _ in found.front] == sorted(x for x, _ in found.front)
    assert found.x.log and not found.y.log


def test_the_forest_is_sorted_by_median_with_the_rounds_and_eager_as_its_reference() -> None:
    (panel,) = chart(three(), "speed", Forest).panels
    assert [(span.label, span.text, span.filled) for span in panel.rows] == [
        ("onnx_int8", "0.500", True),
        ("onnx", "2.000", False),
        ("checkpoint", "4.000", False),
    ]
    assert panel.title == "small" and panel.reference == pytest.approx(4.0)
    assert [len(span.dots) for span in panel.rows] == [7, 7, 7]
    assert [span.group for span in panel.rows] == ["1", "2", "3"]
    assert panel.rows[2].between == (pytest.approx(3.988), pytest.approx(4.012)) and panel.rows[2].tick is None


def test_a_backend_stands_beside_a_format_that_several_run() -> None:
    openvino = replace(ONNX, backend="openvino")
    (panel,) = chart(built([(ONNX, 2.0), (openvino, 1.0), (EAGER, 3.0)]), "speed", Forest).panels
    assert [span.label for span in panel.rows] == ["onnx, openvino", "onnx, onnxruntime", "checkpoint"]


def test_quantisation_is_against_the_float_form_on_the_same_runtime() -> None:
    found = chart(three(), "quantisation", Forest)
    accuracy, speed = found.panels
    assert [span.label for span in accuracy.rows] == [span.label for span in speed.rows] == ["small", "onnx_int8"]
    assert accuracy.rows[1].value == pytest.approx(-2.0) and accuracy.rows[1].text == "-2.00"
    low, high = difference(880, 1000, 900, 1000)
    assert accuracy.rows[1].between == (pytest.approx(100 * low), pytest.approx(100 * high))
    assert speed.rows[1].value == pytest.approx(4.0) and speed.rows[1].text == "4.00×"
    assert (accuracy.reference, speed.reference) == (0.0, 1.0)
    assert "two independent shares" in found.notes[0], "without predictions it is not image by image"


def test_older_instructions_are_a_heat_map_of_accuracy_changes() -> None:
    under = replace(INT8, metric="accuracy", trial=UnderIsa(isa="avx2"))
    run = replace(a_run(job=under), measurement=Measurement(values={"accuracy": 0.87, "correct": 870, "images": 1000}))
    found = chart(built([(INT8, 1.0)], labelled(INT8, 880), run), "quantisation", Heat)
    assert found.columns == ("avx2",)
    assert found.rows == {"small onnx_int8, onnxruntime": (pytest.approx(-1.0),)}


def test_memory_is_the_parts_and_what_a_device_without_python_needs() -> None:
    mebibytes = {"python": 18.0, "harness": 20.0, "runtime": 8.0, "model": 3.0, "first": 0.5, "peak": 52.0}
    run = once(INT8, "memory", **{key: value * 2**20 for key, value in mebibytes.items()})
    found = chart(built([(INT8, 1.0)], run), "resident", Bars)
    (bar,) = found.panels["small"]
    assert bar.parts == (18.0, 20.0, 8.0, 3.0, 0.5) and bar.texts == ("52", "3.5")
    assert found.parts == ("python", "measurement overhead", "runtime", "model", "first inference")


def test_only_the_fastest_configuration_of_each_runtime_has_its_bar() -> None:
    values = dict.fromkeys(("python", "harness", "runtime", "model", "first", "peak"), 2.0**20)
    runs = [once(job, "memory", **values) for job in (ONNX, INT8, EAGER)]
    found = chart(built([(ONNX, 2.0), (INT8, 1.0), (EAGER, 3.0)], *runs), "resident", Bars)
    assert {bar.label for bar in found.panels["small"]} == {"onnx_int8", "checkpoint"}


def test_throughput_is_the_best_of_each_runtime_by_network_and_batch() -> None:
    jobs = [replace(job, metric="throughput", batch_size=64) for job in (ONNX, INT8)]
    runs = [
        replace(
            a_run(job=job, session=a_session(*jobs), round=index),
            measurement=Measurement(values={"images_per_second": speed, "samples": 100.0}),
        )
        for job, speed in zip(jobs, (500.0, 900.0), strict=True)
        for index in range(6)
    ]
    found = chart(built([(ONNX, 2.0)], *runs), "batches", Heat)
    assert found.columns == ("small, batch 64",) and found.rows == {"ONNX Runtime": (900.0,)}


def test_the_start_is_in_mib_and_ms() -> None:
    run = a_run(job=ONNX, session=a_session(ONNX))
    assert run.measurement
    values = {**run.measurement.values, "import": 0.5, "load": 0.02, "first": 0.003}
    timed = replace(run, measurement=replace(run.measurement, values=values))
    table = report.build(grouped([timed, once(ONNX, "file_size", bytes=3 * 2**20)]), no_raw)
    found = chart(table, "start", Heat)
    assert found.columns == ("size [MiB]", "import [ms]", "model load [ms]", "first inference [ms]")
    assert found.rows == {"ONNX Runtime, onnx": tuple(map(pytest.approx, (3.0, 500.0, 20.0, 3.0)))}


def test_a_curve_is_the_accuracy_over_the_minutes_of_training() -> None:
    found = chart(built([(EAGER, 1.0)]), "training", Lines)
    assert found.lines == {"small": ((pytest.approx(1 / 60), 50.0), (pytest.approx(2 / 60), 100.0))}


def test_what_was_not_measured_has_no_chart() -> None:
    assert {each.part for each in built([(ONNX, 1.0)]).charts} == {"speed", "training"}

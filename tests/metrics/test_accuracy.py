"""An accuracy is of answers that can be answers, and says how sure it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cifar_deploy import metrics
from cifar_deploy.core.errors import WrongOutput
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import Measurement
from cifar_deploy.metrics import METRICS, RawMeasurement, RuntimeMetric, Workbench, out_of_range
from cifar_deploy.metrics.summary import Summary
from tests.probes import a_job, a_run


def measured(answer: Any) -> RawMeasurement:
    """The accuracy of 70 images of three classes, answered by `answer(batch)`."""
    job = replace(a_job("accuracy"), batch_size=64)
    images = metrics.TestImages(
        pixels=np.zeros((70, 8, 9, 3), np.uint8), labels=np.zeros(70, np.int64), prepare=lambda pixels: pixels
    )
    metric = METRICS["accuracy"]
    assert isinstance(metric, RuntimeMetric)
    bench = Workbench(
        job=job, batches=lambda count, size: [], images=images, import_runtime=lambda: None, load=lambda: answer
    )
    return metric.measure(bench)


def test_the_right_answers_are_counted() -> None:
    assert measured(lambda batch: np.eye(3, dtype=np.float32)[np.zeros(len(batch), int)]).values["accuracy"] == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        lambda batch: np.ones((len(batch), 2), np.float32),
        lambda batch: np.ones((len(batch), 4), np.float32),
        lambda batch: np.ones((len(batch) - 1, 3), np.float32),
        lambda batch: np.ones(len(batch), np.float32),
        lambda batch: np.ones((len(batch), 3, 1), np.float32),
        lambda batch: np.float32(1),
    ],
    ids=["too few columns", "too many columns", "too few rows", "labels", "three dimensions", "a number"],
)
def test_answers_of_another_shape_have_no_accuracy(answer: Any) -> None:
    with pytest.raises(WrongOutput, match="gave an array of shape"):
        measured(answer)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_have_no_accuracy(value: float) -> None:
    def answer(batch: Any) -> Any:
        return np.where(np.arange(len(batch))[:, None] == 3, value, np.eye(3)[np.zeros(len(batch), int)])

    with pytest.raises(WrongOutput, match="no numbers"):
        measured(answer)


def test_an_accuracy_has_wilsons_interval() -> None:
    values = {"accuracy": 0.93, "correct": 9300.0, "images": 10000.0}
    run = replace(a_run("accuracy"), measurement=Measurement(values=values))
    (result,) = grouped([run])
    value = Summary(result).values["accuracy"]
    assert value.text(METRICS["accuracy"].columns["accuracy"]) == "93.00 [92.48, 93.48]"


@pytest.mark.parametrize(
    ("metric", "values", "words"),
    [
        ("latency", {"p50": 0.001, "samples": 5, "drift": -0.5}, None),
        ("latency", {"p50": 0.0, "samples": 5}, "above 0"),
        ("latency", {"samples": 5}, "lacks p50"),
        ("latency", {"p50": 0.001}, "lacks samples"),
        ("throughput", {"images_per_second": float("inf"), "samples": 5}, "not a finite"),
        ("accuracy", {"accuracy": 1.01, "correct": 101, "images": 100}, "at most 1"),
        ("accuracy", {"accuracy": 1.0, "correct": 0, "images": 0}, "at least 1"),
        ("memory", {"runtime": -4096, "peak": 1}, None),
        ("memory", {"peak": -1}, "above 0"),
        ("file_size", {"bytes": -1}, "at least 0"),
    ],
)
def test_values_that_cannot_be_are_told(metric: str, values: dict[str, float], words: str | None) -> None:
    fault = out_of_range(metric, values)
    assert fault is None if words is None else fault and words in fault

"""What `evaluate` says of what it measured, or found measured."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar_deploy.core.records import Measurement
from cifar_deploy.core.store import Store
from cifar_deploy.stages.evaluate import evaluate
from cifar_deploy.stages.plan import Planned
from tests.probes import a_job, a_run


@pytest.mark.parametrize(
    ("predicted", "told"),
    [
        (np.zeros(90), "at chance: each of the 90 images got the same label, and 60 are of other classes"),
        (
            np.roll(np.arange(90), 1) % 3,
            "at chance: 0 of 90 right is not above 33.3%, the share of the commonest class",
        ),
        (np.arange(90) % 3, None),
    ],
)
def test_an_accuracy_at_chance_is_warned_of_even_if_it_was_measured_before(
    predicted: np.ndarray, told: str | None, tmp_path: Path
) -> None:
    job, labels = a_job("accuracy"), np.arange(90) % 3
    right = int((predicted == labels).sum())
    measurement = Measurement(values={"accuracy": right / 90, "correct": right, "images": 90}, raw="abc")
    with Store(tmp_path) as store:
        store.raw_path("abc").parent.mkdir(parents=True)
        arrays = {"predicted": predicted.astype(np.int32), "labels": labels, "chosen": np.arange(90)}
        np.savez(store.raw_path("abc"), **arrays)
        store.append(replace(a_run(job=job), measurement=measurement))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (outcome,) = evaluate(store, [Planned(job=job)])
    assert outcome.reused
    assert [str(one.message) for one in caught] == ([f"small checkpoint pytorch accuracy: {told}"] if told else [])

"""Top-1 accuracy: the share of the whole test set that the artifact labels right, through its own backend.

Its interval is Wilson's, of 95 % (Wilson 1927): what other images of the same kind might have given. Each image's
predicted label and its margin (the largest logit minus the second) are kept. core.verdict says when it is at chance.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import choose
from cifar_deploy.core.errors import WrongOutput
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Job, Within
from cifar_deploy.core.table import Column
from cifar_deploy.metrics import Compared, RawMeasurement, RuntimeMetric, Workbench


def measure(bench: Workbench) -> RawMeasurement:
    limit, images = bench.job.limit_test, bench.images
    assert images
    chosen = choose(len(images.labels), limit)
    labels = images.labels[chosen]
    pixels = images.pixels if limit is None else images.pixels[chosen]
    predict = bench.load()
    data = bench.job.artifact.data
    assert data
    classes = len(data.classes)
    predicted, margins = [], []
    for batch in images.batches(pixels, bench.job.batch_size):
        logits = np.asarray(predict(batch))
        if logits.shape != (len(batch), classes):
            raise WrongOutput(
                f"{bench.job.backend}: gave an array of shape {logits.shape} for {len(batch)} images; expected "
                f"{(len(batch), classes)}"
            )
        if not np.isfinite(logits).all():
            raise WrongOutput(f"{bench.job.backend}: gave logits that are no numbers")
        top = np.sort(logits, axis=1)[:, -2:]
        predicted.append(logits.argmax(axis=1))
        margins.append(top[:, 1] - top[:, 0])
        report(len(predicted) * bench.job.batch_size, len(labels))
    arrays = {
        "predicted": np.concatenate(predicted).astype(np.int32),
        "margins": np.concatenate(margins),
        "labels": labels,
        "chosen": chosen if images.places is None else images.places[chosen],  # which of the test images these are
    }
    return RawMeasurement(values=derived(bench.job, arrays), arrays=arrays)


def derived(job: Job, arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    count = len(arrays["labels"])
    correct = int((arrays["predicted"] == arrays["labels"]).sum())
    return {"accuracy": correct / count, "correct": correct, "images": count}


METRIC = RuntimeMetric(
    summary="top-1 over the whole test set, through the artifact, on its backend",
    better="higher",
    columns={
        "accuracy": Column(
            title="accuracy",
            unit="%",
            stored_unit="1",
            scale=100,
            interval=True,
            judged=True,
            within=Within(least=0, most=1),
            share_of="images",
        ),
        "correct": Column(title="correct", unit="images", stored_unit="images", digits=0, headline=False),
        "images": Column(
            title="tested", unit="images", stored_unit="images", digits=0, headline=False, within=Within(least=1)
        ),
    },
    compared_by="accuracy",
    compared=(Compared(column="accuracy", place=2),),
    batch_size=64,
    options=("limit_test",),
    measure=measure,
    derived=derived,
    per_image=True,
    needs_labels=True,
)

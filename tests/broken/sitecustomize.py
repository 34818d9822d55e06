"""Breaks one thing in every worker that starts with this folder on its path: CIFAR_DEPLOY_TEST_BREAK says which.

`selftest` must notice each: see tests/test_selftest.py.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar_deploy.metrics import Measurement, Workbench


def clock() -> None:
    """Every call takes a fifth less than it does."""
    from cifar_deploy.metrics import latency, throughput, timing

    right = timing.timed
    for module in (latency, throughput):
        module.timed = lambda *given: right(*given) * 4 // 5


def memory_part() -> None:
    """What the load takes is booked to the first call."""
    from cifar_deploy.metrics import memory

    right = memory._steps
    memory._steps = lambda marks: [0, *right(marks)[:-1]]


def off_by_one() -> None:
    """One image fewer counts as right."""
    from cifar_deploy.metrics import accuracy

    right = accuracy.METRIC.measure

    def wrong(bench: Workbench) -> Measurement:
        found = right(bench)
        accuracy = (found.values["correct"] - 1) / found.values["images"]
        return replace(found, values={**found.values, "accuracy": accuracy})

    object.__setattr__(accuracy.METRIC, "measure", wrong)


def no_numbers() -> None:
    """Logits that are no numbers pass for some."""
    import numpy as np

    from cifar_deploy.metrics import accuracy

    class Blind:
        def __getattr__(self, name: str) -> object:
            return (lambda logits: np.True_) if name == "isfinite" else getattr(np, name)

    accuracy.np = Blind()  # type: ignore[assignment]


if broken := os.environ.get("CIFAR_DEPLOY_TEST_BREAK"):
    globals()[broken]()

"""Backends that behave in a known way, so that it can be seen whether the program measures it: for `selftest`.

They read no file. Their logits are those of datasets.synthetic: the first pixel's red says which class an image is of.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from cifar_deploy.backends import Backend
from cifar_deploy.core.arrays import Images, Logits, Predict
from cifar_deploy.core.records import Artifact

HELD_BYTES = 256 * 2**20
BUSY_MS = (1, 5)


def _logits(images: Images, classes: int = 10) -> Logits:
    labels = np.rint(images[:, 0, 0, 0] * 255).astype(np.int64)
    return np.eye(classes, dtype=np.float32)[labels]


def _backend(summary: str, predict: Predict) -> Backend:
    def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
        return predict

    return Backend(summary=summary, reads=("checkpoint",), targets={"cpu": "cpu"}, requires=(), load=load)


def _busy(milliseconds: int) -> Backend:
    def predict(images: Images) -> Logits:
        end = time.perf_counter_ns() + milliseconds * 1_000_000
        logits = _logits(images)
        while time.perf_counter_ns() < end:
            pass
        return logits

    return _backend(f"is busy for exactly {milliseconds} ms", predict)


def _load_and_hold(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    held = np.ones(HELD_BYTES, np.uint8)
    return lambda images: _logits(images) * held[0]


def _hold_at_the_first_call() -> Predict:
    held: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []

    def predict(images: Images) -> Logits:
        if not held:
            held.append(np.ones(HELD_BYTES, np.uint8))
        return _logits(images)

    return predict


def _be_killed(images: Images) -> Logits:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _hang(images: Images) -> Logits:
    time.sleep(3600)
    raise AssertionError


ANSWERS = _backend("answers at once", _logits)
BUSY_1_MS = _busy(1)
BUSY_1_MS_TOO = _busy(1)
BUSY_5_MS = _busy(5)
HOLDS = Backend(
    summary="holds 256 MiB from its load on",
    reads=("checkpoint",),
    targets={"cpu": "cpu"},
    requires=(),
    load=_load_and_hold,
)
HOLDS_LATER = _backend("holds 256 MiB from its first call on", _hold_at_the_first_call())
IS_KILLED = _backend("is killed", _be_killed)
HANGS = _backend("never answers", _hang)
ANSWERS_NAN = _backend("answers with no numbers", lambda images: _logits(images) * np.float32("nan"))
ANSWERS_OTHERWISE = _backend("answers otherwise than the network", lambda images: -_logits(images))

"""A backend that runs on a GPU alone, its device, and a format for it, as a user gives them: "tests.own_gpu_backend:BACKEND".

There is no GPU: ONNX Runtime does the work, if the environment says that the device is here.
"""

import os
from dataclasses import replace
from pathlib import Path

from cifar_deploy.backends import Backend, Opened, Opener, onnxruntime
from cifar_deploy.core.arrays import Predict
from cifar_deploy.core.errors import LoadError, Unavailable
from cifar_deploy.core.records import Artifact
from cifar_deploy.devices import Device
from cifar_deploy.formats import onnx

# Set, it says that the device is here.
VARIABLE = "TESTS_OWN_GPU"

_TARGET = "gpu:0"
_ON = onnxruntime.BACKEND.targets["cpu"]


def probe() -> str:
    if VARIABLE not in os.environ:
        raise Unavailable(f"device {_NAME}: there is none here; plug one in")
    return "a GPU"


def load(path: Path, artifact: Artifact, target: str, threads: int) -> Predict:
    _check(target)
    return onnxruntime.load(path, artifact, _ON, threads)


def open_(path: Path, target: str, threads: int) -> Opened:
    _check(target)
    return onnxruntime.open_(path, _ON, threads)


def _check(target: str) -> None:
    if target != _TARGET:
        raise LoadError(f"runs on {_TARGET} alone, not on {target}")


_NAME = "tests.own_gpu_backend:DEVICE"

DEVICE = Device(summary="no GPU", probe=probe, peak_bytes=lambda: None)
BACKEND = Backend(
    summary="runs on a GPU alone",
    reads=("onnx",),
    targets={_NAME: _TARGET},
    validated_on=_NAME,
    requires=("onnxruntime",),
    load=load,
    opens=Opener(suffixes={".onnx": None}, open=open_),
)
FORMAT = replace(
    onnx.FORMAT, summary="for that backend and one other", read_by=("tests.own_gpu_backend:BACKEND", "onnxruntime")
)
FOR_IT_ALONE = replace(onnx.FORMAT, summary="for that backend", read_by=("tests.own_gpu_backend:BACKEND",))

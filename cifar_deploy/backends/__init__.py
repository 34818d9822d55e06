"""From a file to predictions. A new backend is one file here and one line below.

A backend imports its runtime inside `load`: a worker holds the one that it measures and nothing else.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar_deploy.core.arrays import Arrays, Predict
from cifar_deploy.core.content import Content
from cifar_deploy.core.profile import Calls, Profiled
from cifar_deploy.core.records import Artifact, Isa, Quantisation, TrainingMode
from cifar_deploy.core.registry import Registry, Requirements


@dataclass(frozen=True, kw_only=True)
class Input:
    """An argument that a file takes, as far as the file says: None for its type or shape where it does not.

    Only an array of a type in `core.arrays.NUMBERS` can be made up. Any other type is named in the runtime's own words.
    """

    name: str
    dtype: str | None
    # A free dimension is a name or None. () is a scalar, None an array of unknown rank.
    shape: tuple[int | str | None, ...] | None
    aliases: tuple[str, ...] = ()  # other names that the file or its runtime has for it
    quantisation: Quantisation | None = None  # of an integer type that stands for floats


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An external model, loaded: `run` takes an array for each of the inputs, in their order.

    Its outputs are on the host when it returns. `training_mode` looks through the whole program: no measurement asks it.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ()  # names of the outputs, in the order of `run`; (): the runtime has none
    run: Callable[[Arrays], object]
    training_mode: Callable[[], TrainingMode] = TrainingMode


@dataclass(frozen=True, kw_only=True)
class Opener:
    """How a backend opens external models: `open(path, target, threads)`, as `Backend.load`."""

    suffixes: Mapping[str, Content | None]  # and what such a file holds, where core.content recognises that
    open: Callable[[Path, str, int], Opened]
    is_program: bool = False  # running the file runs code of whoever wrote it
    # The inputs, corrected by what the file says and the runtime does not. It may import a parser: nothing that is
    # measured calls it.
    corrected: Callable[[Path, tuple[Input, ...]], tuple[Input, ...]] = lambda path, inputs: inputs
    knows: Callable[[Path], bool] = lambda path: True  # whether a file is of its kind, where two kinds share a suffix


@dataclass(frozen=True, kw_only=True)
class Example:
    """How a program without cifar-deploy runs a file on this runtime: lines of an artifact's example.py (see stages.app).

    `run` sets `logits`, one number a class, from `images`, a batch of one image as the file takes it. In these lines
    $model is the path of the format's main file, $input and $output are the file's own names of both.
    """

    packages: tuple[str, ...]  # that it needs beside numpy and Pillow, as pip calls them
    imports: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Backend(Requirements):
    """`load(path, artifact, target, threads)` gets the format's main file, its hash already verified.

    Returns a function from images as the format takes them (see Format.prepare) to logits, host arrays both. It keeps
    to `threads` threads, and raises LoadError rather than run on another device than `target`. Of the packages that it
    requires the first is the runtime.
    """

    title: str = ""  # the runtime's own name, for people; empty: the backend's
    summary: str
    reads: tuple[str, ...]  # formats
    targets: Mapping[str, str]  # device -> this runtime's own word for it
    # The device on which the output of an export is validated, and external models are opened and benched.
    validated_on: str = "cpu"
    modules: tuple[str, ...] = ()  # that make up the runtime, where its package alone imports next to nothing
    load: Callable[[Path, Artifact, str, int], Predict]
    options: Mapping[str, int | float | str] = field(default_factory=dict)  # that the runtime is told, for the record
    # A level of x86 instructions -> the environment variables that hold the runtime to it. With these set, `load` raises
    # LoadError if it sees that the runtime does not obey.
    isa: Mapping[Isa, Mapping[str, str]] = field(default_factory=dict)
    opens: Opener | None = None
    # As `load`, with the runtime's own profiler on: the backend warms up, makes the calls, and says where their time went.
    profile: Callable[[Path, Artifact, str, int, Calls], Profiled] | None = None
    example: Example | None = None  # of the formats that this runtime is the usual one for
    why_no_profile: str = "it does not say how long an operator takes"  # where `profile` is None

    def import_runtime(self) -> None:
        """All of it, as `load` would."""
        for module in (*self.requires, *self.modules):
            importlib.import_module(module)


BACKENDS: Registry[Backend] = Registry(
    "backend",
    __name__,
    {
        "pytorch": "pytorch:BACKEND",
        "torchscript": "torchscript:BACKEND",
        "onnxruntime": "onnxruntime:BACKEND",
        "openvino": "openvino:BACKEND",
        "pytorch_compile": "pytorch_compile:BACKEND",
        "torch_export": "torch_export:BACKEND",
        "aoti": "aoti:BACKEND",
        "litert": "litert:BACKEND",
        "ncnn": "ncnn:BACKEND",
        "executorch": "executorch:BACKEND",
    },
)


def with_example(format: str) -> Backend | None:
    """The runtime that a format's example.py is for: the first that reads it and has one."""
    return next((plugin for plugin in BACKENDS.values() if format in plugin.reads and plugin.example), None)

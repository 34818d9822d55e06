"""The values that flow through the program, each holding the one before it.

    Recipe -> Checkpoint -> Artifact -> Job -> Run -> Result -> (Table, in core.table)

All are frozen and go to JSON and back unchanged. A failure travels the same way: an Artifact or a Run holds either
what was made or the Failure that stands in its place.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from cifar_deploy.core.codec import to_json
from cifar_deploy.core.defaults import HIGHEST_TEMPERATURE
from cifar_deploy.core.errors import FailureKind
from cifar_deploy.core.progress import counted

# Levels of x86 instructions that a runtime can be held to.
Isa = Literal["sse41", "avx2", "avx512"]

# Of images and convolutions in memory.
Layout = Literal["channels_last", "contiguous"]

# Of convolutions in training.
Arithmetic = Literal["float32", "bfloat16"]

# Pillow's, each with antialiasing but for the first.
Interpolation = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]

# The order of an image's channels.
Channels = Literal["rgb", "bgr"]

# The order of the dimensions of a batch of images.
ImageLayout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Within:
    """A number from `least` to `most`; above `least` only, if `open`. Infinity and NaN are never accepted anywhere."""

    least: float = -math.inf
    most: float = math.inf
    open: bool = False

    def fault(self, value: float) -> str | None:
        if self.least <= value <= self.most and not (self.open and value == self.least):
            return None
        low = "" if self.least == -math.inf else f"{'above' if self.open else 'at least'} {self.least:g}"
        high = "" if self.most == math.inf else f"at most {self.most:g}"
        return f"is not {' and '.join(filter(None, (low, high)))}"


@dataclass(frozen=True)
class NotEmpty:
    def fault(self, value: tuple[Any, ...]) -> str | None:
        return None if value else "is empty"


@dataclass(frozen=True)
class Length:
    least: int
    most: int

    def fault(self, value: tuple[Any, ...]) -> str | None:
        if self.least <= len(value) <= self.most:
            return None
        return f"has {counted(len(value), 'element')}, not {' to '.join(map(str, sorted({self.least, self.most})))}"


@dataclass(frozen=True)
class Moment:
    """ISO 8601 with an offset from UTC."""

    def fault(self, value: str) -> str | None:
        try:
            known = datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            known = False
        return None if known else "is not a time in ISO 8601 with an offset from UTC"


@dataclass(frozen=True)
class PlainName:
    """A name that cannot lead out of the folder that it is looked for in."""

    def fault(self, value: str) -> str | None:
        return None if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value) else "is not a plain name"


@dataclass(frozen=True)
class Sha256:
    """64 hex digits: part of it names a folder."""

    def fault(self, value: str) -> str | None:
        return None if re.fullmatch(r"[0-9a-f]{64}", value) else "is not a sha256"


@dataclass(frozen=True)
class FileName:
    """A file's own name, of characters that can be shown. It leads into no folder."""

    def fault(self, value: str) -> str | None:
        is_plain = 0 < len(value) <= 255 and value.isprintable() and not {"/", "\\"} & set(value)
        return None if is_plain else "is not the name of a file that can be shown"


@dataclass(frozen=True)
class Processors:
    """A list of processors as the kernel writes it: 4-7,2 (see core.affinity)."""

    def fault(self, value: str) -> str | None:
        part = "[0-9]{1,5}(-[0-9]{1,5})?"
        return None if re.fullmatch(f"{part}(,{part}){{0,999}}", value) else "is no list of processors"


NOT_NEGATIVE = Within(least=0)

Count: TypeAlias = Annotated[int, NOT_NEGATIVE]
AtLeastOne: TypeAlias = Annotated[int, Within(least=1)]
NotNegative: TypeAlias = Annotated[float, NOT_NEGATIVE]
Positive: TypeAlias = Annotated[float, Within(least=0, open=True)]
Share: TypeAlias = Annotated[float, Within(least=0, most=1)]
Temperature: TypeAlias = Annotated[float, Within(least=0, most=HIGHEST_TEMPERATURE, open=True)]
Time: TypeAlias = Annotated[str, Moment()]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no value: the kind, the reason in a line, and where it helps the end of the worker's log."""

    kind: FailureKind
    reason: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image of any size is brought to one size: resized, then cropped at its centre, as torchvision does."""

    # Of the shorter side, or (height, width); (): as it is.
    resize: Annotated[tuple[AtLeastOne, ...], Length(0, 2)] = ()
    crop: Annotated[tuple[AtLeastOne, ...], Length(0, 2)] = ()  # (height, width); (): whole
    interpolation: Interpolation = "bilinear"

    def __str__(self) -> str:
        told = []
        if self.resize:
            to = f"the shorter side to {self.resize[0]}" if len(self.resize) == 1 else f"to {as_size(self.resize)}"
            told.append(f"resize {to} ({self.interpolation})")
        if self.crop:
            told.append(f"crop the centre to {as_size(self.crop)}")
        return ", ".join(told) or "none"


def as_size(size: Sequence[int]) -> str:
    """(height, width) as people write it: width×height."""
    return "×".join(map(str, reversed(size)))


_LEAST_STD = 1e-6


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a network that was trained elsewhere expects of an image's pixels in [0, 1]: (pixel - mean) / std."""

    mean: Annotated[tuple[float, ...], Length(3, 3)]  # in the order of `channels`
    std: Annotated[tuple[Positive, ...], Length(3, 3)]
    channels: Channels = "rgb"

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}" + (", BGR" if self.channels == "bgr" else "")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a data set is, without its images."""

    dataset: str  # the name under which it was asked for
    source: str  # where the images came from, for people
    # sha256 of the decoded arrays, the labels, the class names and, if there was one, the preprocessing.
    fingerprint: Annotated[str, Sha256()]
    classes: tuple[str, ...]
    train_images: Count
    test_images: Count
    height: Count
    width: Count
    # Of the training images (of the test images, where there are no others), per channel (red, green, blue), in [0, 1].
    mean: tuple[float, ...]
    std: tuple[NotNegative, ...]
    # What a reader of results should know about the images; None in records of before it was looked for.
    warnings: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None  # that the images went through; None: none, as those of older records

    @property
    def normalisation(self) -> Normalisation:
        """By its mean and std. A channel that is the same in every image stays zero instead of becoming NaN."""
        return Normalisation(mean=self.mean, std=tuple(max(one, _LEAST_STD) for one in self.std))

    def difference(self, other: "Data") -> str | None:
        """In words, that the images are others; None if they are the same."""
        if self.fingerprint == other.fingerprint:
            return None
        mine, theirs = (f"{data.source} ({data.fingerprint[:12]})" for data in (self, other))
        return f"data {mine}, not {theirs}"

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.train_images:,} training and {self.test_images:,} test images, "
            f"{self.width}×{self.height}, {len(self.classes)} classes"
        )


@dataclass(frozen=True, kw_only=True)
class File:
    name: str
    bytes: Count
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:16]})"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained network that taught another one by its logits (Hinton, Vinyals and Dean 2015)."""

    name: str  # in the store
    network: str
    weights: File
    temperature: Temperature  # divides the logits of both networks
    weight: Share  # of its answers in the loss; the labels have the rest

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.weights.sha256[:12]}) at temperature {self.temperature:.15g} "
            f"and weight {self.weight:.15g}"
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides the weights, apart from the network and the data. What has a default is plain training without it."""

    name: str
    optimizer: Literal["adam", "adamw", "sgd"]  # sgd with Nesterov momentum, where it has a momentum
    learning_rate: NotNegative  # at its highest
    epochs: AtLeastOne
    batch_size: AtLeastOne
    seed: Count
    limit_train: Count | None = None  # a seeded choice of so many training images; None: all of them
    momentum: NotNegative = 0.0
    weight_decay: NotNegative = 0.0  # of weights; batch norm's scales have none
    bias_decay: NotNegative = 0.0  # weight decay of biases, batch norm's too
    bias_rate: NotNegative = 1.0  # the learning rate of biases, batch norm's too, as a multiple of all others'
    label_smoothing: Share = 0.0
    warmup: Share = 0.0  # share of all steps in which the learning rate rises from zero to its highest
    decay: Literal["none", "linear", "cosine"] = "none"  # how it falls to zero after that
    shift: Count = 0  # random crop: by so many pixels each way at most; what is then missing is reflected
    flip: Literal["none", "random", "alternating"] = "none"  # alternating: each image every other epoch
    batch_norm: Literal["synchronised", "per-rank"] = "synchronised"  # statistics of all ranks together, or each's own
    arithmetic: Arithmetic = "float32"  # of convolutions, in training; weights stay float32
    weights: Literal["float32", "float16"] = "float32"  # as they are stored, if that leaves the accuracy as it is
    # Of the images' height and width, each for an equal share of the epochs.
    scales: Annotated[tuple[Positive, ...], NotEmpty()] = (1.0,)
    init: File | None = None  # that the first weights are from; None: they are drawn from the seed
    freeze: bool = False  # the last layer alone is trained
    teacher: Teacher | None = None

    def __str__(self) -> str:
        told = [
            self.optimizer,
            f"learning rate {self.learning_rate:g}",
            *([] if self.bias_rate == 1 else [f"of biases {self.learning_rate * self.bias_rate:g}"]),
            counted(self.epochs, "epoch"),
            f"batch {self.batch_size}",
            f"seed {self.seed}",
        ]
        if self.init:
            told.append(f"from {self.init.name}{', all but its last layer frozen' if self.freeze else ''}")
        if self.teacher:
            told.append(f"taught by {self.teacher}")
        if self.arithmetic != "float32":
            told.append(self.arithmetic)
        if self.limit_train:
            told.append(f"only {self.limit_train:,} training images")
        return f"{self.name} ({', '.join(told)})"

    @property
    def summary(self) -> str:
        """What it does, for people."""
        names = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
        told = [
            f"{names[self.optimizer]} at {self.learning_rate:g}",
            "warm-up" if self.warmup else "",
            f"{self.decay} decay" if self.decay != "none" else "",
            counted(self.epochs, "epoch"),
            f"batch {self.batch_size}",
            f"label smoothing {self.label_smoothing:g}" if self.label_smoothing else "",
            f"random crop of ±{counted(self.shift, 'pixel')}" if self.shift else "",
            f"{self.flip} flip" if self.flip != "none" else "",
            "progressive resizing" if len(self.scales) > 1 else "",
        ]
        is_plain = not self.shift and self.flip == "none" and len(self.scales) == 1
        return ", ".join(filter(None, [*told, "no augmentation" if is_plain else ""]))

    def scale(self, epoch: int) -> float:
        """Of the images in an epoch, counted from zero. The last one is always of the last scale."""
        if self.epochs < len(self.scales):
            return self.scales[epoch - self.epochs]
        return self.scales[epoch * len(self.scales) // self.epochs]


_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
_FLOAT16 = {"avx512_fp16", "amx_fp16", "asimdhp"}


@dataclass(frozen=True, kw_only=True)
class Cores:
    """A processor's cores of one kind."""

    name: str
    count: AtLeastOne
    max_hz: Positive | None = None

    def __str__(self) -> str:
        return f"{self.count} × {self.name}" + (f" at {self.max_hz / 1e9:.1f} GHz" if self.max_hz else "")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the numbers were measured on. What has a default is unknown in records of before it was kept."""

    host: str
    processor: str
    cores: Count
    memory_bytes: Count
    system: str
    architecture: str
    python: str
    instructions: tuple[str, ...] = ()  # those that decide how fast a network runs, as Linux names them; () if unknown
    id: str | None = None  # of this one machine, where two of a kind would look alike: see core.hardware.identity
    name: str | None = None  # that its user gave it
    board: str | None = None
    clusters: tuple[Cores, ...] = ()  # the fastest first
    libc: str | None = None
    bits: AtLeastOne | None = None  # of a pointer of the Python that measured
    container: str | None = None
    virtual: bool | None = None
    emulated: bool = False  # another kind of processor plays this one: its times say nothing of the real one

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 2**30:.0f} GiB"
        told = [text for text in (self.name, self.board) if text]
        told += [
            self.chip,
            f"{self.cores} cores",
            memory,
            f"{self.system} {self.architecture}",
            f"Python {self.python}",
        ]
        if len(self.clusters) > 1 or any(kind.max_hz for kind in self.clusters):
            told.insert(-3, " and ".join(map(str, self.clusters)))
        if self.bits and self.bits != 64:
            told.append(f"{self.bits}-bit")
        if self.container:
            told.append(f"in a container ({self.container})")
        if self.virtual:
            told.append("virtual machine")
        if self.emulated:
            told.append("emulated: its times are not the real processor's")
        return ", ".join(told)

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.host

    @property
    def unit(self) -> tuple[str, ...]:
        """What stays the same of one device when its kernel, its Python or its packages change."""
        # A container without an id has another host each time: then the name has to do.
        place = self.id or ("" if self.name else self.host)
        return self.name or "", place, self.architecture, "emulated" if self.emulated else ""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its fields that are known. So a machine's keys do not change when a later version knows of more fields."""
        return {
            field.name: to_json(value)
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name == "instructions"
        }

    @property
    def chip(self) -> str:
        """The processor with its instructions, since one name may stand for several kinds."""
        return f"{self.processor} ({' '.join(self.instructions)})" if self.instructions else self.processor

    def has_int8_dot_products(self) -> bool | None:
        """Whether one instruction multiplies and adds four pairs of INT8 numbers or more; None if unknown."""
        return bool(_DOT_PRODUCTS & set(self.instructions)) if self.instructions else None

    def has_float16(self) -> bool | None:
        """Whether it computes in float16; None if unknown."""
        return bool(_FLOAT16 & set(self.instructions)) if self.instructions else None


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A file of options, as cifar-deploy.toml is one. Where it lies is nobody's business."""

    name: Annotated[str, FileName()]
    sha256: Annotated[str, Sha256()]

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:16]})"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be trained. Two trainings under one name must be equal in this."""

    name: str
    network: str  # a name of `networks`, or module:function
    recipe: Recipe
    data: Data

    def computed_in(self, arithmetic: Arithmetic) -> "Training":
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, arithmetic=arithmetic))

    def difference(self, other: "Training") -> str | None:
        """In what the two differ, in words, or None. Of another network, other data or another recipe only that is said."""
        if self.network != other.network:
            return f"network {self.network}, not {other.network}"
        if difference := self.data.difference(other.data):
            return difference
        if self.recipe.name != other.recipe.name:
            return f"recipe {self.recipe.name}, not {other.recipe.name}"
        told = []
        for field in dataclasses.fields(Recipe):
            mine, theirs = getattr(self.recipe, field.name), getattr(other.recipe, field.name)
            if field.name == "init" and mine and theirs and mine.sha256 == theirs.sha256:
                continue  # the same weights under another name
            if field.name == "limit_train":  # one of all images or more limits nothing
                mine, theirs = (each if each and each < self.data.train_images else None for each in (mine, theirs))
            if mine != theirs:
                told.append(f"{field.name.replace('_', ' ')} {_shown(mine)}, not {_shown(theirs)}")
        return " and ".join(told) or None


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A network that was trained elsewhere, as its user gave it."""

    name: str
    network: str  # a name of `networks`, or module:function
    data: Data  # its classes are the network's outputs, in their order
    normalisation: Normalisation | None  # None: that of `data`
    weights: File | None  # the user's file; None: the network's own function returned them
    entry: str = ""  # of that file, in which the weights were; "": the file holds nothing else
    prefix: str = ""  # that was taken off each of their names

    def __str__(self) -> str:
        weights = str(self.weights) if self.weights else "the weights of its function"
        normalised = f", {self.normalisation}" if self.normalisation else ""
        return f"{self.name} was trained elsewhere: {self.network} with {weights}{normalised}"

    def difference(self, other: "Addition") -> str | None:
        """The first thing in which the two differ, in words, or None. Where in its file the weights were is no difference."""
        if self.network != other.network:
            return f"network {self.network}, not {other.network}"
        if self.weights != other.weights:
            mine, theirs = (
                f"{one.weights.name} ({one.weights.sha256[:12]})" if one.weights else "those of its function"
                for one in (self, other)
            )
            return f"weights {mine}, not {theirs}"
        if difference := self.data.difference(other.data):
            return difference
        if self.normalisation != other.normalisation:
            mine, theirs = (str(one.normalisation or "that of the data") for one in (self, other))
            return f"normalisation {mine}, not {theirs}"
        return None


def _shown(value: Any) -> str:
    """A setting, for people."""
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A training that is under way."""

    training: Training
    replaces: str | None  # when the network that has the name so far was finished


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What else the machine did while a run was timed: see core.disturbance. None where the system does not say."""

    seconds: Positive  # of wall time, to which the rest refers
    run_delay: NotNegative | None  # seconds that this process's threads, together, waited for a processor, per second
    steal: float | None  # seconds that the hypervisor gave to others, of the mean processor, per second
    involuntary_switches: Count | None
    calibration_before: Positive  # seconds of a fixed loop
    calibration_after: Positive
    clock_jump: float  # seconds by which the wall clock moved more than the monotonic one
    frequency_hz: NotNegative | None = None  # of the processor, the mean of all cores, at the end
    temperature_c: float | None = None  # the hottest zone, at the end
    temperature_before_c: float | None = None
    core: Count | None = None  # the processor, counted from 0, on which the process ran at the end
    core_hz: NotNegative | None = None  # its frequency then, just after the fixed loop
    governors: tuple[str, ...] = ()  # that choose the frequencies, as Linux names them
    throttled: tuple[str, ...] = ()  # what the system says slowed the processor meanwhile
    power: str | None = None  # "mains", or "battery" with its level
    power_mode: str | None = None  # as the firmware or the board's own tool names it


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training images.

    `loss` is the mean over the epoch's images, `accuracy` that on the test images (a fraction of 1).
    `seconds` were spent in training steps, `wall_seconds` are those from the epoch's start to its end, evaluation and
    saving included. `disturbances` are of the stretches in which the steps were made: one, or more of an epoch that was
    interrupted.
    """

    loss: float
    accuracy: Share
    seconds: Positive
    wall_seconds: NotNegative
    disturbances: tuple[Disturbance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeadChannels:
    """How many channels of a layer are zero for each of up to 2,000 test images."""

    layer: str
    dead: Count
    channels: Count

    def __str__(self) -> str:
        return f"{self.layer} ({self.dead} of {self.channels})"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network: where it came from, what it cost. Its weights lie beside it.

    Of a network that was trained elsewhere the cost is unknown: `curve` is empty, and `seconds` zero.
    """

    training: Training | Addition
    weights: File
    parameters: Count  # trainable
    macs: Count | None  # for one image; None if not all of them can be counted
    curve: tuple[Epoch, ...]
    test_images: Count  # that the curve's accuracies are over
    device: str
    device_name: str
    threads: AtLeastOne
    peak_bytes: Count | None  # resident, of the training process; None where it can't be read
    device_peak_bytes: Count | None  # allocated on the device, where it has a memory of its own
    machine: Machine
    versions: Mapping[str, str]
    commit: str | None
    finished: str  # UTC, ISO 8601
    ranks: AtLeastOne = 1  # processes that trained it together, each with as many threads
    changes: tuple[str, ...] = ()  # of device, threads, ranks, processor or torch when it went on after an interruption
    # By arithmetic, where the faster one was chosen.
    step_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dead_channels: tuple[DeadChannels, ...] | None = None  # of the layers that have some; None if nobody looked
    rounded_accuracy: Share | None = None  # on the test images, of the weights as float16, where that was asked for
    layout: Layout = "channels_last"  # in which the network was trained, and is run by PyTorch
    uncounted: str | None = None  # why there are no macs
    tested: Share | None = None  # accuracy on the test images of a network that was trained elsewhere
    warnings: tuple[str, ...] = ()  # what a reader of its results should know, without their subject

    @property
    def recipe(self) -> Recipe | None:
        """By which it was trained; None if that was elsewhere."""
        return self.training.recipe if isinstance(self.training, Training) else None

    @property
    def accuracy(self) -> float | None:
        """Of the network itself on the test images; None if it was not tested."""
        return self.curve[-1].accuracy if self.curve else self.tested

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.curve)

    @property
    def wall_seconds(self) -> float:
        return sum(epoch.wall_seconds for epoch in self.curve)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an artifact's logits are from the network's it was made from, on real test images."""

    backend: str
    images: AtLeastOne
    largest_difference: NotNegative  # absolute, of any logit
    largest_logit: NotNegative  # absolute: what the difference is to be seen against
    agreement: Share  # fraction of the images with the same label
    stand_in: str | None = None  # the source of the images, where those that the network was trained on were not here


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A backend through which an artifact does not answer as its network does, though it does through another."""

    backend: str
    versions: Mapping[str, str]  # of the backend: another one may read it rightly
    reason: str


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An array that a file takes, of a known size."""

    name: str
    dtype: str  # as numpy names it
    shape: tuple[Count, ...]
    value: bool | int | float | None = None  # of all its elements; None: random ones

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {str(self.value).lower()}"
        return f"{self.name} {self.dtype} {'×'.join(map(str, self.shape)) or 'scalar'}{value}"

    @property
    def fed(self) -> dict[str, Any]:
        """What is fed: two tensors that are alike in this are fed with the same array, whatever their names."""
        identity = {"dtype": self.dtype, "shape": to_json(self.shape)}
        return identity if self.value is None else {**identity, "value": self.value}


@dataclass(frozen=True, kw_only=True)
class TrainingMode:
    """What of an external model was left in training mode."""

    switched: Count = 0  # modules that were saved in it; they run in evaluation mode
    operators: Mapping[str, Count] = dataclasses.field(default_factory=dict)  # that are in it for good, by name

    @property
    def told(self) -> tuple[str, ...]:
        """Sentences about the file, without their subject."""
        found = []
        if self.switched:
            found.append(
                f"was saved in training mode ({counted(self.switched, 'module')}); it ran in evaluation mode, as after .eval()"
            )
        if self.operators:
            names = ", ".join(f"{count} × {name}" for name, count in sorted(self.operators.items()))
            found.append(
                f"holds operators in training mode ({names}); it ran as it is; to change that, call .eval() and export it again"
            )
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Of a network that was trained here."""

    kind: Literal["trained"] = "trained"
    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        return self.checkpoint.training.name

    @property
    def network(self) -> str:
        """A name of `networks`, or module:function."""
        return self.checkpoint.training.network

    @property
    def data(self) -> Data:
        return self.checkpoint.training.data

    @property
    def normalisation(self) -> Normalisation | None:
        training = self.checkpoint.training
        return training.normalisation if isinstance(training, Addition) else None

    @property
    def weights(self) -> File:
        return self.checkpoint.weights

    @property
    def layout(self) -> Layout:
        return self.checkpoint.layout


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Of a no-op network, whose cost is the runtime's overhead; or of one whose answers are known."""

    kind: Literal["baseline"] = "baseline"
    network: str  # module:function
    data: Data  # whose images it takes
    weights: File
    layout: Layout = "channels_last"
    normalisation: Normalisation | None = None

    @property
    def name(self) -> str:
        # With a space, which the name of a training cannot have.
        return f"no-op {self.data.fingerprint[:12]}"


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """What an integer q stands for: scale * (q - zero_point)."""

    scale: Positive
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Feed:
    """How images reach the input of an external model, and which of its outputs is the answer.

    A float input, or a quantised one, takes scale * (pixel - mean) / std of pixels in [0, 1]. Any other integer input
    takes the pixels in 0..255, an int8 one 128 less.
    """

    data: Data  # whose images; its classes are the model's, in their order
    layout: ImageLayout
    dtype: str  # as numpy names it
    scale: Positive = 1.0
    normalisation: Normalisation | None = None
    quantisation: Quantisation | None = None
    batch: AtLeastOne | None = None  # so many images at a time, no more and no fewer; None: any number
    output: str  # its name
    place: Count  # among the outputs
    answer: Literal["scores", "labels"]  # of each image a number for each class, or the class itself

    @property
    def channels(self) -> Channels:
        return self.normalisation.channels if self.normalisation else "rgb"

    @property
    def is_raw(self) -> bool:
        """Whether pixels are fed as the integers that they are stored as."""
        return "int" in self.dtype and not self.quantisation

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its fields but for the images, which have a fingerprint."""
        return {name: value for name, value in to_json(self).items() if name != "data"}

    def __str__(self) -> str:
        told = [self.dtype, self.layout.upper()]
        if self.is_raw:
            told.append("pixels minus 128" if self.dtype == "int8" else "pixels in 0..255")
        else:
            told.append(f"pixels in 0..{self.scale:g}")
        if self.channels == "bgr":
            told.append("blue first")
        if self.normalisation and not self.is_raw:
            for name, of in (("mean", self.normalisation.mean), ("std", self.normalisation.std)):
                if any(each != of[0] for each in of) or of[0] != (name == "std"):
                    told.append(f"{name} {', '.join(f'{each:g}' for each in of)}")
        if self.quantisation:
            told.append(f"quantised (scale {self.quantisation.scale:g}, zero point {self.quantisation.zero_point})")
        if self.batch:
            told.append(f"{counted(self.batch, 'image')} at a time")
        return ", ".join(told)


@dataclass(frozen=True, kw_only=True)
class External:
    """A file that this program did not make. It takes random arrays, or images where there is a `feed`."""

    kind: Literal["external"] = "external"
    path: str
    takes: tuple[Tensor, ...]
    training_mode: TrainingMode = TrainingMode()
    feed: Feed | None = None

    @property
    def name(self) -> str:
        return self.path


Origin = Trained | Baseline | External

# What the images of an artifact are: (N, 3, H, W) in [0, 1], or (N, H, W, 3) in 0..255.
ImageType = Literal["float32", "uint8"]


def variant_name(format: str, input: ImageType) -> str:
    """A format for people and folders, with its input where that is not the usual one."""
    return format if input == "float32" else f"{format}-{input}"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A network in a format, or an external model. Without files, if the export failed: then `failure` says why.

    The files of an external model stand under their whole paths, the main one first.
    """

    origin: Origin
    format: str | None  # None: an external model's, which its suffix tells
    input: ImageType = "float32"
    files: tuple[File, ...]
    parity: tuple[Parity, ...]  # one for each backend that could be asked here
    failure: Failure | None
    versions: Mapping[str, str]
    seconds: NotNegative
    commit: str | None
    finished: str
    # What its format was told, or chose itself.
    choices: Mapping[str, int | float | str] = dataclasses.field(default_factory=dict)
    mismatches: tuple[Mismatch, ...] = ()
    # A backend that could not validate the artifact, since its device was not here -> why.
    unvalidated: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.origin.name

    @property
    def variant(self) -> str:
        """The format with its input, as a name; "" for an external model."""
        return variant_name(self.format, self.input) if self.format else ""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} {self.variant}".rstrip()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Of the training that it came from, if it came from one."""
        return self.origin.checkpoint if isinstance(self.origin, Trained) else None

    @property
    def takes(self) -> tuple[Tensor, ...]:
        """The arrays that an external model takes; none of one that takes images."""
        return self.origin.takes if isinstance(self.origin, External) else ()

    @property
    def training_mode(self) -> TrainingMode:
        return self.origin.training_mode if isinstance(self.origin, External) else TrainingMode()

    @property
    def feed(self) -> Feed | None:
        """How images reach an external model; None of one that takes random arrays, and of an artifact of ours."""
        return self.origin.feed if isinstance(self.origin, External) else None

    @property
    def data(self) -> Data | None:
        """The data set whose images it takes, if it takes images."""
        if isinstance(self.origin, External):
            return self.feed.data if self.feed else None
        return self.origin.data

    @property
    def weights_sha256(self) -> str | None:
        return None if isinstance(self.origin, External) else self.origin.weights.sha256

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def chosen(self) -> str:
        """The choices in words, for people."""
        return ", ".join(
            f"{name.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
            for name, value in self.choices.items()
        )


@dataclass(frozen=True, kw_only=True)
class Ordinary:
    """Measured as everything is, for the tables."""

    kind: Literal["ordinary"] = "ordinary"

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class UnderLimit:
    """Measured under a memory limit, to check a claimed peak."""

    kind: Literal["under limit"] = "under limit"
    limit_bytes: AtLeastOne
    limited_by: str  # as limits.Limit.kind
    # "either": below the claimed peak, part of which may be shared with other processes.
    expected: Literal["runs", "either", "runs out"]

    def __str__(self) -> str:
        return f"under {self.limit_bytes / 2**20:,.1f} MiB ({self.limited_by})"


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """Measured again and again, in rotation with other jobs, for so long."""

    kind: Literal["sustained"] = "sustained"
    seconds: Positive

    def __str__(self) -> str:
        return f"under load for {self.seconds:g} s"


@dataclass(frozen=True, kw_only=True)
class UnderIsa:
    """Measured with the runtime held to older instructions."""

    kind: Literal["under isa"] = "under isa"
    isa: Isa

    def __str__(self) -> str:
        return f"under {self.isa}"


Trial = Ordinary | UnderLimit | Sustained | UnderIsa


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure: an artifact on a backend and a device, one metric, under stated conditions."""

    artifact: Artifact
    backend: str
    device: str
    metric: str
    threads: AtLeastOne
    batch_size: AtLeastOne
    seconds: Positive | None = None  # of timed calls in a run; None where nothing is timed
    limit_test: AtLeastOne | None = None  # so many test images; None: all, or the metric needs none
    trial: Trial = Ordinary()
    protocol: Count  # rises when a metric's meaning does
    machine: Machine
    versions: Mapping[str, str]
    backend_options: Mapping[str, int | float | str] = dataclasses.field(default_factory=dict)
    cpus: Annotated[str, Processors()] | None = None  # that the worker was kept to; None: all that are allowed

    @property
    def is_ordinary(self) -> bool:
        """Whether its conditions are not the question themselves."""
        return isinstance(self.trial, Ordinary)

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits that identify what is measured. Two jobs share a key if a stored result of one answers the other."""
        identity = {
            "origin": self.artifact.origin.kind,
            "name": self.artifact.name,
            "weights": self.artifact.weights_sha256,
            "data": self.artifact.data.fingerprint
            if self.artifact.data
            else [{"name": tensor.name, **tensor.fed} for tensor in self.artifact.takes],
            "format": self.artifact.format,
            "input": self.artifact.input,
            "files": [file.sha256 for file in self.artifact.files],
            **({"feed": self.artifact.feed.identity} if self.artifact.feed else {}),
            # Earlier versions ran such a program as it was saved.
            **({"switched": True} if self.artifact.training_mode.switched else {}),
            **({"cpus": self.cpus} if self.cpus else {}),
            **{
                name: to_json(getattr(self, name))
                for name in (
                    "backend",
                    "device",
                    "metric",
                    "threads",
                    "batch_size",
                    "seconds",
                    "limit_test",
                    "trial",
                    "backend_options",
                    "protocol",
                )
            },
            "machine": self.machine.identity,
            "versions": to_json(self.versions),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric measured. `raw` names the file beside results.jsonl that holds the samples or predictions."""

    values: Mapping[str, float]
    raw: Annotated[str, PlainName()] | None = None
    raw_sha256: str | None = None  # of that file; None in records of before it was kept
    disturbance: Disturbance | None = None
    stand_in: str | None = None  # as of Parity
    restored: bool = False  # calls write into their input, and each was given it anew


@dataclass(frozen=True, kw_only=True)
class Session:
    """Rounds that belong together: each runs all of `jobs` once, in an order drawn from `seed` and its number."""

    started: Time  # UTC, ISO 8601; with the seed it names the session
    seed: int
    jobs: tuple[str, ...]  # the keys of the jobs, for each metric one of them twice: the control

    def __hash__(self) -> int:
        return hash((self.started, self.seed))  # thousands of runs are grouped by a session of thousands of jobs


@dataclass(frozen=True, kw_only=True)
class Cooling:
    """How the processor cooled down before a round: see core.cooling. Temperatures are of the hottest zone."""

    before_c: float
    after_c: float
    seconds: NotNegative  # that the round waited
    reached: bool  # whether it was as cool as it should be when the round began


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process's work on a job: a measurement or a failure. A timed job has one in each round, any other just one."""

    job: Job
    session: Session | None  # None for what is not timed
    round: Count
    control: bool  # a second run of the same configuration in one round: their difference is the machine's noise
    measurement: Measurement | None
    failure: Failure | None
    started: Time  # UTC, ISO 8601
    seconds: NotNegative  # of wall time, the process's start included
    commit: str | None
    cooling: Cooling | None = None  # before its round; None where no temperature can be read, or there are no rounds
    config_file: ConfigFile | None = None  # with options of the command that made the run
    pack: str | None = None  # the id of the pack that it ran from: see core.packs
    imported: Time | None = None  # when it came from another folder, by the clock of the machine that took it in
    foreign: bool = False  # its artifact was not known there

    @property
    def began(self) -> datetime:
        """The start of its session, but no later than it was imported: a device's clock may be ahead."""
        times = (self.session.started if self.session else self.started, self.imported)
        return min(datetime.fromisoformat(time) for time in times if time)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A job's end: its runs, of one session, by round. If one of them failed, the result has: no crash is averaged out."""

    job: Job
    runs: tuple[Run, ...]

    @property
    def session(self) -> Session | None:
        return self.runs[-1].session

    @property
    def began(self) -> datetime:
        return self.runs[-1].began

    @property
    def control(self) -> bool:
        return self.runs[-1].control

    @property
    def failure(self) -> Failure | None:
        return next((run.failure for run in self.runs if run.failure), None)

    @property
    def measurements(self) -> Mapping[int, Measurement]:
        """By round."""
        return {run.round: run.measurement for run in self.runs if run.measurement}

    @property
    def measurement(self) -> Measurement | None:
        """The last one; of a job that is not timed, the only one."""
        return None if self.failure else self.runs[-1].measurement

    def rounds(self, value: str) -> dict[int, float]:
        """One value of the measurements, by round."""
        return {
            index: measurement.values[value]
            for index, measurement in self.measurements.items()
            if value in measurement.values
        }

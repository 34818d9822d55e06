"""Images -> how they reach each external model, and which of its outputs is the answer.

What a file does not say itself, the record beside it says if the file is one of ours, and else the user.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cifar_deploy.backends import BACKENDS, Input
from cifar_deploy.core import codec
from cifar_deploy.core.defaults import TIMEOUT_S
from cifar_deploy.core.errors import Corrupt, UnknownName, UsageError, few
from cifar_deploy.core.feeding import Output
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress, counted
from cifar_deploy.core.records import (
    Artifact,
    Channels,
    External,
    Feed,
    File,
    ImageLayout,
    Normalisation,
    Preprocessing,
    Tensor,
    as_size,
)
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.datasets import AS_IS, DATASETS, Preparation
from cifar_deploy.stages import prepare
from cifar_deploy.workers import inspect
from cifar_deploy.workers.prepare import Prepared

_FOLDER = "image_folder"
_RECORD = "artifact.json"
_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The images that files are to classify, and how those files take them that are not ours.

    dataset: None: that of the first file of ours, else a folder of images.
    preparation: The crop of each image is the size that a file takes.
    mean, std: Of pixels in [0, 1], of each channel in the order of `channels`, or one for all.
    scale: The largest pixel, before mean and std: 1, or 255.
    layout: Of an input that may be either.
    outputs: Names of outputs that are the answer, of files that have several.
    """

    dataset: str | None = None
    data_dir: Path | None = None
    preparation: Preparation = AS_IS
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    channels: Channels | None = None
    layout: ImageLayout | None = None
    outputs: tuple[str, ...] = ()


def options(
    *, dataset: str | None, data_dir: Path | None, preparation: Preparation, limit_test: int | None, **others: Any
) -> ImageOptions | None:
    """As a command line gives them; None without images. Raises UsageError for what is of no use without them."""
    if dataset or data_dir:
        return ImageOptions(dataset=dataset, data_dir=data_dir, preparation=preparation, **others)
    given = [f"--{name.removesuffix('s') if name == 'outputs' else name}" for name, value in others.items() if value]
    given += ["--limit-test"] if limit_test else []
    given += ["--classes"] if preparation.classes else []
    given += ["--skip-broken"] if preparation.skip_broken else []
    given += ["the size of images"] if preparation.preprocessing else []
    if given:
        raise UsageError(
            f"--data-dir: missing, and {given[0]} is of use with images alone; add --data-dir or --dataset"
        )
    return None


def record_of(path: Path, file: File) -> Artifact | None:
    """What this program wrote beside a file that it exported; None beside any other file.

    A record is only believed about the arrays that the file takes and gives. It makes no code run.
    """
    record = path.parent / _RECORD
    if not record.exists():
        return None
    try:
        artifact = codec.load(Artifact, record, "export it again")
    except Corrupt as error:
        warnings.warn(f"{error}; {path} is taken for a file from elsewhere")
        return None
    files = {(each.name, each.sha256) for each in artifact.files}
    return artifact if not isinstance(artifact.origin, External) and (path.name, file.sha256) in files else None


def own_tensor(artifact: Artifact, name: str) -> Tensor:
    """The input of a file of ours, for one image."""
    assert artifact.data
    height, width = artifact.data.height, artifact.data.width
    shape = (1, _CHANNELS, height, width) if artifact.input == "float32" else (1, height, width, _CHANNELS)
    return Tensor(name=name, dtype=artifact.input, shape=shape)


class Feeding:
    """How each file of one `bench` takes the images."""

    def __init__(
        self,
        options: ImageOptions,
        *,
        trusted: bool = False,
        timeout_s: float = TIMEOUT_S,
        on_progress: OnProgress | None = None,
    ) -> None:
        if options.dataset:
            DATASETS.given(options.dataset)
        self._options = options
        self._trusted = trusted
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._known: dict[Preparation, Prepared] = {}
        self._outputs: set[str] = set()
        self._foreign = False

    def feed(
        self, path: Path, backend: str, inputs: Sequence[Input], takes: Sequence[Tensor], own: Artifact | None
    ) -> Feed:
        """How images reach a file through a backend, seen from what it gives for the first of them.

        Raises UsageError if it takes no images, or if it takes more than it and the options say to know how; DataError if
        there are no images; whatever the runtime raises.
        """
        self._foreign = self._foreign or not own
        input, tensor = _input(path, inputs, takes)
        feed = self._as_recorded(path, input, tensor, own) if own else self._as_told(path, input, tensor)
        worker = Worker(
            what="its answer to one image",
            timeout_s=self._timeout_s,
            interpreter=interpreter_for(BACKENDS[backend]),
        )
        folder = self._prepared(self._preparation(path, tensor, feed.layout, own), own).folder
        outputs = worker.call(inspect.outputs, path, backend, self._trusted, feed, folder)
        self._outputs.update(output.name for output in outputs)
        return _answered(path, feed, outputs, self._options.outputs)

    def check(self) -> None:
        """Raises UsageError for options that no file had a use for."""
        if not self._outputs:
            return
        if unknown := set(self._options.outputs) - self._outputs:
            raise UnknownName.among("output (--output)", min(unknown), sorted(self._outputs))
        if not self._foreign:
            for option in ("mean", "std", "scale", "channels", "layout"):
                if getattr(self._options, option):
                    raise UsageError(f"--{option}: the records beside the files say how they take images; leave it out")

    def _as_told(self, path: Path, input: Input, tensor: Tensor) -> Feed:
        options = self._options
        layout = _layout(path, tensor, options.layout)
        normalisation = None
        if options.mean or options.std or options.channels == "bgr":
            normalisation = Normalisation(
                mean=_each(options.mean, 0.0), std=_each(options.std, 1.0), channels=options.channels or "rgb"
            )
        feed = Feed(
            data=self._prepared(self._preparation(path, tensor, layout, None), None).data,
            layout=layout,
            dtype=tensor.dtype,
            scale=options.scale or 1.0,
            normalisation=normalisation,
            quantisation=input.quantisation,
            batch=_batch(input, tensor),
            output="",
            place=0,
            answer="scores",
        )
        for option in ("mean", "std", "scale"):
            if feed.is_raw and getattr(options, option):
                raise UsageError(
                    f"--{option}: input {tensor.name} of {path} takes {tensor.dtype} pixels as they are; leave it out"
                )
        _check_size(path, tensor, feed)
        return feed

    def _as_recorded(self, path: Path, input: Input, tensor: Tensor, own: Artifact) -> Feed:
        assert own.data
        layout: ImageLayout = "nchw" if own.input == "float32" else "nhwc"
        data = self._prepared(self._preparation(path, tensor, layout, own), own).data
        if data.classes != own.data.classes and set(data.classes) <= set(own.data.classes):
            self._options = replace(
                self._options, preparation=replace(self._options.preparation, classes=own.data.classes)
            )
            data = self._prepared(self._preparation(path, tensor, layout, own), own).data
        if data.classes != own.data.classes:
            raise UsageError(
                f"{path}: has the classes {few(own.data.classes)}, and the images have {few(data.classes)}; "
                "give images of the same classes"
            )
        # Of an unknown shape, as of TorchScript: our exports take any number of images.
        batch = _batch(input, tensor) if input.shape else None
        feed = Feed(
            data=data, layout=layout, dtype=tensor.dtype, batch=batch, output="", place=0, answer="scores"
        )  # fmt: skip
        _check_size(path, tensor, feed)
        return feed

    def _preparation(self, path: Path, tensor: Tensor, layout: ImageLayout, own: Artifact | None) -> Preparation:
        """How the images are brought to the size that a file takes."""
        wanted = self._options.preparation
        if own and own.data and own.data.preprocessing:
            return replace(wanted, preprocessing=own.data.preprocessing)
        if not wanted.preprocessing:
            return wanted
        return replace(wanted, preprocessing=_cropped(path, wanted.preprocessing, _size(tensor, layout)))

    def _prepared(self, preparation: Preparation, own: Artifact | None) -> Prepared:
        if preparation not in self._known:
            recorded = own.data.dataset if own and own.data else _FOLDER
            self._options = replace(self._options, dataset=self._options.dataset or recorded)
            assert self._options.dataset
            self._known[preparation] = prepare.prepare(
                self._options.dataset,
                self._options.data_dir,
                preparation=preparation,
                on_progress=self._on_progress,
            )
        return self._known[preparation]


def _input(path: Path, inputs: Sequence[Input], takes: Sequence[Tensor]) -> tuple[Input, Tensor]:
    """The one that takes images. Raises UsageError if there is none, or another beside it."""
    if len(takes) != 1:
        names = f" ({few([tensor.name for tensor in takes])})" if takes else ""
        raise UsageError(f"{path}: takes {counted(len(takes), 'input')}{names}, not images alone; leave out --data-dir")
    (input,), (tensor,) = inputs, takes
    what = f"{path}: input {tensor.name}"
    if tensor.value is not None:
        raise UsageError(f"{what} takes the images, and --value fills it; leave out --value or --data-dir")
    if len(tensor.shape) != 4 or _CHANNELS not in (tensor.shape[1], tensor.shape[3]) or 0 in tensor.shape:
        shape = "×".join(map(str, tensor.shape)) or "a scalar"
        raise UsageError(f"{what} is {shape}, no batch of colour images (N×3×H×W or N×H×W×3); leave out --data-dir")
    if np.dtype(tensor.dtype).kind not in "iuf":
        raise UsageError(f"{what} is of {tensor.dtype}, which holds no pixels; leave out --data-dir")
    return input, tensor


def _layout(path: Path, tensor: Tensor, given: ImageLayout | None) -> ImageLayout:
    _, first, _, last = tensor.shape
    fitting: list[ImageLayout] = []
    if first == _CHANNELS:
        fitting.append("nchw")
    if last == _CHANNELS:
        fitting.append("nhwc")
    if given is None and len(fitting) > 1:
        shape = "×".join(map(str, tensor.shape))
        raise UsageError(f"{path}: input {tensor.name} is {shape}, of which either 3 may be the channels; add --layout")
    if given and len(fitting) > 1:
        return given
    return fitting[0]


def _each(given: tuple[float, ...], otherwise: float) -> tuple[float, ...]:
    given = given or (otherwise,)
    return given if len(given) == _CHANNELS else given * _CHANNELS


def _batch(input: Input, tensor: Tensor) -> int | None:
    """How many images it takes at a time; None if any number."""
    if input.shape:
        return input.shape[0] if isinstance(input.shape[0], int) else None
    return tensor.shape[0]


def _size(tensor: Tensor, layout: ImageLayout) -> tuple[int, int]:
    """Height and width."""
    return (tensor.shape[2], tensor.shape[3]) if layout == "nchw" else (tensor.shape[1], tensor.shape[2])


def _cropped(path: Path, wanted: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """With the crop that gives images of this size."""
    if wanted.crop and wanted.crop != size:
        raise UsageError(
            f"{path}: takes images of {as_size(size)}, and the crop is {as_size(wanted.crop)}; give --resize alone, since "
            "each file crops to its own size"
        )
    sides = wanted.resize if len(wanted.resize) == 2 else wanted.resize * 2
    if wanted.resize and any(side < least for side, least in zip(sides, size, strict=True)):
        raise UsageError(
            f"--resize: {'x'.join(map(str, wanted.resize))} is less than {path} takes, {as_size(size)}; give a larger one"
        )
    return replace(wanted, crop=size)


def _check_size(path: Path, tensor: Tensor, feed: Feed) -> None:
    height, width = _size(tensor, feed.layout)
    if (feed.data.height, feed.data.width) != (height, width):
        has = as_size((feed.data.height, feed.data.width))
        raise UsageError(
            f"{path}: takes images of {as_size((height, width))}, and these are {has}; add --resize {height}x{width}"
        )


def _answered(path: Path, feed: Feed, outputs: Sequence[Output], wanted: Sequence[str]) -> Feed:
    """With the output that is the answer. Raises UsageError if there is none, or if any of several may be."""
    images, classes = feed.batch or min(inspect.IMAGES, feed.data.test_images), len(feed.data.classes)
    named = [place for place, output in enumerate(outputs) if output.name in wanted]
    if len(named) > 1:
        names = few([outputs[place].name for place in named])
        raise UsageError(f"--output: names {counted(len(named), 'output')} of {path} ({names}); give one")
    among = named or range(len(outputs))
    fitting: dict[Literal["scores", "labels"], list[int]] = {
        "scores": [place for place in among if outputs[place].has_scores(images, classes)],
        "labels": [place for place in among if outputs[place].has_labels(images)],
    }
    for answer, places in fitting.items():
        if len(places) == 1:
            (place,) = places
            return replace(feed, output=outputs[place].name, place=place, answer=answer)
        if places:
            names = few([outputs[each].name for each in places])
            raise UsageError(
                f"{path}: has {counted(len(places), 'output')} that may be the answer ({names}); add --output"
            )
    others = sorted({size for place in among for size in _scores_of(outputs[place], images)})
    if len(others) == 1:
        raise UsageError(
            f"{path}: gives {others[0]} scores for an image, and the images have {classes} classes; give --classes a "
            f"file with the {others[0]} names, in the order of its scores"
        )
    told = few([str(outputs[place]) for place in among])
    raise UsageError(
        f"{path}: gives {told} for {counted(images, 'image')}, and no {classes} scores each; leave out --data-dir"
    )


def _scores_of(output: Output, images: int) -> Iterator[int]:
    sizes = [size for size in output.shape[1:] if size != 1]
    if len(sizes) == 1 and output.has_scores(images, sizes[0]):
        yield sizes[0]

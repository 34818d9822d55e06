"""An external model -> the files that belong to it, hashed, the arrays that it takes, and those that it gives for images."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS, Input, onnx_graphs
from cifar_deploy.backends.onnx_graphs import Declared
from cifar_deploy.core import content, feeding, trust
from cifar_deploy.core.arrays import mapped
from cifar_deploy.core.errors import LoadError, loading
from cifar_deploy.core.feeding import Output
from cifar_deploy.core.records import Feed, File, TrainingMode
from cifar_deploy.core.registry import need
from cifar_deploy.core.store import described

# To look at outputs with: two tell the batch's dimension from one that is always 1.
IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class Look:
    """`inputs` is None if the file is not of the backend's kind, although it has its suffix."""

    files: tuple[File, ...]  # under their whole paths, the main one first
    inputs: tuple[Input, ...] | None
    training_mode: TrainingMode


def look(path: Path, backend: str, trusted: bool) -> Look:
    """Hash the file and what belongs to it, load it, and see what it takes.

    Raises LoadError if something of it is missing or the runtime refuses it, Untrusted if it is a program that this user
    did not export, unless `trusted`, and Unavailable if a package or the device is missing.
    """
    plugin = BACKENDS[backend]
    assert plugin.opens
    if not plugin.opens.knows(path):
        return Look(files=(), inputs=None, training_mode=TrainingMode())
    content.check(path, plugin.opens.suffixes.get(path.suffix.lower()))
    told = _declared(path)
    found = tuple(replace(described(file), name=str(file.absolute())) for file in (path, *_beside(path, told)))
    need("backend", backend, plugin)
    if plugin.opens.is_program and not trusted:
        trust.check(path, found[0].sha256)
    devices.check(plugin.validated_on, plugin.requires)
    with loading(str(path), backend):
        opened = plugin.opens.open(path, plugin.targets[plugin.validated_on], 1)
        inputs = plugin.opens.corrected(path, opened.inputs)
        if told:
            return Look(files=found, inputs=_as_declared(inputs, told), training_mode=told.training_mode)
        return Look(files=found, inputs=inputs, training_mode=opened.training_mode())


def outputs(path: Path, backend: str, trusted: bool, feed: Feed, data_folder: Path) -> list[Output]:
    """What the file gives for the first test images. Raises as `look` does, which has seen the file before."""
    plugin = BACKENDS[backend]
    assert plugin.opens
    if plugin.opens.is_program and not trusted:
        trust.check(path, described(path).sha256)
    images = mapped(data_folder / "test_images.npy")[: feed.batch or IMAGES]
    with loading(str(path), backend):
        opened = plugin.opens.open(path, plugin.targets[plugin.validated_on], 1)
        return feeding.outputs_of(opened.run, np.array(images), feed, opened.outputs)


def _declared(path: Path) -> Declared | None:
    """What an ONNX file says of itself, parsed once for all that asks; None of another file."""
    from google.protobuf.message import DecodeError

    if path.suffix.lower() != ".onnx":
        return None
    try:
        told = onnx_graphs.declared(path)
    except DecodeError as error:
        raise LoadError(
            f"{path}: is no ONNX model, or only part of one ({error}); download or export it again"
        ) from error
    if not told.has_graph:
        raise LoadError(f"{path}: is no ONNX model (it has no graph); export it again")
    return told


def _as_declared(inputs: tuple[Input, ...], told: Declared) -> tuple[Input, ...]:
    """The inputs under the names that the file declares, in its order: a runtime may name one after what is left of the graph.

    OpenVINO gives an input that goes through a Dropout the name of its output. The runtime's names are aliases. ONNX
    Runtime gives the shape [] to a scalar and to an array of unknown rank.
    """
    if len(told.inputs) == len(inputs):
        inputs = tuple(
            replace(input, name=name, aliases=tuple(sorted({*input.aliases, input.name} - {name})))
            for input, name in zip(inputs, told.inputs, strict=True)
        )
    return tuple(
        replace(input, shape=input.shape if input.name in told.ranked else input.shape or None) for input in inputs
    )


def _beside(path: Path, told: Declared | None) -> list[Path]:
    """What a runtime reads besides the file itself.

    Raises LoadError if it is not there or does not belong to the file, or if the file is not of the kind that its suffix
    says: OpenVINO would choose the kind by the content, and then read other files.
    """
    names = told.external if told else _weights(path) if path.suffix.lower() == ".xml" else ()
    for name in names:
        file = path.parent / name
        try:
            belongs, is_there = _belongs(name, path), file.exists()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a name that no file can have
            raise LoadError(f"{path}: needs a file beside it that cannot be read ({error}); export it again") from error
        if not belongs:
            raise LoadError(f"{path}: takes its data from outside its folder ({name}); put a copy into the folder")
        if not is_there:
            raise LoadError(f"{path}: needs {name} beside it; {_where(name, path)}")
        if file.stat().st_size:  # an IR may do without weights
            content.check(file, None)
    return [path.parent / name for name in names]


def _belongs(name: str, model: Path) -> bool:
    """Whether a model may take its data from the file of this name.

    The name is relative to the model's folder, and does not leave it. Its links lead into that folder, or to where the
    model's own link leads: a hub's cache keeps all files in one folder (`blobs`) and gives them names by links. Then
    both have to lie in the same folder, not below it: a link may lead to the root. A hard link cannot be told from a file.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return False
    file = (model.parent / name).resolve()
    return file.is_relative_to(model.parent.resolve()) or file.parent == model.resolve().parent


def _where(name: str, model: Path) -> str:
    target = model.resolve()
    if model.is_symlink() and (target.parent / name).exists():
        return f"give {target}, which the link leads to"
    return "put it there"


def _weights(path: Path) -> tuple[str]:
    if content.of(path) != content.IR:
        raise LoadError(f"{path}: is no OpenVINO IR (it is no XML); export it again")
    return (path.with_suffix(".bin").name,)

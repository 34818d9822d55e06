"""External models -> jobs. No file is read here, and none run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from cifar_deploy.backends import BACKENDS, Input
from cifar_deploy.core import machine, untrusted
from cifar_deploy.core.arrays import NUMBERS, has_random, misfit
from cifar_deploy.core.defaults import TIMEOUT_S
from cifar_deploy.core.errors import Corrupt, DataError, DeployError, UnknownName, Unsupported, UsageError, one_line
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import failure_of
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, External, Failure, Tensor, TrainingMode
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.metrics import METRICS, as_runtime_metric
from cifar_deploy.stages import plan
from cifar_deploy.stages.export import device_of
from cifar_deploy.stages.feeding import Feeding, ImageOptions, own_tensor, record_of
from cifar_deploy.stages.plan import Conditions, Planned
from cifar_deploy.workers import inspect


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What `--shape` says of an input. Without a type: the file's, or float32 where it has none."""

    name: str
    sizes: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Value:
    """What `--value` says of an input: the value of all its elements."""

    name: str
    value: bool | int | float


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)
T = TypeVar("T")


def plan_external(
    paths: Sequence[Path],
    *,
    reference: Path | None = None,
    backends: Sequence[str] | None = None,
    shapes: Iterable[Shape] = (),
    values: Iterable[Value] = (),
    images: ImageOptions | None = None,
    conditions: Conditions = Conditions(),
    trusted: bool = False,
    timeout_s: float = TIMEOUT_S,
    on_progress: OnProgress | None = None,
) -> list[Planned]:
    """What `evaluate` will measure of external models: each on every backend that opens it. Their cost, and on `images` their accuracy.

    The `reference`, else the first path, comes first, and others are compared with it.

    Give `EvaluationSettings(overhead=False)` to `evaluate`, and a store that holds nothing else. A file that cannot be loaded is planned with
    its failure. Raises UsageError for what no backend opens, for an input whose shape has to be given, or whose shape
    or value is wrong, and for a file that cannot be given the images.
    """
    if reference:
        _check(reference)
        paths = [reference, *(path for path in paths if path.resolve() != reference.resolve())]
    pairs = _pairs(paths, backends)
    sizes, numbers = _once(shapes, "--shape"), _once(values, "--value")
    names: set[str] = set()
    aliases: set[str] = set()
    feeding = Feeding(images, trusted=trusted, timeout_s=timeout_s, on_progress=on_progress) if images else None
    files: list[_Opened] = []
    for done, (path, backend) in enumerate(pairs):
        if on_progress:
            on_progress(Progress(done=done, total=len(pairs), message=f"opening {path} on {backend}"))
        device_of(backend)
        try:
            worker = Worker(what="opening it", timeout_s=timeout_s, interpreter=interpreter_for(BACKENDS[backend]))
            found = worker.call(inspect.look, path, backend, trusted)
            if found.inputs is None:
                continue
            names.update(input.name for input in found.inputs)
            aliases.update(alias for input in found.inputs for alias in input.aliases)
            own = record_of(path, found.files[0])
            takes = taken(path, found.inputs, {**_recorded(own, found.inputs, sizes), **sizes}, numbers)
            artifact = _artifact(path, found, takes)
            files.append(_Opened(backend=backend, artifact=artifact))
            if feeding:
                files[-1] = replace(files[-1], fed=_fed(feeding, artifact, backend, found.inputs, own))
        except UsageError:
            raise
        except DeployError as error:
            artifact = _artifact(path, None, failure=failure_of(error))
            files.append(_Opened(backend=backend, artifact=artifact, fed=artifact if images else None))
    if feeding:
        feeding.check()
    for path in paths:
        if all(file.artifact.name != str(path) for file in files):
            asked = ", ".join(backend for other, backend in pairs if other == path)
            raise UsageError(f"{path}: is not of the kind of {path.suffix} that {asked} opens; leave out --backend")
    for option, given in (("--shape", set(sizes)), ("--value", set(numbers))):
        if names and (unknown := given - names - aliases):
            raise UnknownName.among(f"input ({option})", min(unknown), sorted(names))
    return [
        item
        for file in files
        for metric in METRICS
        if (measured := file.measured_by(metric))
        for item in plan.planned(measured, file.backend, device_of(file.backend), metric, conditions)
    ]


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A file on a backend: as it takes random arrays, and as it takes images, if it is to."""

    backend: str
    artifact: Artifact
    fed: Artifact | None = None

    def measured_by(self, metric: str) -> Artifact | None:
        """What of it a metric measures; None if nothing. Its cost is that of random arrays, whether there are images or not."""
        if METRICS[metric].in_bench:
            return self.artifact
        plugin = as_runtime_metric(metric)
        return self.fed if plugin and plugin.per_image and plugin.by_default else None


def _fed(feeding: Feeding, artifact: Artifact, backend: str, inputs: Sequence[Input], own: Artifact | None) -> Artifact:
    """The artifact as it takes images, or with why it gives no answer."""
    assert isinstance(artifact.origin, External)
    try:
        feed = feeding.feed(Path(artifact.name), backend, inputs, artifact.takes, own)
    except (UsageError, DataError):
        raise
    except DeployError as error:
        return replace(artifact, failure=failure_of(error))
    return replace(artifact, origin=replace(artifact.origin, feed=feed))


def _recorded(own: Artifact | None, inputs: Sequence[Input], given: Iterable[str]) -> dict[str, Shape]:
    """What `--shape` does not have to say of a file of ours that does not tell its shape, as TorchScript."""
    if not own or len(inputs) != 1 or inputs[0].shape is not None or {inputs[0].name, *inputs[0].aliases} & set(given):
        return {}
    (input,) = inputs
    tensor = own_tensor(own, input.name)
    return {input.name: Shape(name=input.name, sizes=tensor.shape, dtype=tensor.dtype)}


def _pairs(paths: Sequence[Path], backends: Sequence[str] | None) -> list[tuple[Path, str]]:
    """Each file with the backends that open it. Raises UsageError if there is none, or the file is none."""
    wanted = [BACKENDS.given(name) for name in backends or BACKENDS]
    openers = {name: opens.suffixes for name in wanted if (opens := BACKENDS[name].opens)}
    if closed := [name for name in backends or () if name not in openers]:
        raise UsageError(f"--backend: {closed[0]} opens no external model; leave it out")
    seen: dict[Path, Path] = {}
    found = []
    for path in paths:
        _check(path)
        if (before := seen.setdefault(path.resolve(), path)) is not path:
            raise UsageError(f"{path}: is {before} again; give each file once")
        readers = [name for name, suffixes in openers.items() if path.suffix.lower() in suffixes]
        if not readers:
            opened = sorted({suffix for suffixes in openers.values() for suffix in suffixes})
            raise UsageError(
                f"{path}: {path.suffix or 'a file without a suffix'} is opened by none of {', '.join(openers)}; "
                f"give one of {', '.join(opened)}"
            )
        found += [(path, name) for name in readers]
    for name in backends or ():
        if name not in {backend for _, backend in found}:
            raise UsageError(f"--backend: {name} opens {', '.join(openers[name])}, and no file is such; leave it out")
    return found


def _once(given: Iterable[N], option: str) -> dict[str, N]:
    """By the name of the input. Raises UsageError for one that is given twice."""
    found: dict[str, N] = {}
    for each in given:
        if found.setdefault(each.name, each) is not each:
            raise UsageError(f"{option}: input {each.name} is given twice; give it once")
    return found


def _check(path: Path) -> None:
    if not str(path).isprintable():
        raise UsageError(f"{path}: has characters in its name that cannot be shown; rename it")
    untrusted.check_named(path, "give a model file")
    if path.is_dir():
        raise UsageError(f"{path}: is no file; give the model file itself")
    try:
        untrusted.open_regular(path).close()
    except OSError as error:
        raise Corrupt(f"{path}: cannot be read ({error.strerror}); change that, or give another") from error


def _artifact(
    path: Path, found: inspect.Look | None, takes: tuple[Tensor, ...] = (), failure: Failure | None = None
) -> Artifact:
    mode = found.training_mode if found else TrainingMode()
    return Artifact(
        origin=External(path=str(path), takes=takes, training_mode=mode),
        format=None,
        files=found.files if found else (),
        parity=(),
        failure=failure,
        versions={},
        seconds=0.0,
        commit=machine.commit(),
        finished=datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds"),
    )


def taken(
    path: Path,
    inputs: tuple[Input, ...],
    shapes: Mapping[str, Shape],
    values: Mapping[str, Value] = MappingProxyType({}),
) -> tuple[Tensor, ...]:
    """The arrays to give a file. A first dimension that is free is the batch, and 1; other free ones have to be given.

    Raises UsageError if `shapes` lacks one or contradicts the file, or if a value does not fit; Unsupported if an input is
    not of numbers.
    """
    tensors = []
    for input in inputs:
        what = f"{path}: input {input.name}"
        tensor = _tensor(what, input, _given(path, input, inputs, shapes))
        value = _given(path, input, inputs, values)
        tensors.append(_filled(what, tensor, value.value) if value else tensor)
    return tuple(tensors)


def _filled(what: str, tensor: Tensor, value: bool | int | float) -> Tensor:
    if fault := misfit(value, tensor.dtype):
        raise UsageError(f"{what} is of {tensor.dtype}, and --value {str(value).lower()} {fault}; give one that fits")
    make = {"b": bool, "f": float}.get(np.dtype(tensor.dtype).kind, int)
    return replace(tensor, value=make(value))


def _given(path: Path, input: Input, inputs: tuple[Input, ...], given: Mapping[str, T]) -> T | None:
    """What is given for an input, by its name or by an alias that no other input has. Raises UsageError if by several."""
    others = {name for other in inputs if other is not input for name in (other.name, *other.aliases)}
    names = [
        name for name in (input.name, *input.aliases) if name in given and (name == input.name or name not in others)
    ]
    if len(names) > 1:
        raise UsageError(f"{path}: input {input.name} is given as {' and as '.join(names)}; give it once")
    return given[names[0]] if names else None


def _tensor(what: str, input: Input, given: Shape | None) -> Tensor:
    dtype = input.dtype or (given and given.dtype) or "float32"
    if not has_random(dtype):
        raise Unsupported(
            f"{what} is of type {dtype}, which cannot be made up; give a file that takes {', '.join(NUMBERS)}"
        )
    if given and given.dtype not in (None, dtype):
        raise UsageError(f"{what} is of {dtype}, and --shape says {given.dtype}; leave the type out")
    sizes = given.sizes if given else _sizes(input)
    if sizes is None:
        raise UsageError(f"{what} is {_shown(input)}; say how large, as in --shape {input.name}={_example(input)}")
    if input.shape is not None and not _fits(sizes, input.shape):
        raise UsageError(
            f"{what} is {_shown(input)}, and --shape says {','.join(map(str, sizes)) or 'a scalar'}; give sizes that fit, or leave it out"
        )
    return Tensor(name=one_line(input.name), dtype=dtype, shape=sizes)


def _sizes(input: Input) -> tuple[int, ...] | None:
    """None if it takes more to know them."""
    if input.shape is None:
        return None
    sizes = [1 if place == 0 and not isinstance(size, int) else size for place, size in enumerate(input.shape)]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else None


def _fits(sizes: tuple[int, ...], shape: tuple[int | str | None, ...]) -> bool:
    return len(sizes) == len(shape) and all(
        size == known for size, known in zip(sizes, shape, strict=True) if isinstance(known, int)
    )


def _shown(input: Input) -> str:
    if input.shape is None:
        return "of a shape that the file does not tell"
    if not input.shape:
        return "a scalar"
    return f"[{', '.join('?' if size is None else str(size) for size in input.shape)}]"


def _example(input: Input) -> str:
    if input.shape is None:
        return "1,3,224,224 (float32, or 1,128:int64; nothing for a scalar)"
    first, *others = (size if isinstance(size, int) else "N" for size in input.shape)
    return ",".join(map(str, [1 if first == "N" else first, *others]))

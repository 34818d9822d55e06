"""A file of weights that a user brings -> the tensors of a network.

The file is safetensors, or what torch.save wrote, read with `weights_only=True` and nothing else: a pickled module, or
code in a checkpoint, is refused before anything of it runs. In a checkpoint the weights are found wherever they are: each
dictionary of tensors in it is an entry, named by the keys that lead to it. What a wrapper put before each name, as
DistributedDataParallel, torch.compile and Lightning do, is taken off. Whatever was found, left or taken off is told.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cifar_deploy.core import content, untrusted
from cifar_deploy.core.errors import Corrupt, LoadError, UnknownName, few, one_line, raised_as
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import File
from cifar_deploy.networks.answers import said

# torch.compile puts it before the names of whatever it compiled, also inside of a network.
_COMPILED = "_orig_mod."

# Counted by batch norm, and read by nothing in evaluation mode. Files of PyTorch before 0.4.1 lack it.
_OPTIONAL = "num_batches_tracked"

_DEEPEST = 4

# The way out for a file of another kind, by its title.
_MEASURE = "measure it with `cifar-deploy bench`"
_WAYS = {
    **{kind.title: _MEASURE for kind in (content.TORCHSCRIPT, content.PT2, content.ONNX, content.TFLITE, content.IR)},
    **{kind.title: kind.remedy for kind in (content.EMPTY, content.LFS_POINTER, content.HTML, content.CUT_ZIP)},
}
_SAVE_STATE = "save model.state_dict() instead"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What of a file became a network's weights."""

    entry: str  # of the file; "": the file holds nothing else
    prefix: str  # that was taken off each name
    fresh: tuple[str, ...]  # of the last layer, which keeps its first weights: the file has another number of classes
    notes: tuple[str, ...]  # for people, without their subject


@dataclass(frozen=True, kw_only=True)
class _Matched:
    entry: str
    prefix: str
    tensors: Mapping[str, Tensor]  # under the network's names
    others: tuple[str, ...]  # names that do not begin with the prefix
    fitting: int  # how many of the network's tensors it has, each of its shape


def fit(
    network: nn.Module, path: Path, name: str, record: File, *, entry: str | None = None, head: Collection[str] = ()
) -> Fit:
    """Load the weights of a file into a complete network (see `complete.build`), or into what follows its first layer.

    Args:
        name: The network, for errors.
        record: The file as it was when the command began.
        entry: Of the file, if it has several.
        head: Names of the network that may keep their own weights, if those of the file have another shape.

    Raises LoadError for another kind of file or one with code in it, UnknownName for an entry that is not there, and
    Corrupt where the file has changed since, or the weights are not those of this network. The network is then as it was.
    """
    if untrusted.sha256(path) != record.sha256:
        raise Corrupt(f"{path}: has changed since the command began; run it again")
    entries = _entries(path)
    if entry is not None and entry not in entries:
        raise UnknownName.among(f"entry with weights in {path}", entry, entries)
    chosen = {entry: entries[entry]} if entry is not None else entries
    state = network.state_dict()
    of_body = {key.partition(".")[2]: value for key, value in state.items() if key.startswith("1.")}
    # Both hold all of the body: only a file of this program has the normalisation as well.
    whole, body = (max(_matches(chosen, wanted), key=lambda match: match.fitting) for wanted in (state, of_body))
    is_whole = whole.fitting > body.fitting
    best, expected = (whole, state) if is_whole else (body, of_body)
    if best.fitting < len(expected) / 2:
        # Another network: a few of its names fit by chance, whatever is taken off them.
        best = next(match for match in _matches(chosen, expected) if match.entry == best.entry)
    fresh = _check(path, name, best, expected, {_in_body(key, is_whole) for key in head})
    values = {key: tensor for key, tensor in best.tensors.items() if key not in fresh}
    network.load_state_dict({key if is_whole else f"1.{key}": value for key, value in values.items()}, strict=False)
    others = [one for one in entries if one != best.entry]
    notes = (
        f"weights found in its entry {best.entry}" if best.entry else "",
        f"{best.prefix} taken off each name" if best.prefix else "",
        f"not taken: {few(best.others)}" if best.others else "",
        f"other entries with weights: {few(others)}" if others and entry is None else "",
    )
    return Fit(entry=best.entry, prefix=best.prefix, fresh=tuple(fresh), notes=tuple(filter(None, notes)))


def _in_body(key: str, is_whole: bool) -> str:
    return key if is_whole else key.removeprefix("1.")


def _entries(path: Path) -> dict[str, dict[str, Tensor]]:
    """Every dictionary of tensors in the file, by the keys that lead to it."""
    kind = content.of(path)
    if kind == content.SAFETENSORS:
        return {"": _safetensors(path)}
    if kind not in (content.WEIGHTS, content.PICKLE):
        what = kind.title if kind else "no file of weights"
        raise LoadError(
            f"{path}: is {what}; {_WAYS.get(what, 'give a .safetensors file, or a state dict saved by torch.save')}"
        )
    loaded = _saved(path)
    found = dict(_dictionaries(loaded))
    if not found:
        raise LoadError(f"{path}: holds {type(loaded).__name__}, and no dictionary of weights; {_SAVE_STATE}")
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise LoadError(f"{path}: is no whole safetensors file ({said(error)}); copy it again") from error


def _saved(path: Path) -> Any:
    def refused(error: Exception) -> LoadError:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            return LoadError(
                f"{path}: holds more than weights ({named[1]}): a pickled module, settings or code; nothing of it was run; "
                f"{_SAVE_STATE}"
            )
        if "corrupted" in str(error):
            return LoadError(f"{path}: is damaged or cut off; copy it again")
        return LoadError(f"{path}: is no file of torch.save that holds weights alone ({_words(error)}); {_SAVE_STATE}")

    with raised_as(refused):
        return torch.load(path, map_location="cpu", weights_only=True)


def _words(error: Exception) -> str:
    """What PyTorch says, without its advice to run the file."""
    lines = [line for line in str(error).splitlines() if "weights_only" not in line and "Re-running" not in line]
    return one_line(" ".join(lines).removeprefix("Weights only load failed."), 80) or type(error).__name__


def _dictionaries(value: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(value, Mapping) or len(way) > _DEEPEST:
        return
    tensors = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield ".".join(way), tensors
    for key, item in value.items():
        if isinstance(key, str):
            yield from _dictionaries(item, (*way, key))


def _matches(entries: Mapping[str, Mapping[str, Tensor]], wanted: Mapping[str, Tensor]) -> Iterator[_Matched]:
    """Each entry under each prefix that makes one of its names one of the network's; without a prefix in any case."""
    for entry, found in entries.items():
        tensors = {key.replace(_COMPILED, ""): tensor for key, tensor in found.items()}
        compiled = _COMPILED if any(_COMPILED in key for key in found) else ""
        prefixes = {key[: len(key) - len(one)] for one in wanted for key in tensors if key.endswith(f".{one}")}
        # The shorter one first, so that of two equally good ones it is taken.
        for prefix in ["", *sorted(prefixes, key=lambda prefix: (len(prefix), prefix))]:
            inside = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            yield _Matched(
                entry=entry,
                prefix=prefix + compiled,
                tensors=inside,
                others=tuple(key for key in tensors if not key.startswith(prefix)),
                fitting=sum(key in inside and inside[key].shape == value.shape for key, value in wanted.items()),
            )


def _check(path: Path, name: str, found: _Matched, expected: Mapping[str, Tensor], head: Collection[str]) -> list[str]:
    """The names of the head that keep their own weights. Raises Corrupt if anything else does not fit."""
    tensors = found.tensors
    missing = [key for key in expected if key not in tensors and not key.endswith(_OPTIONAL)]
    unexpected = [key for key in tensors if key not in expected]
    unlike = {
        key: _difference(tensors[key], value)
        for key, value in expected.items()
        if key in tensors and _difference(tensors[key], value)
    }
    fresh = [key for key in unlike if key in head and tensors[key].shape[1:] == expected[key].shape[1:]]
    for key in fresh:
        del unlike[key]
    if not (missing or unexpected or unlike):
        return fresh
    told = [
        f"{counted(len(missing), 'name')} missing, first {missing[0]}" if missing else "",
        f"{len(unexpected):,} unexpected, first {unexpected[0]}" if unexpected else "",
        f"{len(unlike):,} of another shape, first {next(iter(unlike))} {next(iter(unlike.values()))}" if unlike else "",
    ]
    entry = f" (entry {found.entry})" if found.entry else ""
    raise Corrupt(
        f"{path}: its weights{entry} are not those of {name}: {'; '.join(filter(None, told))}; "
        f"{_remedy(tensors, expected, unlike) if not (missing or unexpected) else 'give the weights of this network, or its name'}"
    )


def _difference(tensor: Tensor, expected: Tensor) -> str:
    if tensor.shape != expected.shape:
        return f"({_shape(tensor)}, not {_shape(expected)})"
    if tensor.is_floating_point() != expected.is_floating_point():
        return f"({tensor.dtype}, not {expected.dtype})"
    return ""


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _remedy(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], unlike: Mapping[str, str]) -> str:
    """Where the last layer alone differs, the number of classes does."""
    sizes = {(len(tensors[key]), len(expected[key])) for key in unlike if tensors[key].ndim and expected[key].ndim}
    if len(unlike) <= 2 and len(sizes) == 1:
        (theirs, ours) = sizes.pop()
        return (
            f"it has {theirs:,} outputs, and the data {ours:,} classes: name the outputs by --classes, or fine-tune by "
            "`train --init`"
        )
    return "give the weights of this network, or its name"

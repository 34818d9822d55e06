"""Weights of a user's file: found wherever they are in it, and refused where they are not this network's."""

import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cifar_deploy.core.errors import Corrupt, LoadError, UnknownName
from cifar_deploy.core.store import described
from cifar_deploy.networks import complete, weights


def fit(network, path, name, **how):
    return weights.fit(network, path, name, described(path), **how)


def _body(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            bn=nn.BatchNorm2d(4),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(4, classes),
        )
    )


def _complete(body: nn.Module) -> nn.Sequential:
    return nn.Sequential(complete.Normalise((0.5,) * 3, (0.5,) * 3), body)


@pytest.fixture
def theirs() -> nn.Module:
    torch.manual_seed(1)
    body = _body()
    for weight in body.state_dict().values():
        if weight.is_floating_point():
            weight.uniform_(0.5, 1.5)
    return body


@pytest.fixture
def ours() -> nn.Sequential:
    torch.manual_seed(2)
    return _complete(_body())


def _under(prefix: str, network: nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in network.state_dict().items()}


def _optimizer(network: nn.Module) -> dict:
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


_WRAPPED = {
    "a state dict": (lambda net: net.state_dict(), "", ""),
    "DistributedDataParallel": (lambda net: _under("module.", net), "", "module."),
    "torch.compile": (lambda net: _under("_orig_mod.", net), "", "_orig_mod."),
    "both": (lambda net: _under("module._orig_mod.", net), "", "module._orig_mod."),
    "a compiled layer": (
        lambda net: {k.replace("conv.", "conv._orig_mod."): v for k, v in net.state_dict().items()},
        "",
        "_orig_mod.",
    ),
    "Lightning": (
        lambda net: {"state_dict": {**_under("model.", net), "loss.weight": torch.ones(3)}, "epoch": 3},
        "state_dict",
        "model.",
    ),
    "AveragedModel": (lambda net: {**_under("module.", net), "n_averaged": torch.tensor(3)}, "", "module."),
    "a checkpoint": (lambda net: {"model": net.state_dict(), "optimizer": _optimizer(net), "best": 0.9}, "model", ""),
    "another key": (lambda net: {"whatever": {"inside": _under("backbone.", net)}}, "whatever.inside", "backbone."),
    "the average beside zeros": (
        lambda net: {"model_state_dict": {}, "ema": {"module": net.state_dict()}},
        "ema.module",
        "",
    ),
}


@pytest.mark.parametrize("wrapped, entry, prefix", _WRAPPED.values(), ids=_WRAPPED)
def test_weights_are_found_in_every_wrapper(tmp_path, theirs, ours, wrapped, entry, prefix):
    torch.save(wrapped(theirs), tmp_path / "w.pt")
    found = fit(ours, tmp_path / "w.pt", "net")
    assert (found.entry, found.prefix, found.fresh) == (entry, prefix, ())
    assert all(torch.equal(ours[1].state_dict()[key], value) for key, value in theirs.state_dict().items())
    assert torch.equal(ours[0].mean, torch.full((1, 3, 1, 1), 0.5))
    assert len(found.notes) == bool(entry) + bool(prefix) + ("loss.weight" in str(found.notes)) + (
        "n_averaged" in str(found.notes)
    )


def test_safetensors_and_half_precision(tmp_path, theirs, ours):
    save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in theirs.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    fit(ours, tmp_path / "w.safetensors", "net")
    assert ours[1].fc.weight.dtype == torch.float32
    assert torch.allclose(ours[1].fc.weight, theirs.fc.weight, atol=1e-3)


def test_a_file_of_this_program_brings_its_normalisation(tmp_path, theirs, ours):
    save_file(
        nn.Sequential(complete.Normalise((0.1, 0.2, 0.3), (1, 1, 1)), theirs).state_dict(), tmp_path / "w.safetensors"
    )
    fit(ours, tmp_path / "w.safetensors", "net")
    assert torch.allclose(ours[0].mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(ours[1].fc.weight, theirs.fc.weight)


def test_of_two_entries_one_is_taken_and_the_other_named(tmp_path, theirs, ours):
    zeros = {key: value * 0 for key, value in theirs.state_dict().items()}
    torch.save({"model": theirs.state_dict(), "ema": zeros}, tmp_path / "w.pt")
    found = fit(ours, tmp_path / "w.pt", "net")
    assert found.entry == "model" and "other entries with weights: ema" in found.notes
    assert fit(ours, tmp_path / "w.pt", "net", entry="ema").entry == "ema"
    assert not ours[1].fc.weight.any()
    with pytest.raises(UnknownName, match="did you mean 'ema'"):
        fit(ours, tmp_path / "w.pt", "net", entry="emma")


def test_old_files_lack_the_count_of_batches(tmp_path, theirs, ours):
    torch.save(
        {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}, tmp_path / "w.pt"
    )
    fit(ours, tmp_path / "w.pt", "net")
    assert torch.equal(ours[1].fc.weight, theirs.fc.weight)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda state: state.pop("conv.bias"), "1 name missing, first conv.bias; give the weights of this network"),
        (lambda state: state.update({"fc2.weight": torch.ones(1)}), "1 unexpected, first fc2.weight"),
        (
            lambda state: state.update({"conv.weight": torch.ones(4, 3, 5, 5)}),
            r"1 of another shape, first conv.weight \(4×3×5×5, not 4×3×3×3\)",
        ),
        (
            lambda state: state.update({"conv.bias": torch.ones(4, dtype=torch.int8)}),
            r"conv.bias \(torch.int8, not torch.float32\)",
        ),
        (
            lambda state: (state.pop("conv.bias"), state.pop("bn.weight"), state.update({"x.y": torch.ones(1)})),
            "2 names missing, first conv.bias; 1 unexpected, first x.y",
        ),
    ],
)
def test_a_mismatch_names_the_first_of_each_kind(tmp_path, theirs, ours, change, told):
    state = dict(theirs.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(Corrupt, match=told):
        fit(ours, tmp_path / "w.pt", "net")
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_weights_of_another_network_are_told_by_all_their_names(tmp_path, ours):
    other = nn.ModuleDict({"features": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))})
    torch.save(other.state_dict(), tmp_path / "w.pt")
    with pytest.raises(Corrupt, match=r"8 names missing, first conv\.weight; 4 unexpected, first features\.0\.weight"):
        fit(ours, tmp_path / "w.pt", "net")


def test_another_number_of_classes_is_named(tmp_path, theirs):
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    with pytest.raises(Corrupt, match="it has 3 outputs, and the data 5 classes: name the outputs by --classes"):
        fit(_complete(_body(5)), tmp_path / "w.pt", "net")


def test_the_head_may_keep_its_own_weights(tmp_path, theirs):
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    ours = _complete(_body(5))
    before = ours[1].fc.weight.clone()
    found = fit(ours, tmp_path / "w.pt", "net", head=("1.fc.weight", "1.fc.bias"))
    assert found.fresh == ("fc.weight", "fc.bias")
    assert torch.equal(ours[1].fc.weight, before) and torch.equal(ours[1].conv.weight, theirs.conv.weight)


class _Runs:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_module_and_code_are_refused_and_nothing_runs(tmp_path, theirs, ours):
    torch.save(theirs, tmp_path / "module.pt")
    torch.save({"model": theirs.state_dict(), "hook": _Runs(str(tmp_path / "ran"))}, tmp_path / "code.pt")
    torch.save(
        {"model": theirs.state_dict(), "hook": _Runs(str(tmp_path / "ran"))},
        tmp_path / "old.pt",
        _use_new_zipfile_serialization=False,
    )
    for name, held in (
        ("module", "torch.nn.modules.container.Sequential"),
        ("code", "posix.mkdir"),
        ("old", "posix.mkdir"),
    ):
        with pytest.raises(LoadError, match=rf"holds more than weights \({held}\).*; save model.state_dict\(\)"):
            fit(ours, tmp_path / f"{name}.pt", "net")
    assert not (tmp_path / "ran").exists()


def test_other_files_are_refused_with_what_they_are(tmp_path, theirs, ours):
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    cases = {
        "cut.pt": (whole[:2000], "a zip archive without its end; download or copy it again"),
        "empty.pt": (b"", "is empty"),
        "page.pt": (b"<!doctype html><html>404</html>", "an HTML page; download the file itself"),
        "text.pt": (b"hello", "is text; give a .safetensors file"),
        "onnx.pt": (b"\x08\x08\x12\x07pytorch" + bytes(50), "`cifar-deploy bench`"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "cut.safetensors": (b"\x40\0\0\0\0\0\0\0" + b'{"a":1', "no whole safetensors file"),
    }
    for name, (content, told) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LoadError, match=told):
            fit(ours, tmp_path / name, "net")
    torch.jit.script(theirs).save(tmp_path / "script.pt")
    with pytest.raises(LoadError, match="a TorchScript program; measure it"):
        fit(ours, tmp_path / "script.pt", "net")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(LoadError, match="holds list, and no dictionary of weights"):
        fit(ours, tmp_path / "list.pt", "net")

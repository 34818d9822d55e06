"""Fine-tuning: first weights from a file, and all but the last layer frozen."""

import dataclasses

import pytest
import torch
from torch import nn

from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.records import File, Training
from cifar_deploy.core.store import Store, described
from cifar_deploy.networks import complete
from cifar_deploy.training.initial import freeze, head_of, initialise
from tests.conftest import TINY
from tests.in_process import run_here
from tests.probes import a_checkpoint


def _training(path, classes=10, network="resnet8"):
    training = a_checkpoint().training
    assert isinstance(training, Training)
    recipe = dataclasses.replace(training.recipe, init=described(path))
    return dataclasses.replace(training, network=network, data=_data(classes), recipe=recipe)


def _data(classes):
    return dataclasses.replace(a_checkpoint().training.data, classes=tuple(map(str, range(classes))))


@pytest.fixture
def theirs(tmp_path):
    torch.manual_seed(5)
    body = complete.build("resnet8", _data(10))[1]
    torch.save(body.state_dict(), tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


def test_the_last_layer_begins_fresh_where_the_classes_are_others(theirs):
    given = torch.load(theirs, weights_only=True)
    for classes in (10, 3):
        training = _training(theirs, classes)
        network = complete.build("resnet8", training.data)
        head = head_of(network, classes)
        before = network.get_submodule(head).weight.clone()
        initialise(network, theirs, training)
        after = network[1].state_dict()
        same = {
            key for key, value in given.items() if after[key].shape == value.shape and torch.equal(after[key], value)
        }
        assert given.keys() - same == (
            {f"{head.removeprefix('1.')}.weight", f"{head.removeprefix('1.')}.bias"} if classes == 3 else set()
        )
        assert torch.equal(network.get_submodule(head).weight, before) == (classes == 3)


def test_another_file_than_the_recipe_says_is_refused(theirs):
    training = _training(theirs)
    theirs.write_bytes(theirs.read_bytes() + b"\0")
    with pytest.raises(Corrupt, match="has changed since the command began"):
        initialise(complete.build("resnet8", training.data), theirs, training)


def test_frozen_is_all_but_the_last_layer(theirs):
    training = _training(theirs)
    network = complete.build("resnet8", training.data)
    frozen, head = freeze(network, training), head_of(network, 10)
    assert {name for name, weight in network.named_parameters() if weight.requires_grad} == {
        f"{head}.weight",
        f"{head}.bias",
    }
    assert "" not in frozen and head not in frozen and any(name.startswith("1.") for name in frozen)


def test_a_network_without_such_a_layer_is_not_frozen(theirs):
    with pytest.raises(UsageError, match="--freeze: resnet8 has no layer with an output for each of 10 classes"):
        freeze(nn.Sequential(nn.Identity(), nn.Conv2d(3, 7, 1)), _training(theirs))


@pytest.mark.usefixtures("workers_here")
def test_train_goes_on_from_a_file(tmp_path, theirs):
    line = ["train", "resnet8", "--name", "fine", *TINY, "--init", theirs, "--freeze", "--out", tmp_path]
    done = run_here(*line)
    assert done.returncode == 0, done.stderr
    assert "from theirs.pt, all but its last layer frozen" in done.stdout
    checkpoint = Store(tmp_path).checkpoint("fine")
    assert checkpoint.recipe.init == described(theirs) and checkpoint.recipe.freeze
    assert checkpoint.parameters == sum(w.numel() for w in complete.build("resnet8", _data(10)).parameters())
    data, folder = checkpoint.training.data, Store(tmp_path).checkpoint_folder("fine")
    network, _ = complete.read("resnet8", data, folder / "weights.safetensors")
    given, found = torch.load(theirs, weights_only=True), network[1].state_dict()
    head = head_of(network, 10).removeprefix("1.")
    # Statistics of batch norm as well.
    assert {key for key, value in given.items() if not torch.equal(value, found[key])} == {
        f"{head}.weight",
        f"{head}.bias",
    }
    assert "(trained before)" in run_here(*line).stdout
    other = run_here(*line[:-3], "--out", tmp_path)
    assert other.returncode == 2 and "exists already with freeze on, not off" in other.stderr


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--freeze"], "--freeze: needs --init"),
        (["--init", "nothing.pt"], "--init: nothing.pt does not exist"),
        (["--init", "."], "--init: . is a folder; give the file itself"),
    ],
)
def test_a_wrong_line_is_refused(tmp_path, arguments, told):
    refused = run_here("train", "resnet8", *TINY, *arguments, "--out", tmp_path / "out")
    assert (refused.returncode, refused.stdout) == (2, "") and told in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_record_names_the_file():
    recipe = dataclasses.replace(a_checkpoint().training.recipe, init=File(name="w.pt", bytes=1, sha256="a" * 64))
    assert "from w.pt" in str(recipe) and "frozen" not in str(recipe)

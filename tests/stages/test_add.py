"""A network that was trained elsewhere goes the whole road."""

import json

import pytest
import torch

from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.records import Addition, Normalisation
from cifar_deploy.core.store import Store
from cifar_deploy.networks import complete
from cifar_deploy.stages.add import TrainedElsewhere
from cifar_deploy.stages.prepare import prepare
from tests.conftest import TINY
from tests.in_process import run_here

pytestmark = pytest.mark.usefixtures("workers_here")

NETWORK = "tests.own_networks:colours"
FEW = ["--dataset", "digits", "--limit-test", "32"]


@pytest.fixture(scope="session")
def trained_file(tmp_path_factory):
    """Weights of resnet8 that this program did not make, in a checkpoint as training scripts write it."""
    torch.manual_seed(3)
    body = complete.build("resnet8", prepare("digits").data)[1]
    path = tmp_path_factory.mktemp("weights") / "last.ckpt"
    torch.save({"state_dict": {f"model.{key}": value for key, value in body.state_dict().items()}, "epoch": 7}, path)
    return path


def _add(out, *arguments):
    return run_here("add", *arguments, *FEW, "--out", out)


def test_it_is_exported_and_measured_as_if_it_had_been_trained_here(tmp_path, trained_file):
    added = _add(
        tmp_path, "mine", "--network", "resnet8", "--weights", trained_file, "--mean", "0.5", "--std", "0.25,0.5,0.25"
    )
    assert added.returncode == 0, added.stderr
    assert "add       mine: test accuracy" in added.stdout and "trained elsewhere" in added.stdout
    checkpoint = Store(tmp_path).checkpoint("mine")
    addition = checkpoint.training
    assert isinstance(addition, Addition) and (addition.entry, addition.prefix) == ("state_dict", "model.")
    assert addition.weights.name == "last.ckpt" and addition.normalisation == Normalisation(
        mean=(0.5,) * 3, std=(0.25, 0.5, 0.25)
    )
    assert (checkpoint.recipe, checkpoint.curve, checkpoint.seconds, checkpoint.test_images) == (None, (), 0, 32)

    assert run_here("export", "mine", "--format", "onnx", "--out", tmp_path).returncode == 0
    metrics = [
        word for metric in ("accuracy", "parity", "training_time", "parameters") for word in ("--metric", metric)
    ]
    evaluated = run_here(
        "evaluate",
        "mine",
        *metrics,
        "--limit-test",
        "32",
        "--backend",
        "onnxruntime",
        "--backend",
        "pytorch",
        "--out",
        tmp_path,
    )
    assert "training_time: the network was trained elsewhere" in evaluated.stdout
    reported = run_here("report", "--out", tmp_path, "--json")
    report = json.loads(reported.stdout)["report"]
    assert "trained elsewhere" in json.dumps(report)
    page = (tmp_path / "reports/report.html").read_text()
    assert "cifar-deploy add mine --network resnet8 --weights last.ckpt" in page and "--mean 0.5" in page


def test_its_accuracy_is_that_of_evaluate(tmp_path, trained_file):
    _add(tmp_path, "mine", "--network", "resnet8", "--weights", trained_file)
    document = json.loads(
        run_here(
            "evaluate", "mine", "--backend", "pytorch", "--metric", "accuracy", *FEW[2:], "--out", tmp_path, "--json"
        ).stdout
    )
    (result,) = document["results"]
    assert result["values"]["accuracy.accuracy"]["number"] == Store(tmp_path).checkpoint("mine").accuracy


def test_the_same_line_again_finds_it_and_another_is_refused(tmp_path, trained_file):
    line = ["mine", "--network", "resnet8", "--weights", trained_file]
    assert "(added before)" not in _add(tmp_path, *line).stdout
    before = Store(tmp_path).checkpoint("mine")
    assert "(added before)" in _add(tmp_path, *line).stdout
    refused = _add(tmp_path, *line, "--channels", "bgr")
    assert refused.returncode == 2 and "exists already with normalisation that of the data, not mean" in refused.stderr
    assert Store(tmp_path).checkpoint("mine") == before
    assert _add(tmp_path, *line, "--channels", "bgr", "--force").returncode == 0
    trained = run_here(
        "train", "resnet8", "--name", "mine", *FEW, "--limit-train", "64", "--epochs", "1", "--out", tmp_path
    )
    assert trained.returncode == 2 and "exists already, and was trained elsewhere" in trained.stderr


def test_a_function_may_return_a_trained_module(tmp_path):
    added = _add(tmp_path, "mine", "--network", NETWORK)
    assert added.returncode == 0, added.stderr
    checkpoint = Store(tmp_path).checkpoint("mine")
    assert checkpoint.training.weights is None
    network = complete.load(
        NETWORK, checkpoint.training.data, Store(tmp_path).checkpoint_folder("mine") / "weights.safetensors"
    )
    assert torch.equal(network[1].head.weight, torch.arange(30.0).view(10, 3) / 30)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["resnet8"], "--weights: missing, and resnet8 comes without trained ones"),
        (["mine", "--network", "resnet8"], "--weights: missing"),
        (
            ["mine", "--network", "resnet9", "--weights", "x"],
            "resnet9: no network has this name; did you mean 'resnet8'",
        ),
        (["mine"], "mine: no network has this name"),
        (["mine", "--network", "resnet8", "--weights", "nothing.pt"], "--weights: nothing.pt does not exist"),
        (["mine", "--network", "resnet8", "--weights", "."], "is a folder; give the file itself"),
        (["a/b", "--network", "resnet8", "--weights", __file__], "a/b: cannot name a training"),
        (["resnet8", "--weights", __file__, "--mean", "0.5"], "--mean: needs --std; give both"),
        (
            ["resnet8", "--weights", __file__, "--mean", "127.5", "--std", "1"],
            "127.5 is outside of 0 to 1; give it for pixels in 0..1",
        ),
        (["resnet8", "--weights", __file__, "--mean", "1,2", "--std", "1"], "1,2 is neither one number nor three"),
        (
            ["resnet8", "--weights", __file__, "--mean", "0", "--std", "0"],
            "--std: 0 holds 0, by which nothing can be divided",
        ),
        (["resnet8", "--weights", __file__, "--preprocess", "resnet18"], "--preprocess: resnet18 is none"),
        (
            ["resnet8", "--weights", __file__, "--preprocess", "torchvision:ResNet18_Weights.V9"],
            "no entry of weights in torchvision",
        ),
        (["mine", "--network", NETWORK, "--entry", "ema"], "--entry: needs --weights"),
    ],
)
def test_a_wrong_line_is_refused_and_leaves_nothing(tmp_path, arguments, told):
    refused = _add(tmp_path / "out", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert told in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_end_the_command(tmp_path, trained_file):
    refused = _add(tmp_path, "mine", "--network", "resnet20", "--weights", trained_file)
    assert refused.returncode == 1 and "its weights (entry state_dict) are not those of resnet20" in refused.stderr
    assert not (tmp_path / "exported/mine").exists()


def test_options_win_over_what_a_library_says(tmp_path, trained_file):
    given = ["--preprocess", "torchvision:ResNet18_Weights.IMAGENET1K_V1", "--std", "0.5", "--size", "32"]
    assert _add(tmp_path, "resnet8", "--weights", trained_file, *given).returncode == 0
    assert Store(tmp_path).checkpoint("resnet8").training.normalisation == Normalisation(
        mean=(0.485, 0.456, 0.406), std=(0.5,) * 3
    )


def test_without_training_images_mean_and_std_are_asked_for(trained_file):
    import dataclasses

    from cifar_deploy.stages.add import addition_of

    prepared = prepare("digits")
    alone = dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, train_images=0))
    with pytest.raises(UsageError, match="there are no training images to take them from"):
        addition_of(alone, "mine", TrainedElsewhere(network="resnet8", weights=trained_file))


def test_it_teaches_a_network_that_is_trained_here(tmp_path, trained_file):
    mine = ["mine", "--network", "resnet8", "--weights", trained_file]
    assert _add(tmp_path, *mine, "--mean", "0.5", "--std", "0.25").returncode == 0
    taught = ["train", "resnet8", "--name", "pupil", "--teacher", "mine", *TINY, "--threads", "1", "--out", tmp_path]
    done = run_here(*taught)
    assert done.returncode == 0, done.stderr
    teacher, pupil = Store(tmp_path).checkpoint("mine"), Store(tmp_path).checkpoint("pupil")
    assert pupil.recipe.teacher.weights == teacher.weights
    # Another file under the same name is another teacher.
    assert _add(tmp_path, *mine, "--mean", "0.5", "--std", "0.25", "--force").returncode == 0
    assert "trained before" in run_here(*taught).stdout
    assert _add(tmp_path, *mine[:3], "--weights", _other(trained_file, tmp_path), "--force").returncode == 0
    refused = run_here(*taught)
    assert refused.returncode == 2 and "pupil: exists already with teacher mine" in refused.stderr


def _other(path, folder):
    """Weights like those of the file, and others."""
    held = torch.load(path, weights_only=True)
    held["state_dict"] = {name: value * 2 for name, value in held["state_dict"].items()}
    torch.save(held, folder / "other.ckpt")
    return folder / "other.ckpt"

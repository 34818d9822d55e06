"""A network that was built again is the trained one, or the command says that it is not."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cifar_deploy.core.errors import Corrupt, ExportError
from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.store import WEIGHTS, Store, as_artifact, described
from cifar_deploy.formats.checkpoint import save, save_trained
from cifar_deploy.networks import answers, complete
from cifar_deploy.workers import export
from tests.probes import a_checkpoint

DATA = dataclasses.replace(a_checkpoint().training.data, classes=tuple("abcdefghij"), height=32, width=32)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[str, Path]]:
    """A network of this name as training saves it."""

    def save_one(name: str, *, half: bool = False) -> tuple[str, Path]:
        name = f"tests.own_networks:{name}" if name != "resnet8" else name
        torch.manual_seed(1)
        network = complete.on("cpu", complete.build(name, DATA))
        save_trained(name, network, DATA, tmp_path / WEIGHTS, half=half)
        torch.manual_seed(2)
        return name, tmp_path / WEIGHTS

    return save_one


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("random_buffer", "1.projection"), ("random_attribute", "1.projection"), ("random_list", "1.projections")],
)
def test_other_constants_are_noticed_and_named(name: str, lacking: str, saved: Callable[..., tuple[str, Path]]) -> None:
    network, weights = saved(name)
    with pytest.raises(Corrupt, match=rf"answers otherwise; its state_dict lacks {lacking}; register"):
        complete.load(network, DATA, weights)


@pytest.mark.parametrize("name", ["random_buffer", "random_closure", "noisy"])
def test_a_network_of_an_earlier_version_that_is_another_in_each_build_is_noticed(name: str, tmp_path: Path) -> None:
    network = f"tests.own_networks:{name}"
    save(complete.build(network, DATA), tmp_path / WEIGHTS)
    with pytest.raises(Corrupt, match="answers otherwise"):
        complete.load(network, DATA, tmp_path / WEIGHTS)


def test_another_environment_is_noticed(
    saved: Callable[..., tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_NETWORK", "2")
    network, weights = saved("of_the_environment")
    complete.load(network, DATA, weights)
    monkeypatch.setenv("OWN_NETWORK", "3")
    with pytest.raises(Corrupt, match="a file, the environment or a random number has changed; bring it back"):
        complete.load(network, DATA, weights)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["resnet8", "views", "recurrent"])
def test_the_same_network_is_known_in_any_layout_with_any_threads_and_rounded_weights(
    name: str, half: bool, saved: Callable[..., tuple[str, Path]]
) -> None:
    network, weights = saved(name, half=half)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            complete.load(network, DATA, weights)
            complete.load(network, DATA, weights, "cpu", "channels_last")
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("half", [False, True])
def test_a_weight_of_two_layers_is_one_weight_again(half: bool, saved: Callable[..., tuple[str, Path]]) -> None:
    network, weights = saved("tied", half=half)
    stored = load_file(weights)
    assert torch.equal(stored["1.2.weight"], stored["1.4.weight"])
    assert {stored[f"1.{layer}.weight"].dtype for layer in (2, 4)} == {torch.float16 if half else torch.float32}
    body = complete.load(network, DATA, weights)[1]  # type: ignore[index]
    assert body[2].weight is body[4].weight
    assert torch.equal(body[2].weight, stored["1.2.weight"].float())


def test_a_lazy_layer_has_the_weights_of_its_seed() -> None:
    def weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return complete.build("tests.own_networks:lazy", DATA)[1][3].weight.detach()  # type: ignore[index]

    assert torch.equal(weight(1), weight(1)) and not torch.equal(weight(1), weight(2))


def test_weights_of_an_earlier_version_hold_no_logits_and_are_read(tmp_path: Path) -> None:
    save(complete.build("resnet8", DATA), tmp_path / WEIGHTS)
    complete.load("resnet8", DATA, tmp_path / WEIGHTS)


@pytest.mark.parametrize("logits", ["[", "[[1, 2]]", '"x"', "{}", "[[[]]]", "1e999", "[" * 10_000])
def test_logits_that_make_no_sense_are_corrupt(logits: str, tmp_path: Path) -> None:
    network = "tests.own_networks:fixed_constants"
    save_file(complete.build(network, DATA).state_dict(), tmp_path / WEIGHTS, {"logits": logits})
    with pytest.raises(Corrupt):
        complete.load(network, DATA, tmp_path / WEIGHTS)


def test_the_images_are_the_same_everywhere() -> None:
    images = answers.fixed_images(8, 12)
    assert images.shape == (2, 3, 8, 12) and images.dtype == torch.float32
    assert (images[0, :, 0, :3] * 255).round().int().tolist() == [[24, 35, 53], [239, 251, 198], [34, 135, 62]]
    assert torch.equal(images[1, :, :4, :4], images[1, :, :1, :1].expand(3, 4, 4)), "grains of 4×4"


def a_stored(root: Path, network: str) -> tuple[Checkpoint, export.Reference, Path]:
    """A network trained by an earlier version, the images to compare it on, and a folder for an export."""
    store = Store(root)
    recorded = a_checkpoint()
    training = dataclasses.replace(recorded.training, network=network, data=DATA)
    folder = store.checkpoint_folder(training.name)
    for path in (folder, root / "staged", root / "images"):
        path.mkdir(parents=True)
    save(complete.build(network, DATA), folder / WEIGHTS)
    np.save(
        root / "images" / "test_images.npy", np.random.default_rng(0).integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    )
    reference = export.Reference(images=root / "images", stand_in=None, logits=root / "logits.npy")
    checkpoint = dataclasses.replace(recorded, training=training, weights=described(folder / WEIGHTS))
    return checkpoint, reference, root / "staged"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("noisy", "answers otherwise when it is asked again"),
        ("always_drops", "answers otherwise when it is asked again"),
        ("barely_noisy", "the network itself answers otherwise when it is asked again"),
        ("of_its_batch", "the network itself answers an image otherwise beside other images"),
    ],
)
def test_no_format_is_blamed_for_what_the_network_does(name: str, words: str, tmp_path: Path) -> None:
    checkpoint, reference, staged = a_stored(tmp_path, f"tests.own_networks:{name}")
    with pytest.raises((Corrupt, ExportError), match=words):
        wanted = replace(as_artifact(checkpoint), format="torchscript", files=())
        export.write(wanted, tmp_path, reference, staged)
    assert not reference.logits.exists() and not list(staged.iterdir())

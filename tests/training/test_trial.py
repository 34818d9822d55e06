"""Networks as users write them: whatever would fail after the last epoch, or never, is found before the first step."""

import dataclasses
import random
import re

import numpy as np
import pytest
import torch

from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.records import Layout, Recipe, Training
from cifar_deploy.training import batches
from cifar_deploy.training.randomness import seed_all
from cifar_deploy.training.trial import Trial, try_out
from tests.probes import a_checkpoint

RECIPE = Recipe(name="plain", optimizer="adam", learning_rate=0.001, epochs=1, batch_size=8, seed=0)
DATA = dataclasses.replace(a_checkpoint().training.data, classes=tuple("abcdefghij"), height=32, width=32)


def named(name: str, recipe: Recipe = RECIPE) -> Training:
    return Training(name="own", network=f"tests.own_networks:{name}", recipe=recipe, data=DATA)


def tried(name: str, recipe: Recipe = RECIPE, ranks: int = 1) -> Trial:
    return try_out(named(name, recipe), "cpu", ranks)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("tied", "channels_last"),
        ("views", "channels_last"),
        ("lazy", "channels_last"),
        ("remembers_its_first_call", "channels_last"),
        ("fixed_constants", "channels_last"),
        ("of_a_constant", "channels_last"),
        ("partly_frozen", "channels_last"),
        ("flattened_by_view", "contiguous"),
        ("viewed_backward", "contiguous"),
        ("by_strides", "contiguous"),
        ("in_three_dimensions", "contiguous"),
        ("placed", "contiguous"),
    ],
)
def test_a_network_that_works_is_trained_in_the_layout_that_suits_it(name: str, layout: str) -> None:
    assert tried(name).layout == layout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random_buffer", ["1.projection", "register_buffer"]),
        ("random_attribute", ["1.projection", "register_buffer"]),
        ("random_list", ["1.projections", "register_buffer"]),
        ("random_array", ["1.order", "register_buffer"]),
        ("random_number", ["1.frequency", "register_buffer"]),
        ("random_in_its_first_call", ["1.projection", "register_buffer"]),
        ("random_closure", ["something", "register_buffer"]),
        ("random_behind_zero", ["1.projection", "register_buffer"]),
        ("counted_calls", ["1.frequency", "register_buffer"]),
        ("learns_beside_its_state", ["1.mean", "register_buffer"]),
        ("extra_state", ["_extra_state", "dict", "buffer"]),
        ("of_complex_numbers", ["cannot be saved", "complex128"]),
        ("expanded", ["cannot be loaded", "__init__"]),
        ("made_in_its_first_call", ["cannot be loaded", "__init__"]),
        ("the_same_again", ["the same weights", "in each call"]),
        ("helped", ["tuple", "expected logits (2, 10)"]),
        ("two_heads", ["tuple in training", "expected logits (2, 10)"]),
        ("named_heads", ["dict in training", "expected logits (2, 10)"]),
        ("doubles_the_batch", ["(4, 10) in training", "expected logits (2, 10)"]),
        ("nothing_to_train", ["nothing to train"]),
        ("frozen", ["nothing to train"]),
        ("detached", ["no gradient", "detach()"]),
        ("not_a_number", ["not finite"]),
        ("float64", ["float64", "logits.float()"]),
        ("labels", ["int64", "expected logits"]),
        ("one_image_less_dimension", ["(10,)", "expected logits (1, 10)"]),
        ("keeps_its_graph", ["cannot be trained", "backward"]),
        ("noisy", ["answers otherwise when it is asked again", "self.training"]),
        ("slightly_noisy", ["answers otherwise when it is asked again", "self.training"]),
        ("always_drops", ["answers otherwise when it is asked again", "self.training"]),
        ("noisy_by_numpy", ["answers otherwise when it is asked again", "self.training"]),
        ("of_its_batch", ["beside other images", "track_running_stats"]),
    ],
)
def test_a_network_that_cannot_be_trusted_is_refused_with_the_way_out(name: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        tried(name)
    assert str(refused.value).startswith(f"tests.own_networks:{name}: ")
    assert all(word in str(refused.value) for word in words), refused.value
    assert len(str(refused.value)) <= 300


def test_what_cannot_be_trained_in_bfloat16_is_told_of_float32() -> None:
    assert tried("recomputes").layout == "channels_last"
    told = re.escape("recomputes: cannot be trained in bfloat16; give --arithmetic float32 (CheckpointError")
    with pytest.raises(UsageError, match=told):
        tried("recomputes", dataclasses.replace(RECIPE, arithmetic="bfloat16"))


def test_several_ranks_need_a_gradient_of_every_parameter() -> None:
    tried("unused", ranks=1)
    with pytest.raises(UsageError, match=r"1\.other\.weight, 1\.other\.bias get no gradient"):
        tried("unused", ranks=2)


def test_a_rate_that_diverges_is_for_the_training_to_report() -> None:
    tried("tied", dataclasses.replace(RECIPE, optimizer="sgd", learning_rate=1e30))


def test_a_trial_leaves_all_random_states_as_they_were() -> None:
    def drawn() -> tuple[object, ...]:
        return torch.rand(3).tolist(), np.random.rand(), random.random()

    seed_all(7)
    expected = drawn()
    seed_all(7)
    tried("lazy")
    assert drawn() == expected


def test_the_shipped_networks_pass_channels_last() -> None:
    for scales in ((1.0,), (0.5, 1.0)):
        recipe = dataclasses.replace(RECIPE, scales=scales, epochs=2)
        found = try_out(Training(name="own", network="resnet8", recipe=recipe, data=DATA), "cpu", 1)
        assert found == Trial(layout="channels_last", macs=12_501_632)


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_images_come_in_the_layout_of_the_network(layout: Layout) -> None:
    pixels = torch.randint(256, (16, 32, 32, 3), dtype=torch.uint8)
    formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    for scales in ((1.0,), (0.5, 1.0)):
        recipe = dataclasses.replace(RECIPE, scales=scales, epochs=2)
        epoch = batches.Epoch(pixels, torch.arange(16), recipe, 0, layout)
        images = epoch.take(epoch.order[0]).images
        assert images.is_contiguous(memory_format=formats[layout])
        assert not images.is_contiguous(
            memory_format=formats["contiguous" if layout == "channels_last" else "channels_last"]
        )

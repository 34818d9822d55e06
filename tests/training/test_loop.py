import dataclasses
import math
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cifar_deploy.core import progress
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import Epoch, Recipe, Training
from cifar_deploy.training import loop, ranks
from cifar_deploy.training import setup as training_setup
from cifar_deploy.training.loop import run, stretch
from cifar_deploy.training.optimise import optimizer_of, step
from cifar_deploy.training.randomness import seed_all
from cifar_deploy.training.setup import Arrays, TrainingSetup, evaluate
from cifar_deploy.training.state import Position, State, restored
from tests.probes import a_checkpoint

RECIPE = Recipe(name="plain", optimizer="sgd", learning_rate=0.1, epochs=2, batch_size=8, seed=0)


class Deaf(ranks.Group):
    """One of two ranks that hears nothing of the other."""

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return value


class Drawing(nn.Module):
    """Draws from each random generator that a network may use: torch's, numpy's and Python's own."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return images
        masked = functional.dropout(images, 0.3) * torch.from_numpy(np.random.rand(images.shape[1])).float()
        return masked * random.random()


def a_setup(group: ranks.Group, recipe: Recipe = RECIPE, network: nn.Module | None = None) -> TrainingSetup:
    network = network or nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 10))
    images, labels = torch.zeros(32, 4, 4, 3, dtype=torch.uint8), torch.arange(32) % 10
    return TrainingSetup(
        training=Training(name="small", network="linear", recipe=recipe, data=a_checkpoint().training.data),
        network=network,
        model=network,
        optimizer=optimizer_of(network, recipe),
        arrays=Arrays(train_images=images, train_labels=labels, test_images=images, test_labels=labels),
        device="cpu",
        group=group,
    )


def test_a_stretch_goes_on_where_the_last_one_ended() -> None:
    at = Position(curve=[])
    setup = a_setup(ranks.Group("cpu"))
    stretch(setup, at, 4, longest_s=0.0)
    assert (at.step, at.images, len(at.disturbances)) == (1, 8, 1)
    stretch(setup, at, 4, math.inf)
    assert (at.step, at.images, len(at.disturbances)) == (4, 32, 2)
    assert at.loss_sum / at.images == pytest.approx(math.log(10), rel=0.2)


@pytest.mark.parametrize(("rank", "expected"), [(0, 40.0), (1, 0.0)])
def test_what_was_summed_up_before_is_counted_by_the_first_rank_alone(rank: int, expected: float) -> None:
    at = Position(curve=[], step=4, images=32, loss_sum=40.0)
    stretch(a_setup(Deaf("cpu", rank, count=2)), at, 4, math.inf)
    assert at.loss_sum == expected


def test_each_step_has_the_learning_rate_that_the_recipe_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, warmup=0.5, decay="linear", bias_rate=4.0)
    setup = a_setup(ranks.Group("cpu"), recipe)
    rates = []

    def noting(model: nn.Module, optimizer: torch.optim.Optimizer, *arguments: Any) -> Tensor:
        rates.append([group["lr"] for group in optimizer.param_groups])
        return step(model, optimizer, *arguments)

    monkeypatch.setattr(loop, "step", noting)
    run(setup, State(tmp_path, {}, test_images=32), math.inf, "here")
    # Eight steps in two epochs. In the middle of the first one a sixteenth of the training lies behind.
    expected = [0.0125, 0.0375, 0.0625, 0.0875, 0.0875, 0.0625, 0.0375, 0.0125]
    assert [weights for weights, _ in rates] == pytest.approx(expected)
    assert [biases for _, biases in rates] == pytest.approx([4 * rate for rate in expected])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stopped_after", [1, 3, 6])
def test_a_network_that_draws_random_numbers_ends_in_the_same_weights_however_it_was_interrupted(
    tmp_path: Path, optimizer: Literal["sgd", "adam"], stopped_after: int
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, momentum=0.9)

    def begun() -> TrainingSetup:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), Drawing(), nn.Linear(3 * 16, 10))
        setup = a_setup(ranks.Group("cpu"), recipe, network)
        setup.arrays.train_images.copy_(torch.arange(32 * 48).reshape(32, 4, 4, 3) % 251)
        return setup

    through, broken, resumed = begun(), begun(), begun()
    run(through, None, math.inf, "here")
    state = State(tmp_path, {}, test_images=32)
    at = Position(curve=[])
    for _ in range(stopped_after):
        stretch(broken, at, 4, longest_s=0.0)
        if at.step == 4:
            at = Position(curve=[Epoch(loss=1.0, accuracy=0.5, seconds=1.0, wall_seconds=1.0)])
    state.save(broken.network, broken.optimizer, at)
    seed_all(5)  # as in a new process, where other random numbers have been drawn
    run(resumed, state, math.inf, "here")
    for name, value in through.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_ranks_draw_random_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(TrainingSetup, "begin_training", lambda _: drawn.append(torch.rand(1).item()))
    for rank in (0, 1, 0):
        stretch(a_setup(Deaf("cpu", rank, count=2)), Position(curve=[], step=4, images=1), 4, math.inf)
    assert drawn[0] == drawn[2] != drawn[1]


def test_what_changed_on_the_way_is_known_at_the_end(tmp_path: Path) -> None:
    setup = a_setup(ranks.Group("cpu"))
    begun = State(tmp_path, {"threads": 1}, test_images=32)
    begun.save(setup.network, setup.optimizer, Position(curve=[], step=2, images=16))
    ended = run(setup, State(tmp_path, {"threads": 2}, test_images=32), math.inf, "here")
    assert len(ended.curve) == 2 and ended.changes == ("from epoch 1, step 3 with threads 2, not 1",)


def test_a_long_test_is_seen_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = progress.Reporter()
    report.folder = tmp_path
    report(3, 7, milestone="an epoch")
    monkeypatch.setattr(progress, "_INTERVAL_S", 0.0)
    monkeypatch.setattr(training_setup, "report", report)
    setup = a_setup(ranks.Group("cpu"))
    evaluate(setup.network, setup.arrays, setup.group)
    shown = progress.read(tmp_path)
    assert shown and (shown.done, shown.total, shown.message) == (3, 7, "testing: 0 of 32 images")


def test_a_state_of_another_network_or_version_is_refused_with_the_way_out() -> None:
    setup, other = a_setup(ranks.Group("cpu")), nn.Linear(3, 10)
    saved = {"network": other.state_dict(), "optimizer": setup.optimizer.state_dict()}
    with pytest.raises(Corrupt, match="--force"):
        restored(saved, setup.network, setup.optimizer)
    older = torch.optim.Adam(setup.network.parameters())  # all parameters in one group
    saved = {"network": setup.network.state_dict(), "optimizer": older.state_dict()}
    with pytest.raises(Corrupt, match="--force"):
        restored(saved, setup.network, setup.optimizer)

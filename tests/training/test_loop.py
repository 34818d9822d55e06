import math
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_deploy.core import progress
from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.records import Recipe, Training
from cifar_deploy.training import ranks
from cifar_deploy.training import setup as training_setup
from cifar_deploy.training.loop import run, stretch
from cifar_deploy.training.optimise import optimizer_of
from cifar_deploy.training.setup import Arrays, TrainingSetup, evaluate
from cifar_deploy.training.state import Position, State, restored
from tests.probes import a_checkpoint

RECIPE = Recipe(name="plain", optimizer="sgd", learning_rate=0.1, epochs=2, batch_size=8, seed=0)


class Deaf(ranks.Group):
    """One of two ranks that hears nothing of the other."""

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return value


def a_subject(group: ranks.Group) -> TrainingSetup:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 10))
    images, labels = torch.zeros(32, 4, 4, 3, dtype=torch.uint8), torch.arange(32) % 10
    return TrainingSetup(
        training=Training(name="small", network="linear", recipe=RECIPE, data=a_checkpoint().training.data),
        network=network,
        model=network,
        optimizer=optimizer_of(network, RECIPE),
        arrays=Arrays(train_images=images, train_labels=labels, test_images=images, test_labels=labels),
        device="cpu",
        group=group,
    )


def test_a_stretch_goes_on_where_the_last_one_ended() -> None:
    at = Position(curve=[])
    setup = a_subject(ranks.Group("cpu"))
    stretch(setup, at, 4, longest_s=0.0)
    assert (at.step, at.images, len(at.disturbances)) == (1, 8, 1)
    stretch(setup, at, 4, math.inf)
    assert (at.step, at.images, len(at.disturbances)) == (4, 32, 2)
    assert at.loss_sum / at.images == pytest.approx(math.log(10), rel=0.2)


@pytest.mark.parametrize(("rank", "expected"), [(0, 40.0), (1, 0.0)])
def test_what_was_summed_up_before_is_counted_by_the_first_rank_alone(rank: int, expected: float) -> None:
    at = Position(curve=[], step=4, images=32, loss_sum=40.0)
    stretch(a_subject(Deaf("cpu", rank, count=2)), at, 4, math.inf)
    assert at.loss_sum == expected


def test_what_changed_on_the_way_is_known_at_the_end(tmp_path: Path) -> None:
    setup = a_subject(ranks.Group("cpu"))
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
    setup = a_subject(ranks.Group("cpu"))
    evaluate(setup.network, setup.arrays, setup.group)
    shown = progress.read(tmp_path)
    assert shown and (shown.done, shown.total, shown.message) == (3, 7, "testing: 0 of 32 images")


def test_a_state_of_another_network_or_version_is_refused_with_the_way_out() -> None:
    setup, other = a_subject(ranks.Group("cpu")), nn.Linear(3, 10)
    saved = {"network": other.state_dict(), "optimizer": setup.optimizer.state_dict()}
    with pytest.raises(Corrupt, match="--force"):
        restored(saved, setup.network, setup.optimizer)
    older = torch.optim.Adam(setup.network.parameters())  # all parameters in one group
    saved = {"network": setup.network.state_dict(), "optimizer": older.state_dict()}
    with pytest.raises(Corrupt, match="--force"):
        restored(saved, setup.network, setup.optimizer)

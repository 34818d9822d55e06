import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cifar_deploy.core.records import Recipe
from cifar_deploy.training import forecast, ranks
from cifar_deploy.training.forecast import choose_arithmetic, seconds_left
from cifar_deploy.training.setup import TrainingSetup
from cifar_deploy.training.state import Position
from tests.training.test_loop import a_subject


class _Random(nn.Module):
    """Dropout and batch norm: what a try must not leave behind."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.BatchNorm1d(10), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def _setup() -> TrainingSetup:
    setup = a_subject(ranks.Group("cpu"))
    setup.network = setup.model = _Random()
    return setup


def _timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """A clock that knows how long a step in each arithmetic takes."""

    def steps(setup: TrainingSetup, recipe: Recipe, epoch: object) -> Iterator[float]:
        while True:
            yield seconds[recipe.arithmetic]

    monkeypatch.setattr(forecast, "_steps_s", steps)


@pytest.mark.parametrize(
    ("exact", "other", "chosen"), [(1.0, 0.5, "bfloat16"), (1.0, 0.97, "float32"), (1.0, 1.3, "float32")]
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, exact: float, other: float, chosen: str
) -> None:
    _timed(monkeypatch, float32=exact, bfloat16=other)
    setup = _setup()
    assert choose_arithmetic(setup) == {"float32": exact, "bfloat16": other}
    assert setup.training.recipe.arithmetic == chosen


def test_a_try_leaves_nothing_behind() -> None:
    setup = _setup()
    weights, random = copy.deepcopy(setup.network.state_dict()), torch.get_rng_state()
    found = choose_arithmetic(setup)
    assert set(found) == {"float32", "bfloat16"} and all(seconds > 0 for seconds in found.values())
    assert seconds_left(setup, Position(curve=[])) > 0
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in setup.network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert not setup.optimizer.state

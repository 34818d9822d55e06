import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cifar_deploy.core import trust
from cifar_deploy.core.records import Epoch, File, Recipe, Teacher
from cifar_deploy.training import batches, forecast, ranks
from cifar_deploy.training.forecast import faster_arithmetic, seconds_left
from cifar_deploy.training.optimise import optimizer_of
from cifar_deploy.training.setup import TrainingSetup
from cifar_deploy.training.state import Position
from cifar_deploy.training.trial import Trial
from tests.training.test_loop import a_setup


class _Random(nn.Module):
    """Dropout and batch norm: what a try must not leave behind."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes), nn.BatchNorm1d(classes), nn.Dropout(0.5)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def _setup() -> TrainingSetup:
    trust.give(["tests.training.test_forecast:network"])
    setup = a_setup(ranks.Group("cpu"))
    setup.network = setup.model = _Random()
    setup.training = replace(setup.training, network="tests.training.test_forecast:network")
    setup.optimizer = optimizer_of(setup.network, replace(setup.training.recipe, momentum=0.9))
    return setup


def network(classes: int) -> nn.Module:
    return _Random(classes)


class _Refuses(nn.Module):
    """Raises an error in every arithmetic but float32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.mean((2, 3)))
        if logits.dtype != torch.float32:
            raise RuntimeError("Index put requires the source and destination dtypes match")
        return logits


def _timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Replaces the clock: a step in each arithmetic takes these seconds."""

    def steps(setup: TrainingSetup, recipe: Recipe, epoch: object) -> Iterator[float]:
        while True:
            yield seconds[recipe.arithmetic]

    monkeypatch.setattr(forecast, "_steps_s", steps)


@pytest.mark.parametrize(
    ("exact", "other", "chosen"),
    [(1.0, 0.5, "bfloat16"), (1.0, 0.97, "float32"), (1.0, 1.3, "float32"), (1.0, 9.0, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, exact: float, other: float, chosen: str
) -> None:
    _timed(monkeypatch, float32=exact, bfloat16=other)
    setup = _setup()
    assert faster_arithmetic(setup) == (chosen, {"float32": exact, "bfloat16": other})


@pytest.mark.parametrize(("seconds", "steps"), [(1.5, 15), (9.0, 1)])
def test_no_more_steps_are_made_in_what_is_hopeless(
    monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    made = []

    def counted(setup: TrainingSetup, recipe: Recipe, epoch: object) -> Iterator[float]:
        while True:
            made.append(recipe.arithmetic)
            yield 1.0 if recipe.arithmetic == "float32" else seconds

    monkeypatch.setattr(forecast, "_steps_s", counted)
    faster_arithmetic(_setup())
    assert made.count("bfloat16") == steps


def test_a_network_that_cannot_be_trained_in_bfloat16_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.training.test_forecast.network", _Refuses)
    assert faster_arithmetic(_setup()) == ("float32", {})


def test_a_teacher_that_refuses_bfloat16_teaches_all_the_same() -> None:
    setup = _setup()
    setup.teacher = _Refuses(10).eval()
    teacher = Teacher(
        name="t", network="t", weights=File(name="w", bytes=1, sha256="0" * 64), temperature=4, weight=0.9
    )
    setup.training = replace(setup.training, recipe=replace(setup.training.recipe, teacher=teacher))
    assert set(faster_arithmetic(setup)[1]) == {"float32", "bfloat16"}


def test_bfloat16_that_takes_another_layout_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "try_out", lambda *_: Trial(layout="contiguous"))
    assert faster_arithmetic(_setup()) == ("float32", {})


@pytest.mark.parametrize(
    ("finished", "step", "expected"),
    [
        # Four steps an epoch: of 1 s in the two with small images, then of 3 s. A test takes 0.5 s.
        (0, 0, 2 * 4 * 1 + 2 * 4 * 3 + 4 * 0.5),
        (1, 3, 1 * 1 + 2 * 4 * 3 + 3 * 0.5),
        (3, 2, 2 * 3 + 0.5),
    ],
)
def test_the_time_that_is_left_is_that_of_the_steps_and_tests_to_come(
    monkeypatch: pytest.MonkeyPatch, finished: int, step: int, expected: float
) -> None:
    def steps(setup: TrainingSetup, recipe: Recipe, epoch: batches.Epoch) -> Iterator[float]:
        while True:
            yield 1.0 if epoch.take(epoch.order[0]).images.shape[2] < 4 else 3.0

    class HalfASecond:
        seconds = 0.5

        def __init__(self, device: str) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(forecast, "_steps_s", steps)
    monkeypatch.setattr(forecast, "Stopwatch", HalfASecond)
    setup = _setup()
    recipe = replace(setup.training.recipe, epochs=4, scales=(0.5, 1.0))
    setup.training = replace(setup.training, recipe=recipe)
    epoch = Epoch(loss=1.0, accuracy=0.5, seconds=1.0, wall_seconds=1.0)
    assert seconds_left(setup, Position(curve=[epoch] * finished, step=step)) == pytest.approx(expected)


def test_a_try_leaves_nothing_behind() -> None:
    setup = _setup()
    weights, random = copy.deepcopy(setup.network.state_dict()), torch.get_rng_state()
    _, found = faster_arithmetic(setup)
    assert set(found) == {"float32", "bfloat16"} and all(seconds > 0 for seconds in found.values())
    assert seconds_left(setup, Position(curve=[])) > 0
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in setup.network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert not setup.optimizer.state

"""Estimates from a few training steps: the time that is left, and the faster arithmetic."""

import contextlib
import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping

from cifar_deploy.core import statistics
from cifar_deploy.core.errors import UsageError, one_line
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Arithmetic, Recipe
from cifar_deploy.training import batches, randomness
from cifar_deploy.training.clock import Stopwatch
from cifar_deploy.training.optimise import optimizer_of, step
from cifar_deploy.training.setup import EVALUATION_BATCH, TrainingSetup, evaluate
from cifar_deploy.training.state import Position
from cifar_deploy.training.trial import try_out

_ESTIMATE_STEPS = 3

# The exact one, and the one that must be so many times as fast to be taken.
_ARITHMETICS: tuple[Arithmetic, ...] = ("float32", "bfloat16")
_WORTH_IT = 1.05
_HOPELESS = 2.0  # times as slow in the first pair: no more are timed

# Pairs of steps, one in each arithmetic: at least the fewest, then more until the time is over.
_FEWEST_PAIRS, _MOST_PAIRS = 3, 15
_LONGEST_S = 10.0


def seconds_left(setup: TrainingSetup, at: Position) -> float:
    """Time for the steps and tests to come. Leaves the network and its randomness as they were."""
    recipe, arrays, steps = setup.training.recipe, setup.arrays, len(setup.batches(0))
    height, width = arrays.train_images.shape[1:3]
    sample = dataclasses.replace(
        arrays, test_images=arrays.test_images[:EVALUATION_BATCH], test_labels=arrays.test_labels[:EVALUATION_BATCH]
    )
    epochs = range(len(at.curve), recipe.epochs)
    step_s: dict[tuple[int, int], float] = {}
    with _only_trying(setup):
        for number in epochs:
            size = batches.scaled(recipe, number, height, width)
            if size not in step_s:
                first_s = itertools.islice(_steps_s(setup, recipe, setup.batches(number)), _ESTIMATE_STEPS)
                step_s[size] = sum(first_s) / _ESTIMATE_STEPS
        watch = Stopwatch(setup.device)
        with watch:
            evaluate(setup.network, sample, setup.group, setup.trial.layout)
    of_epochs = [step_s[batches.scaled(recipe, number, height, width)] for number in epochs]
    tests_s = watch.seconds * len(epochs) * len(arrays.test_labels) / len(sample.test_labels)
    return steps * sum(of_epochs) - at.step * of_epochs[0] + tests_s


def faster_arithmetic(setup: TrainingSetup) -> tuple[Arithmetic, Mapping[str, float]]:
    """The faster one, and the median seconds of a step in each.

    Times pairs of steps on the last epoch's images, which are the largest. Takes bfloat16 if the median ratio of the pairs
    is at least 1.05, else float32. Where the network cannot be trained in bfloat16, nothing is timed. The first rank decides
    for all. Leaves the network and its randomness as they were.
    """
    recipe, (exact, other) = setup.training.recipe, _ARITHMETICS
    if reason := setup.group.from_first(_why_impossible(setup, other)):
        report(0, 1, milestone=f"arithmetic {exact}: {other} cannot be used ({reason})")
        return exact, {}
    epoch = setup.batches(recipe.epochs - 1)
    taken_s: dict[Arithmetic, list[float]] = {arithmetic: [] for arithmetic in _ARITHMETICS}
    with _only_trying(setup):
        ways = {each: _steps_s(setup, dataclasses.replace(recipe, arithmetic=each), epoch) for each in _ARITHMETICS}
        begun = time.perf_counter()
        for done in range(_MOST_PAIRS):
            is_clear = done > 0 and taken_s[other][0] > _HOPELESS * taken_s[exact][0]
            is_over = done >= _FEWEST_PAIRS and time.perf_counter() - begun > _LONGEST_S
            if setup.group.from_first(is_clear or is_over):
                break
            for arithmetic, seconds in ways.items():
                report(done, _MOST_PAIRS, f"trying {arithmetic}")
                taken_s[arithmetic].append(next(seconds))
    ratio = statistics.median(slow / fast for slow, fast in zip(taken_s[exact], taken_s[other], strict=True))
    chosen = setup.group.from_first(other if ratio >= _WORTH_IT else exact)
    report(0, 1, milestone=f"arithmetic {chosen}: a step in {other} is {ratio:.2f} times as fast as in {exact}")
    return chosen, {arithmetic: statistics.median(seconds) for arithmetic, seconds in taken_s.items()}


def _why_impossible(setup: TrainingSetup, arithmetic: Arithmetic) -> str | None:
    """Tries a network of its own, as every training does before its first step."""
    report(0, 1, f"trying {arithmetic}")
    try:
        trial = try_out(setup.training.computed_in(arithmetic), setup.device, setup.group.count)
    except UsageError as error:
        return one_line(str(error), 200)
    mine, other = setup.trial.layout, trial.layout
    if mine != other:
        return f"it takes {other} images, and {setup.training.recipe.arithmetic} takes {mine} ones"
    return None


@contextlib.contextmanager
def _only_trying(setup: TrainingSetup) -> Iterator[None]:
    """Restores weights, batch statistics and random state at the end."""
    before = copy.deepcopy(setup.network.state_dict())
    try:
        with randomness.kept():
            yield
    finally:
        setup.network.load_state_dict(before)


def _steps_s(setup: TrainingSetup, recipe: Recipe, epoch: batches.Epoch) -> Iterator[float]:
    """Seconds of each step, with an optimizer of its own. The first step is left out: it sets up the kernels."""
    optimizer = optimizer_of(setup.network, recipe)
    setup.begin_training()
    for index in itertools.count():
        watch = Stopwatch(setup.device)
        with watch:
            chosen = epoch.order[index % len(epoch)]
            batch = epoch.take(setup.group.share(chosen))
            step(setup.model, optimizer, recipe, batch, len(chosen), setup.teacher)
        if index:
            yield watch.seconds

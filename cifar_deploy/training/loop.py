"""Epoch after epoch, from wherever the training stands."""

import copy
import dataclasses
import math
import time

import torch

from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.errors import Diverged
from cifar_deploy.core.progress import duration, report
from cifar_deploy.core.records import Epoch
from cifar_deploy.training import batches, curves
from cifar_deploy.training.clock import Stopwatch
from cifar_deploy.training.optimise import optimizer_of, set_learning_rate, step
from cifar_deploy.training.setup import EVALUATION_BATCH, TrainingSetup, evaluate
from cifar_deploy.training.state import Position, State, restored

_ESTIMATE_STEPS = 3


def run(setup: TrainingSetup, state: State | None, checkpoint_every_s: float, where: str) -> Position:
    """All epochs, one after the other; only the first rank has a `state`."""
    recipe, group = setup.training.recipe, setup.group
    saved = group.from_first(state.newest() if state else None)
    at = restored(saved, setup.network, setup.optimizer) if saved else Position(curve=[])
    steps = len(setup.batches(0))
    total, done = steps * recipe.epochs, len(at.curve) * steps + at.step
    estimate_s = _estimate(setup, at)
    begins = f"going on after epoch {len(at.curve)}, step {at.step}, " if done else ""
    report(
        done, total, milestone=f"{begins}{where}, about {duration(estimate_s)} by a few steps of each size of images"
    )
    begun = time.perf_counter()
    while len(at.curve) < recipe.epochs:
        number = len(at.curve) + 1
        stretch(setup, at, steps, checkpoint_every_s)
        if at.step < steps:
            at.wall_seconds, begun = at.wall_seconds + time.perf_counter() - begun, time.perf_counter()
            if state:
                state.save(setup.network, setup.optimizer, at)
            continue
        group.settle(setup.network)
        accuracy = evaluate(setup.network, setup.arrays, group, setup.trial.layout)
        now = time.perf_counter()
        epoch = Epoch(
            loss=at.loss_sum / at.images,
            accuracy=accuracy,
            seconds=at.seconds,
            wall_seconds=at.wall_seconds + now - begun,
            disturbances=at.disturbances,
        )
        report(
            number * steps,
            total,
            milestone=f"epoch {number}/{recipe.epochs}  loss {epoch.loss:.4f}  test accuracy {accuracy:.2%}  "
            f"{at.seconds:.1f} s  {at.images / at.seconds:,.0f} images/s",
        )
        at = Position(curve=[*at.curve, epoch], changes=at.changes)
        begun = now  # so that saving this epoch is in the wall seconds of the next
        if state:
            curves.write(state.folder, at.curve)
            if number < recipe.epochs:
                state.save(setup.network, setup.optimizer, at)
    return at


def stretch(setup: TrainingSetup, at: Position, steps: int, longest_s: float) -> None:
    """Steps until the epoch ends or `longest_s` have passed, counted in `at`."""
    recipe, group, number = setup.training.recipe, setup.group, len(at.curve)
    is_alone = group.count == 1  # together with others nothing may depend on this rank's own clock
    if at.step == 0 or not is_alone:  # for networks with dropout; a state keeps the first rank's alone
        torch.manual_seed(batches.seed(recipe, number) + group.rank * 2**40 + at.step * 2**20)
    setup.begin_training()
    epoch = setup.batches(number)
    precision = torch.float32 if setup.device == "mps" else torch.float64
    # What was summed up before is counted once, whoever was there then.
    loss_sum = torch.tensor(at.loss_sum if group.is_first else 0.0, dtype=precision, device=setup.device)
    watch = Stopwatch(setup.device, at.seconds)
    with Watch() as gauges, watch:
        begun = time.perf_counter()
        shown = ""
        for index in range(at.step, steps):
            chosen = epoch.order[index]
            set_learning_rate(setup.optimizer, recipe, (number * steps + index + 0.5) / (recipe.epochs * steps))
            images, labels = epoch.take(group.share(chosen))
            loss_sum += step(setup.model, setup.optimizer, recipe, images, labels, len(chosen) / group.count)
            at.step, at.images = index + 1, at.images + len(chosen)
            if is_alone and setup.device == "cpu":  # elsewhere it would empty the device's queue
                at.loss_sum = loss_sum.item()
                _check(setup, at)
                shown = f"loss {at.loss_sum / at.images:.3f}  "
            report(
                number * steps + at.step,
                recipe.epochs * steps,
                f"epoch {number + 1}/{recipe.epochs}  {shown}{at.images / watch.seconds:,.0f} images/s",
            )
            if is_alone and time.perf_counter() - begun >= longest_s:
                break
    at.loss_sum, at.seconds = group.total(loss_sum).item(), watch.seconds
    at.disturbances += (gauges.disturbance,)
    _check(setup, at)


def _check(setup: TrainingSetup, at: Position) -> None:
    if not math.isfinite(at.loss_sum):
        recipe = setup.training.recipe
        raise Diverged(
            f"{setup.training.name}: the loss became {at.loss_sum} in epoch {len(at.curve) + 1}, step {at.step}; "
            f"nothing is saved, lower --learning-rate (it was {recipe.learning_rate:g})"
        )


def _estimate(setup: TrainingSetup, at: Position) -> float:
    """Seconds that are left, from a few steps; the network, its statistics and its randomness are then as before."""
    recipe, arrays, steps = setup.training.recipe, setup.arrays, len(setup.batches(0))
    height, width = arrays.train_images.shape[1:3]
    sample = dataclasses.replace(
        arrays, test_images=arrays.test_images[:EVALUATION_BATCH], test_labels=arrays.test_labels[:EVALUATION_BATCH]
    )
    before = copy.deepcopy(setup.network.state_dict())
    epochs = range(len(at.curve), recipe.epochs)
    step_s: dict[tuple[int, int], float] = {}
    with torch.random.fork_rng(devices=[]):
        for number in epochs:
            size = batches.scaled(recipe, number, height, width)
            if size not in step_s:
                step_s[size] = _step_seconds(setup, setup.batches(number))
        watch = Stopwatch(setup.device)
        with watch:
            evaluate(setup.network, sample, setup.group, setup.trial.layout)
    setup.network.load_state_dict(before)
    steps_s = [steps * step_s[batches.scaled(recipe, number, height, width)] for number in epochs]
    tests_s = watch.seconds * len(epochs) * len(arrays.test_labels) / len(sample.test_labels)
    return sum(steps_s) * (1 - at.step / (steps * len(epochs))) + tests_s


def _step_seconds(setup: TrainingSetup, epoch: batches.Epoch) -> float:
    """The mean of a few, with an optimizer of their own."""
    optimizer = optimizer_of(setup.network, setup.training.recipe)
    setup.begin_training()
    watch = Stopwatch(setup.device)
    for index in range(1 + _ESTIMATE_STEPS):
        if index == 1:
            watch = Stopwatch(setup.device)  # the first step sets up the kernels
        with watch:
            chosen = epoch.order[index % len(epoch)]
            images, labels = epoch.take(setup.group.share(chosen))
            step(setup.model, optimizer, setup.training.recipe, images, labels, len(chosen))
    return watch.seconds / _ESTIMATE_STEPS

"""Epoch after epoch, from wherever the training stands."""

import math
import time
from collections.abc import Mapping

import torch

from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.errors import Diverged
from cifar_deploy.core.progress import duration, report
from cifar_deploy.core.records import Epoch
from cifar_deploy.training import batches, curves
from cifar_deploy.training.clock import Stopwatch
from cifar_deploy.training.forecast import seconds_left
from cifar_deploy.training.optimise import set_learning_rate, step
from cifar_deploy.training.randomness import mixed, seed_all
from cifar_deploy.training.setup import TrainingSetup, evaluate
from cifar_deploy.training.state import Position, State, restored


def run(
    setup: TrainingSetup,
    state: State | None,
    checkpoint_every_s: float,
    where: str,
    step_seconds: Mapping[str, float] | None = None,
) -> Position:
    """All epochs, one after the other; only the first rank has a `state`. `step_seconds` are kept with it.

    Raises Diverged if the loss is no longer a number, Corrupt if the saved state cannot be read or is of something else,
    DeployError if its epochs were tested on other images, Unwritable if a state cannot be saved.
    """
    recipe, group = setup.training.recipe, setup.group
    saved = group.from_first(state.newest() if state else None)
    at = restored(saved, setup.network, setup.optimizer) if saved else Position(curve=[])
    if step_seconds:
        at.step_seconds = step_seconds
    steps = len(setup.batches(0))
    total, done = steps * recipe.epochs, len(at.curve) * steps + at.step
    estimate_s = seconds_left(setup, at)
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
            milestone=f"epoch {number}/{recipe.epochs}  loss {_shown(epoch.loss)}  test accuracy {accuracy:.2%}  "
            f"{at.seconds:.1f} s  {at.images / at.seconds:,.0f} images/s",
        )
        at = Position(curve=[*at.curve, epoch], changes=at.changes, step_seconds=at.step_seconds)
        begun = now  # so that saving this epoch is in the wall seconds of the next
        if state:
            curves.write(state.folder, at.curve)
            if number < recipe.epochs:
                state.save(setup.network, setup.optimizer, at)
    return at


def stretch(setup: TrainingSetup, at: Position, steps: int, longest_s: float) -> None:
    """Steps until the epoch ends or `longest_s` have passed, counted in `at`. Raises Diverged if the loss is no number."""
    recipe, group, number = setup.training.recipe, setup.group, len(at.curve)
    is_alone = group.count == 1  # together with others nothing may depend on this rank's own clock
    if at.step == 0 or not is_alone:  # for networks with dropout; a state keeps the first rank's alone
        seed_all(mixed(batches.seed(recipe, number), group.rank, at.step))
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
            batch, share = epoch.take(group.share(chosen)), len(chosen) / group.count
            loss_sum += step(setup.model, setup.optimizer, recipe, batch, share, setup.teacher)
            at.step, at.images = index + 1, at.images + len(chosen)
            if is_alone and setup.device == "cpu":  # elsewhere it would empty the device's queue
                at.loss_sum = loss_sum.item()
                _check(setup, at)
                shown = f"loss {_shown(at.loss_sum / at.images, 3)}  "
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


def _shown(loss: float, digits: int = 4) -> str:
    """Short, however large it has become."""
    return f"{loss:.{digits}f}" if loss < 1e4 else f"{loss:.3g}"


def _check(setup: TrainingSetup, at: Position) -> None:
    if not math.isfinite(at.loss_sum):
        recipe = setup.training.recipe
        raise Diverged(
            f"{setup.training.name}: the loss became {at.loss_sum} in epoch {len(at.curve) + 1}, step {at.step}; "
            f"nothing is saved, lower --learning-rate (it was {recipe.learning_rate:g})"
        )

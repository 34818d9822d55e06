"""Recipe -> Checkpoint: a network trained on arrays in memory, whole batches at a time.

The clock of `seconds` runs inside training steps alone (batch assembly, forward, backward, update); evaluation and
saving are outside, and inside `wall_seconds`. Each epoch's randomness is seeded by the recipe and the epoch's number, and
what has been drawn of it is saved with the weights, so a training that goes on where it was interrupted gives the weights
that it would have given uninterrupted: bit for bit on the CPU with the same threads.

Under torchrun every rank calls this, each with its own copy of the images; the first one writes (see training.ranks).
"""

import copy
import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_deploy.core import files, machine, memory
from cifar_deploy.core.arrays import choose
from cifar_deploy.core.disturbance import Watch
from cifar_deploy.core.errors import Diverged, Unavailable, UsageError
from cifar_deploy.core.progress import duration, report
from cifar_deploy.core.records import Checkpoint, Epoch, Recipe, Training
from cifar_deploy.core.store import WEIGHTS, Store, described
from cifar_deploy.devices import BY_PREFERENCE, DEVICES
from cifar_deploy.formats.checkpoint import halved
from cifar_deploy.formats.checkpoint import save as save_weights
from cifar_deploy.networks import complete
from cifar_deploy.training import batches, curves, ranks
from cifar_deploy.training.clock import Stopwatch
from cifar_deploy.training.optimise import optimizer_of, set_learning_rate, step
from cifar_deploy.training.state import Position, State, restored

# Large enough to be fast, small enough for the memory of a small board.
_EVALUATION_BATCH = 250

_ESTIMATE_STEPS = 3
_PACKAGES = ("torch", "numpy")

# Weights are stored as float16 if the test accuracy stays so near, 5 images of 10,000.
_SAME_ACCURACY = 0.0005

# Reading a loss empties a GPU's queue.
_LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """What is trained and tested on, on the device: images uint8 (N, H, W, 3), labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(kw_only=True)
class Subject:
    """What is trained, and on what."""

    training: Training
    network: nn.Module
    model: nn.Module  # the network, as a training step calls it
    optimizer: torch.optim.Optimizer
    arrays: Arrays
    device: str
    group: ranks.Group

    def batches(self, epoch: int) -> batches.Epoch:
        return batches.Epoch(self.arrays.train_images, self.arrays.train_labels, self.training.recipe, epoch)


def train(
    training: Training,
    root: Path,
    data_folder: Path,
    device: str,
    threads: int,
    limit_test: int | None,
    checkpoint_every_s: float,
) -> Checkpoint:
    """Train, from the last saved state if there is one, and commit weights and record into the store at `root`.

    The state is saved after each epoch, and within one whenever so many seconds have passed, unless there are several
    ranks. `device` may be "auto". Raises Diverged when the loss is no longer a number, Unavailable if the device is not
    here, UsageError if the network cannot take the recipe's images.
    """
    device, device_name = _device(device)
    store = Store(root)
    folder, kept = store.training_folder(training.name), store.checkpoint_folder(training.name)
    with ranks.joined(device) as group:
        subject = subject_of(group.from_first(training), data_folder, device, threads, limit_test, group)
        state = State(folder, training)
        try:
            curve = _curve(subject, state, checkpoint_every_s, f"{device} ({device_name}), {threads} threads")
        except Diverged:
            state.remove()  # from there the same recipe would only diverge again
            raise
        group.from_first(None)  # so that no rank leaves before the last one is done
    network = subject.network
    rounded = _rounded_accuracy(subject, curve) if training.recipe.weights == "float16" else None
    half = rounded is not None and abs(rounded - curve[-1].accuracy) <= _SAME_ACCURACY
    with files.whole(kept / WEIGHTS) as part:
        save_weights(network, part, half=half)
    curves.write(kept, curve)
    checkpoint = Checkpoint(
        training=training,
        weights=described(kept / WEIGHTS),
        parameters=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        multiply_adds=multiply_adds(network, training),
        curve=tuple(curve),
        test_images=len(subject.arrays.test_labels),
        device=device,
        device_name=device_name,
        threads=threads,
        ranks=group.count,
        rounded_accuracy=rounded,
        peak_bytes=memory.peak_bytes(),
        device_peak_bytes=DEVICES[device].peak_bytes(),
        machine=machine.machine(),
        versions=machine.versions(_PACKAGES),
        commit=machine.commit(),
        finished=machine.now(),
    )
    store.save_checkpoint(checkpoint)
    state.remove()
    return checkpoint


def follow(training: Training, data_folder: Path, device: str, threads: int, limit_test: int | None) -> None:
    """What every rank but the first does. Raises UsageError if the first one trains something else."""
    device, _ = _device(device)
    with ranks.joined(device) as group:
        wanted = group.from_first(None)
        if wanted is None:
            return  # trained before
        if difference := wanted.difference(training):
            raise UsageError(f"the first rank trains {difference}; start all ranks with the same")
        _curve(subject_of(training, data_folder, device, threads, limit_test, group), None, math.inf, "")
        group.from_first(None)


def evaluate(network: nn.Module, arrays: Arrays, group: ranks.Group) -> float:
    """Top-1 accuracy on the test images, a fraction of 1. Each rank tests its share; the counts are exact."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=arrays.test_labels.device)
    with torch.inference_mode():
        for images, labels in zip(
            group.share(arrays.test_images).split(_EVALUATION_BATCH),
            group.share(arrays.test_labels).split(_EVALUATION_BATCH),
            strict=True,
        ):
            correct += (network(batches.as_input(images)).argmax(1) == labels).sum()
    return group.total(correct).item() / len(arrays.test_labels)


def _rounded_accuracy(subject: Subject, curve: list[Epoch]) -> float:
    """On the test images, with weights as they come back from a file of float16; the network's own stay as they are."""
    network, all_steps = subject.network, len(curve) * len(subject.batches(0))
    before = copy.deepcopy(network.state_dict())
    network.load_state_dict(halved(network))
    accuracy = evaluate(network, subject.arrays, ranks.Group(subject.device))
    network.load_state_dict(before)
    report(all_steps, all_steps, milestone=f"with weights as float16: test accuracy {accuracy:.2%}")
    return accuracy


def multiply_adds(network: nn.Module, training: Training) -> int:
    """Of one image, in convolutions and linear layers, as torch counts them."""
    image = torch.zeros(1, 3, training.data.height, training.data.width, device=next(network.parameters()).device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return int(counter.get_total_flops()) // 2


def _curve(subject: Subject, state: State | None, checkpoint_every_s: float, where: str) -> list[Epoch]:
    """All epochs, one after the other; only the first rank has a `state`."""
    recipe, group = subject.training.recipe, subject.group
    saved = group.from_first(state.newest() if state else None)
    at = restored(saved, subject.network, subject.optimizer) if saved else Position(curve=[])
    steps = len(subject.batches(0))
    total, done = steps * recipe.epochs, len(at.curve) * steps + at.step
    estimate_s = _estimate(subject, at)
    begins = f"going on after epoch {len(at.curve)}, step {at.step}, " if done else ""
    report(
        done, total, milestone=f"{begins}{where}, about {duration(estimate_s)} by a few steps of each size of images"
    )
    begun = time.perf_counter()
    while len(at.curve) < recipe.epochs:
        number = len(at.curve) + 1
        stretch(subject, at, steps, checkpoint_every_s)
        if at.step < steps:
            at.wall_seconds, begun = at.wall_seconds + time.perf_counter() - begun, time.perf_counter()
            if state:
                state.save(subject.network, subject.optimizer, at)
            continue
        group.settle(subject.network)
        accuracy = evaluate(subject.network, subject.arrays, group)
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
        at = Position(curve=[*at.curve, epoch])
        begun = now  # so that saving this epoch is in the wall seconds of the next
        if state:
            curves.write(state.folder, at.curve)
            if number < recipe.epochs:
                state.save(subject.network, subject.optimizer, at)
    return at.curve


def stretch(subject: Subject, at: Position, steps: int, longest_s: float) -> None:
    """Steps until the epoch ends or `longest_s` have passed, counted in `at`."""
    recipe, group, number = subject.training.recipe, subject.group, len(at.curve)
    is_alone = group.count == 1  # together with others nothing may depend on this rank's own clock
    if at.step == 0:
        torch.manual_seed(batches.seed(recipe, number) + group.rank)  # for networks with dropout
    subject.network.train()
    epoch = subject.batches(number)
    precision = torch.float32 if subject.device == "mps" else torch.float64
    loss_sum = torch.tensor(at.loss_sum, dtype=precision, device=subject.device)
    watch = Stopwatch(subject.device, at.seconds)
    with Watch() as gauges, watch:
        begun = looked = time.perf_counter()
        for index in range(at.step, steps):
            chosen = epoch.order[index]
            set_learning_rate(subject.optimizer, recipe, (number * steps + index + 0.5) / (recipe.epochs * steps))
            images, labels = epoch.take(group.share(chosen))
            loss_sum += step(subject.model, subject.optimizer, recipe, images, labels, len(chosen) / group.count)
            at.step, at.images = index + 1, at.images + len(chosen)
            now = time.perf_counter()
            if is_alone and (subject.device == "cpu" or now - looked >= _LOOK_S):
                looked, at.loss_sum = now, loss_sum.item()
                _check(subject, at)
            report(
                number * steps + at.step,
                recipe.epochs * steps,
                f"epoch {number + 1}/{recipe.epochs}  loss {at.loss_sum / at.images:.3f}  "
                f"{at.images / watch.seconds:,.0f} images/s",
            )
            if is_alone and now - begun >= longest_s:
                break
    at.loss_sum, at.seconds = group.total(loss_sum).item(), watch.seconds
    at.disturbances += (gauges.disturbance,)
    _check(subject, at)


def _check(subject: Subject, at: Position) -> None:
    if not math.isfinite(at.loss_sum):
        recipe = subject.training.recipe
        raise Diverged(
            f"{subject.training.name}: the loss became {at.loss_sum} in epoch {len(at.curve) + 1}, step {at.step}; "
            f"nothing is saved, lower --learning-rate (it was {recipe.learning_rate:g})"
        )


def subject_of(
    training: Training, data_folder: Path, device: str, threads: int, limit_test: int | None, group: ranks.Group
) -> Subject:
    """The network with its first weights, and its images."""
    torch.set_num_threads(threads)
    recipe = training.recipe
    torch.manual_seed(recipe.seed)
    network = complete.build(training.network, training.data)
    for height, width in batches.sizes(recipe, training.data.height, training.data.width):
        try:
            complete.check_shape(training.network, network, len(training.data.classes), height, width)
        except UsageError as error:
            raise UsageError(f"{error}; recipe {recipe.name} begins with such images, give --recipe paper") from error
    if recipe.batch_norm == "synchronised":
        network = group.synchronised(network)
    network = complete.on(device, network)
    return Subject(
        training=training,
        network=network,
        model=group.parallel(network),
        optimizer=optimizer_of(network, recipe),
        arrays=_arrays(data_folder, recipe, limit_test, device),
        device=device,
        group=group,
    )


def _arrays(folder: Path, recipe: Recipe, limit_test: int | None, device: str) -> Arrays:
    import numpy as np

    def tensors(split: str, limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
        images, labels = np.load(folder / f"{split}_images.npy", mmap_mode="r"), np.load(folder / f"{split}_labels.npy")
        chosen = choose(len(labels), limit, seed)
        return torch.from_numpy(images[chosen]).to(device), torch.from_numpy(labels[chosen]).to(device)

    train_images, train_labels = tensors("train", recipe.limit_train, recipe.seed)
    # Seed 0, as in the accuracy metric: the curve and the report are over the same images.
    test_images, test_labels = tensors("test", limit_test, 0)
    return Arrays(
        train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
    )


def _device(wanted: str) -> tuple[str, str]:
    """A device's name here and its description; for "auto" the first that is present."""
    if wanted != "auto":
        return wanted, DEVICES[wanted].probe()
    for name in BY_PREFERENCE:
        try:
            return name, DEVICES[name].probe()
        except Unavailable:
            continue
    raise Unavailable("--device auto: no device is here, not even a processor")


def _estimate(subject: Subject, at: Position) -> float:
    """Seconds that are left, from a few steps; the network, its statistics and its randomness are then as before."""
    recipe, arrays, steps = subject.training.recipe, subject.arrays, len(subject.batches(0))
    height, width = arrays.train_images.shape[1:3]
    sample = dataclasses.replace(
        arrays, test_images=arrays.test_images[:_EVALUATION_BATCH], test_labels=arrays.test_labels[:_EVALUATION_BATCH]
    )
    before = copy.deepcopy(subject.network.state_dict())
    epochs = range(len(at.curve), recipe.epochs)
    step_s: dict[tuple[int, int], float] = {}
    with torch.random.fork_rng(devices=[]):
        for number in epochs:
            size = batches.scaled(recipe, number, height, width)
            if size not in step_s:
                step_s[size] = _step_seconds(subject, subject.batches(number))
        watch = Stopwatch(subject.device)
        with watch:
            evaluate(subject.network, sample, subject.group)
    subject.network.load_state_dict(before)
    steps_s = [steps * step_s[batches.scaled(recipe, number, height, width)] for number in epochs]
    tests_s = watch.seconds * len(epochs) * len(arrays.test_labels) / len(sample.test_labels)
    return sum(steps_s) * (1 - at.step / (steps * len(epochs))) + tests_s


def _step_seconds(subject: Subject, epoch: batches.Epoch) -> float:
    """The mean of a few, with an optimizer of their own."""
    optimizer = optimizer_of(subject.network, subject.training.recipe)
    subject.network.train()
    watch = Stopwatch(subject.device)
    for index in range(1 + _ESTIMATE_STEPS):
        if index == 1:
            watch = Stopwatch(subject.device)  # the first step sets up the kernels
        with watch:
            chosen = epoch.order[index % len(epoch)]
            images, labels = epoch.take(subject.group.share(chosen))
            step(subject.model, optimizer, subject.training.recipe, images, labels, len(chosen))
    return watch.seconds / _ESTIMATE_STEPS

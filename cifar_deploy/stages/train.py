"""Recipe -> Checkpoint: a network trained on arrays in memory, whole batches at a time.

The clock of `seconds` runs inside training steps alone (batch assembly, forward, backward, update); evaluation and
saving are outside, and inside `wall_seconds`. Each epoch's randomness is seeded by the recipe and the epoch's number, so
a training that goes on from its last finished epoch gives the weights that it would have given uninterrupted: bit for
bit on the CPU with the same threads.
"""

import copy
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cifar_deploy.core import files, machine, memory
from cifar_deploy.core.arrays import choose
from cifar_deploy.core.errors import Corrupt, Diverged, Unavailable
from cifar_deploy.core.progress import duration, report
from cifar_deploy.core.records import Checkpoint, Epoch, Recipe, Training, from_json, to_json
from cifar_deploy.core.store import WEIGHTS, Store, described
from cifar_deploy.devices import BY_PREFERENCE, DEVICES
from cifar_deploy.formats.checkpoint import save as save_weights
from cifar_deploy.networks import complete

# Large enough to be fast, small enough for the memory of a small board.
_EVALUATION_BATCH = 250

_ESTIMATE_STEPS = 3
_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """What is trained and tested on, on the device: images uint8 (N, H, W, 3), labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class Stopwatch:
    """Seconds spent inside its `with` blocks; a GPU's queue is empty at both ends."""

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self._device = device

    def __enter__(self) -> None:
        self._wait()
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._wait()
        self.seconds += time.perf_counter() - self._start

    def _wait(self) -> None:
        if self._device != "cpu":
            getattr(torch, self._device).synchronize()


def train(
    training: Training, root: Path, data_folder: Path, device: str, threads: int, limit_test: int | None
) -> Checkpoint:
    """Train, from the last saved epoch if there is one, and commit weights and record into the store at `root`.

    `device` may be "auto". Raises Diverged when the loss is no longer a number, Unavailable if the device is not here.
    """
    torch.set_num_threads(threads)
    device, device_name = _device(device)
    recipe, store = training.recipe, Store(root)
    torch.manual_seed(recipe.seed)
    network = complete.on(device, complete.build(training.network, training.data))
    optimizer = _optimizer(network, recipe)
    arrays = _arrays(data_folder, recipe, limit_test, device)

    state = store.training_folder(training.name) / "state.pt"
    files.write_json(state.parent / "training.json", to_json(training))
    curve = _resume(state, network, optimizer)
    steps = len(_batches(arrays, recipe, epoch=0))
    total = steps * recipe.epochs
    estimate_s = _estimate(network, arrays, recipe) * (recipe.epochs - len(curve))
    begins = f"going on after epoch {len(curve)}, " if curve else ""
    report(
        len(curve) * steps,
        total,
        milestone=f"{begins}{device} ({device_name}), {threads} threads, about {duration(estimate_s)} by {_ESTIMATE_STEPS} steps",
    )

    begun = time.perf_counter()
    for epoch in range(len(curve), recipe.epochs):
        torch.manual_seed(_seed(recipe, epoch))  # for networks with dropout
        network.train()
        watch, loss_sum, images = Stopwatch(device), 0.0, 0
        for step, chosen in enumerate(_batches(arrays, recipe, epoch)):
            with watch:
                loss = _step(network, optimizer, as_input(arrays.train_images[chosen]), arrays.train_labels[chosen])
            if not math.isfinite(loss):
                shutil.rmtree(state.parent)  # from here the same recipe would only diverge again
                raise Diverged(
                    f"{training.name}: the loss became {loss} in epoch {epoch + 1}, step {step + 1}; nothing is saved, "
                    f"lower --learning-rate (it was {recipe.learning_rate:g})"
                )
            loss_sum, images = loss_sum + loss * len(chosen), images + len(chosen)
            speed = images / watch.seconds
            report(
                epoch * steps + step + 1,
                total,
                f"epoch {epoch + 1}/{recipe.epochs}  loss {loss_sum / images:.3f}  {speed:,.0f} images/s",
            )
        accuracy = evaluate(network, arrays)
        now = time.perf_counter()
        curve.append(Epoch(loss=loss_sum / images, accuracy=accuracy, seconds=watch.seconds, wall_seconds=now - begun))
        begun = now  # so that saving this epoch is in the wall seconds of the next
        report(
            (epoch + 1) * steps,
            total,
            milestone=f"epoch {epoch + 1}/{recipe.epochs}  loss {loss_sum / images:.4f}  test accuracy {accuracy:.2%}  "
            f"{watch.seconds:.1f} s  {images / watch.seconds:,.0f} images/s",
        )
        if epoch + 1 < recipe.epochs:
            _save(state, network, optimizer, curve)

    folder = store.checkpoint_folder(training.name)
    with files.whole(folder / WEIGHTS) as part:
        save_weights(network, part)
    checkpoint = Checkpoint(
        training=training,
        weights=described(folder / WEIGHTS),
        parameters=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        multiply_adds=multiply_adds(network, training),
        curve=tuple(curve),
        test_images=len(arrays.test_labels),
        device=device,
        device_name=device_name,
        threads=threads,
        peak_bytes=memory.peak_bytes(),
        device_peak_bytes=DEVICES[device].peak_bytes(),
        machine=machine.machine(),
        versions=machine.versions(_PACKAGES),
        commit=machine.commit(),
        finished=machine.now(),
    )
    store.save_checkpoint(checkpoint)
    shutil.rmtree(state.parent)
    return checkpoint


def as_input(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1], channels last in memory: the order they came in."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def evaluate(network: nn.Module, arrays: Arrays) -> float:
    """Top-1 accuracy on the test images, a fraction of 1."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=arrays.test_labels.device)
    with torch.inference_mode():
        for images, labels in zip(
            arrays.test_images.split(_EVALUATION_BATCH), arrays.test_labels.split(_EVALUATION_BATCH), strict=True
        ):
            correct += (network(as_input(images)).argmax(1) == labels).sum()
    return correct.item() / len(arrays.test_labels)


def multiply_adds(network: nn.Module, training: Training) -> int:
    """Of one image, in convolutions and linear layers, as torch counts them."""
    image = torch.zeros(1, 3, training.data.height, training.data.width, device=next(network.parameters()).device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return int(counter.get_total_flops()) // 2


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One update, and the loss before it. A loss that is no number updates nothing."""
    loss = functional.cross_entropy(network(images), labels)
    value = loss.item()
    if math.isfinite(value):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return value


def _batches(arrays: Arrays, recipe: Recipe, epoch: int) -> list[Tensor]:
    """Indices of each batch of an epoch, in a fresh order. A last batch of one is left out: batch norm needs two."""
    labels = arrays.train_labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_seed(recipe, epoch))).to(labels.device)
    return [batch for batch in order.split(recipe.batch_size) if len(batch) > 1]


def _seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 1_000_003 + epoch


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)


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


def _estimate(network: nn.Module, arrays: Arrays, recipe: Recipe) -> float:
    """Seconds of an epoch, from a few steps of a copy: the network, its statistics and its randomness stay untouched."""
    trial = copy.deepcopy(network)
    optimizer = _optimizer(trial, recipe)
    batches = _batches(arrays, recipe, epoch=0)
    watch, test_watch = Stopwatch(arrays.train_labels.device.type), Stopwatch(arrays.train_labels.device.type)
    with torch.random.fork_rng(devices=[]):
        trial.train()
        for step in range(1 + _ESTIMATE_STEPS):
            chosen = batches[step % len(batches)]
            if step == 1:
                watch.seconds = 0.0  # the first step sets up the kernels
            with watch:
                _step(trial, optimizer, as_input(arrays.train_images[chosen]), arrays.train_labels[chosen])
        sample = Arrays(
            train_images=arrays.train_images,
            train_labels=arrays.train_labels,
            test_images=arrays.test_images[:_EVALUATION_BATCH],
            test_labels=arrays.test_labels[:_EVALUATION_BATCH],
        )
        with test_watch:
            evaluate(trial, sample)
    return watch.seconds / _ESTIMATE_STEPS * len(batches) + test_watch.seconds * len(arrays.test_labels) / len(
        sample.test_labels
    )


def _save(state: Path, network: nn.Module, optimizer: torch.optim.Optimizer, curve: list[Epoch]) -> None:
    with files.whole(state) as part:
        torch.save(
            {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "curve": to_json(curve)}, part
        )


def _resume(state: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> list[Epoch]:
    """The curve so far, network and optimizer as they were at its end; an empty one if there is nothing to go on from."""
    if not state.exists():
        return []
    try:
        saved = torch.load(state, weights_only=True, map_location="cpu")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        return from_json(list[Epoch], saved["curve"])
    except Exception as error:  # whatever a damaged file makes torch raise
        raise Corrupt(f"{state}: cannot be read ({type(error).__name__}); start over with --again") from error

"""Recipe -> Checkpoint: a network trained on arrays in memory, whole batches at a time.

The clock of `seconds` runs inside training steps alone (batch assembly, forward, backward, update); evaluation and
saving are outside, and inside `wall_seconds`. Each epoch's randomness is seeded by the recipe and the epoch's number, and
what has been drawn of it is saved with the weights, so a training that goes on where it was interrupted gives the weights
that it would have given uninterrupted: bit for bit on the CPU with the same threads.
"""

import copy
import json
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
from cifar_deploy.core.generations import Generations
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


@dataclass(kw_only=True)
class _Position:
    """Where a training stands: its finished epochs, and of the one that it is in what has been done so far."""

    curve: list[Epoch]
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0


class Stopwatch:
    """Seconds spent inside its `with` blocks; a GPU's queue is empty at both ends."""

    def __init__(self, device: str, seconds: float = 0.0) -> None:
        """It goes on from `seconds`."""
        self.seconds = seconds
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
    training: Training,
    root: Path,
    data_folder: Path,
    device: str,
    threads: int,
    limit_test: int | None,
    checkpoint_every_s: float,
) -> Checkpoint:
    """Train, from the last saved state if there is one, and commit weights and record into the store at `root`.

    The state is saved after each epoch, and within one whenever so many seconds have passed. `device` may be "auto". Raises Diverged when the loss is no longer a number, Unavailable if the device is not here.
    """
    torch.set_num_threads(threads)
    device, device_name = _device(device)
    recipe, store = training.recipe, Store(root)
    torch.manual_seed(recipe.seed)
    network = complete.on(device, complete.build(training.network, training.data))
    optimizer = _optimizer(network, recipe)
    arrays = _arrays(data_folder, recipe, limit_test, device)

    folder = store.training_folder(training.name)
    state = Generations(folder, "state", ".pt")
    files.write_json(folder / "training.json", to_json(training))
    at = _resume(state, network, optimizer)
    steps = len(_batches(arrays, recipe, epoch=0))
    total = steps * recipe.epochs
    done = len(at.curve) * steps + at.step
    estimate_s = _estimate(network, arrays, recipe) * (recipe.epochs - done / steps)
    begins = f"going on after epoch {len(at.curve)}, step {at.step}, " if done else ""
    report(
        done,
        total,
        milestone=f"{begins}{device} ({device_name}), {threads} threads, about {duration(estimate_s)} by {_ESTIMATE_STEPS} steps",
    )

    begun = saved = time.perf_counter()
    for epoch in range(len(at.curve), recipe.epochs):
        if at.step == 0:
            torch.manual_seed(_seed(recipe, epoch))  # for networks with dropout
        network.train()
        watch = Stopwatch(device, at.seconds)
        for step, chosen in enumerate(_batches(arrays, recipe, epoch)):
            if step < at.step:
                continue
            with watch:
                loss = _step(network, optimizer, as_input(arrays.train_images[chosen]), arrays.train_labels[chosen])
            if not math.isfinite(loss):
                shutil.rmtree(folder)  # from here the same recipe would only diverge again
                raise Diverged(
                    f"{training.name}: the loss became {loss} in epoch {epoch + 1}, step {step + 1}; nothing is saved, "
                    f"lower --learning-rate (it was {recipe.learning_rate:g})"
                )
            at.step, at.seconds = step + 1, watch.seconds
            at.loss_sum, at.images = at.loss_sum + loss * len(chosen), at.images + len(chosen)
            report(
                epoch * steps + at.step,
                total,
                f"epoch {epoch + 1}/{recipe.epochs}  loss {at.loss_sum / at.images:.3f}  {at.images / at.seconds:,.0f} images/s",
            )
            if time.perf_counter() - saved >= checkpoint_every_s:
                at.wall_seconds, begun = at.wall_seconds + time.perf_counter() - begun, time.perf_counter()
                _save(state, network, optimizer, at)
                saved = time.perf_counter()
        accuracy = evaluate(network, arrays)
        now = time.perf_counter()
        finished = Epoch(
            loss=at.loss_sum / at.images,
            accuracy=accuracy,
            seconds=at.seconds,
            wall_seconds=at.wall_seconds + now - begun,
        )
        report(
            (epoch + 1) * steps,
            total,
            milestone=f"epoch {epoch + 1}/{recipe.epochs}  loss {finished.loss:.4f}  test accuracy {accuracy:.2%}  "
            f"{at.seconds:.1f} s  {at.images / at.seconds:,.0f} images/s",
        )
        at = _Position(curve=[*at.curve, finished])
        begun = now  # so that saving this epoch is in the wall seconds of the next
        _write_metrics(folder, at.curve)
        if epoch + 1 < recipe.epochs:
            _save(state, network, optimizer, at)
            saved = time.perf_counter()
    curve = at.curve

    kept = store.checkpoint_folder(training.name)
    with files.whole(kept / WEIGHTS) as part:
        save_weights(network, part)
    _write_metrics(kept, curve)
    checkpoint = Checkpoint(
        training=training,
        weights=described(kept / WEIGHTS),
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
    shutil.rmtree(folder)
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


def _save(state: Generations, network: nn.Module, optimizer: torch.optim.Optimizer, at: _Position) -> None:
    saved = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": to_json(at),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    state.write(lambda path: torch.save(saved, path))


def _resume(state: Generations, network: nn.Module, optimizer: torch.optim.Optimizer) -> _Position:
    """Where the newest whole state stands, network and optimizer as they were there; the beginning if there is none.

    Raises Corrupt if none of those that are there can be read.
    """

    def warn(damage: str) -> None:
        report(0, 1, milestone=f"warning: {damage}; going on from the state before it")

    for path in state.read(warn):
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            at = from_json(_Position, saved["position"])
        except Exception as error:  # whatever a state of another version makes torch raise
            warn(f"{path}: cannot be read ({type(error).__name__})")
            continue
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        return at
    if state.exist():
        raise Corrupt(f"{state}: none of the saved states can be read; start over with --again")
    return _Position(curve=[])


def _write_metrics(folder: Path, curve: list[Epoch]) -> None:
    """metrics.jsonl: a line an epoch, for whoever plots them."""
    lines = [json.dumps({"epoch": number, **to_json(epoch)}) for number, epoch in enumerate(curve, start=1)]
    files.write_text(folder / "metrics.jsonl", "\n".join(lines) + "\n")

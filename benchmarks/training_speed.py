"""What training costs beyond computing: python benchmarks/training_speed.py DATA_DIR [NETWORK ...]

A quarter of an hour a network, ten minutes with --without-loader. DATA_DIR is an image folder or zip, as for --dataset
image_folder. All ways train the same network on batches of 128, channels last, with all processors that are allowed
(taskset); in each round each has a turn, beside that of its pure step, in an order of its own. Shown is the median of the
rounds' speed-ups over that pure step (forward, backward and update on one fixed batch that is ready) with its interval; and of
our own loop the share of its time that lies outside of such steps, which a noisy machine leaves as it is.

    original, fast this program's own loop: gather, crop, flip, convert, count, watch the machine, report
    DataLoader     torchvision's transforms on PIL images, the same crops and flips, read by so many workers
"""

import argparse
import dataclasses
import functools
import math
import random
import time
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cifar_deploy import pipeline
from cifar_deploy.core import machine
from cifar_deploy.core.records import Recipe, Training
from cifar_deploy.core.statistics import estimate, paired_ratio
from cifar_deploy.recipes import RECIPES
from cifar_deploy.training import loop, ranks
from cifar_deploy.training.batches import Batch
from cifar_deploy.training.optimise import step
from cifar_deploy.training.setup import TrainingSetup, setup_of
from cifar_deploy.training.state import Position
from cifar_deploy.workers.prepare import Prepared

ROUNDS = 15  # unless --rounds says otherwise
TURN_S = 10.0  # each way and round, about: what an epoch costs once weighs on these few steps alone
PAUSE_S = 2.0  # after a turn of a DataLoader: its workers read a few batches ahead


class Folder(Dataset[tuple[Tensor, int]]):
    """The training images one by one, as torchvision's CIFAR10 gives them."""

    def __init__(self, prepared: Prepared) -> None:
        self._images, self._labels = prepared.array("train_images"), prepared.array("train_labels")
        self._transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(prepared.data.height, padding=RECIPES["fast"].shift, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(np.asarray(self._images[index])), int(self._labels[index])


def prepared_setup(network: str, recipe: Recipe, prepared: Prepared) -> TrainingSetup:
    """All images are of full size: what is compared is the same computation."""
    recipe = dataclasses.replace(recipe, scales=(1.0,))
    training = Training(name="speed", network=network, recipe=recipe, data=prepared.data)
    return setup_of(training, prepared.folder, "cpu", machine.allowed_threads(), 1, ranks.Group("cpu"))


class Ours:
    """Our own loop; `outside` is, of each turn, the share of its time outside of the steps."""

    def __init__(self, setup: TrainingSetup) -> None:
        self._setup = setup
        self._in_steps_s = 0.0
        self.outside: list[float] = []

    def __call__(self, steps: int) -> None:
        self._in_steps_s = 0.0
        with unittest.mock.patch.object(loop, "step", self._step):
            taken_s = seconds_of(lambda steps: loop.stretch(self._setup, Position(curve=[]), steps, math.inf), steps)
        self.outside.append(1 - self._in_steps_s / taken_s)

    def _step(self, *arguments: Any) -> Tensor:
        begun = time.perf_counter()
        loss = step(*arguments)
        self._in_steps_s += time.perf_counter() - begun
        return loss


def pure(setup: TrainingSetup, steps: int) -> None:
    epoch = setup.batches(0)
    batch = epoch.take(epoch.order[0])
    for _ in range(steps):
        step(setup.model, setup.optimizer, setup.training.recipe, batch, len(batch.labels))


def forever(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def by_loader(setup: TrainingSetup, loaded: Iterator[tuple[Tensor, Tensor]], steps: int) -> None:
    for _ in range(steps):
        images, labels = next(loaded)
        images = images.to(memory_format=torch.channels_last)
        step(setup.model, setup.optimizer, setup.training.recipe, Batch(images, labels, images), len(labels))


def measure(
    network: str, prepared: Prepared, loaders: bool, rounds: int
) -> tuple[int, dict[str, dict[int, float]], dict[str, Sequence[float]]]:
    """How many steps a turn has; for each way its turns' seconds by round; and what of ours lay outside of the steps."""
    fast, original = (prepared_setup(network, RECIPES[name], prepared) for name in ("fast", "original"))
    ours = {"fast": Ours(fast), "original": Ours(original)}
    ways: dict[str, Callable[[int], None]] = {
        "pure step, fast": functools.partial(pure, fast),
        "fast": ours["fast"],
        "pure step, original": functools.partial(pure, original),
        "original": ours["original"],
    }
    for workers in (0, 2) if loaders else ():
        loader = DataLoader(
            Folder(prepared), batch_size=128, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        ways[f"fast, DataLoader of {workers} workers"] = functools.partial(by_loader, fast, forever(loader))
    for go in ways.values():
        go(2)  # sets up kernels, and starts workers
    steps = min(len(fast.batches(0)), math.ceil(2 * TURN_S / seconds_of(ways["pure step, fast"], 2)))
    seconds: dict[str, dict[int, float]] = {way: {} for way in ways}
    order = random.Random(0)
    for number in range(rounds):
        recipes = order.sample(["fast", "original"], 2)
        for way in sorted(order.sample(list(ways), len(ways)), key=lambda way: recipes.index(recipe_of(way))):
            seconds[way][number] = seconds_of(ways[way], steps)
            time.sleep(PAUSE_S if "DataLoader" in way else 0.0)
    return steps, seconds, {name: own.outside[1:] for name, own in ours.items()}  # without the two steps that set up


def recipe_of(way: str) -> str:
    return "original" if "original" in way else "fast"


def seconds_of(go: Callable[[int], None], steps: int) -> float:
    begun = time.perf_counter()
    go(steps)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("network", nargs="*", default=["mobilenet", "resnet8"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--without-loader", action="store_true")
    arguments = parser.parse_args()
    prepared = pipeline.prepare("image_folder", arguments.data_dir)
    for network in arguments.network:
        steps, seconds, outside = measure(network, prepared, not arguments.without_loader, arguments.rounds)
        threads = machine.allowed_threads()
        print(
            f"{network}, {steps} steps of 128 images, {arguments.rounds} rounds, {threads} threads, speed-up over the pure step:"
        )
        for way, by_round in seconds.items():
            rate = steps * 128 / float(np.median(list(by_round.values())))
            speed_up = paired_ratio(seconds[f"pure step, {recipe_of(way)}"], by_round)
            assert speed_up
            interval = f"[{speed_up.low:.3f}, {speed_up.high:.3f}]"
            print(f"  {way:<30} {speed_up.value:.3f} {interval}  {rate:,.0f} images/s", flush=True)
        for way, shares in outside.items():
            share = estimate(shares)
            print(f"  {way}, outside of the steps: {share.value:.2%} [{share.low:.2%}, {share.high:.2%}]", flush=True)


if __name__ == "__main__":
    main()

"""How much faster a training step is in bfloat16: python benchmarks/arithmetic.py [--threads N] [--rounds N] [NETWORK ...]

Two minutes a network. Steps on one fixed batch of 128 images of 32x32, channels last. In each round every way has one turn of
a few steps. Shown is the median of the rounds' speed-ups over float32, with its interval.

    bfloat16   this program's: depthwise convolutions stay in float32
    autocast   torch's own: all convolutions in bfloat16
    compiled   float32 through torch.compile, which fuses batch norm and ReLU
"""

import argparse
import dataclasses
import random
import time

import torch
from torch import nn

from cifar_deploy.core import machine
from cifar_deploy.core.statistics import paired_ratio
from cifar_deploy.networks import NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.training.batches import Batch
from cifar_deploy.training.optimise import optimizer_of, step

BATCH = 128
STEPS = 3

RECIPE = RECIPES["fast"]
WAYS: tuple[str, ...] = ("float32", "bfloat16", "autocast", "compiled")


class Way:
    """A network of its own, and its steps in one arithmetic."""

    def __init__(self, name: str, network: str) -> None:
        torch.manual_seed(0)
        built = NETWORKS[network].build(10).to(memory_format=torch.channels_last)
        self._optimizer = optimizer_of(built, RECIPE)
        self._recipe = dataclasses.replace(RECIPE, arithmetic="bfloat16" if name == "bfloat16" else "float32")
        self._is_autocast = name == "autocast"
        self._network: nn.Module = torch.compile(built) if name == "compiled" else built  # type: ignore[assignment]
        images = torch.rand(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
        self._batch = Batch(images, torch.arange(BATCH) % 10, images)
        self.seconds: dict[int, float] = {}

    def turn(self, round: int) -> None:
        begun = time.perf_counter()
        for _ in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=self._is_autocast):
                step(self._network, self._optimizer, self._recipe, self._batch, BATCH)
        self.seconds[round] = (time.perf_counter() - begun) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="*", default=["mobilenet", "resnet18"])
    parser.add_argument("--threads", type=int, default=machine.allowed_threads())
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    here = machine.machine()
    print(f"{here.chip}, {' '.join(here.instructions)}, {arguments.threads} threads, torch {torch.__version__}")
    for network in arguments.network:
        ways = {name: Way(name, network) for name in WAYS}
        for way in ways.values():
            way.turn(-1)  # sets up the kernels
        for round in range(arguments.rounds):
            for way in random.sample(list(ways.values()), len(ways)):
                way.turn(round)
        exact = {round: seconds for round, seconds in ways["float32"].seconds.items() if round >= 0}
        for name, way in ways.items():
            ratio = paired_ratio(exact, {round: way.seconds[round] for round in exact})
            assert ratio
            images = BATCH / sorted(way.seconds[round] for round in exact)[len(exact) // 2]
            print(
                f"{network:<14} {name:<9} {images:7,.0f} images/s  {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            )


if __name__ == "__main__":
    main()

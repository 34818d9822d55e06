"""What is trained, and on what: the network with its first weights, the optimizer, and all images in memory."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cifar_deploy.core.arrays import choose, mapped
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Layout, Recipe, Training
from cifar_deploy.networks import complete
from cifar_deploy.training import batches, ranks
from cifar_deploy.training.initial import freeze, initialise
from cifar_deploy.training.optimise import optimizer_of
from cifar_deploy.training.randomness import seed_all
from cifar_deploy.training.trial import Trial, try_out

# Large enough to be fast, small enough for the memory of a small board.
EVALUATION_BATCH = 250


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """What is trained and tested on, on the device: images uint8 (N, H, W, 3), labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(kw_only=True)
class TrainingSetup:
    """What is trained, and on what."""

    training: Training
    network: nn.Module
    model: nn.Module  # the network, as a training step calls it
    optimizer: torch.optim.Optimizer
    arrays: Arrays
    device: str
    group: ranks.Group
    trial: Trial = field(default_factory=Trial)
    parameters: int = 0  # trainable, those that are frozen included
    frozen: frozenset[str] = frozenset()  # modules that stay in evaluation mode
    teacher: nn.Module | None = None

    def begin_training(self) -> None:
        """Into training mode, but for what is frozen."""
        self.network.train()
        for name, module in self.network.named_modules():
            if name in self.frozen:
                module.eval()

    def batches(self, epoch: int) -> batches.Epoch:
        arrays, recipe, layout = self.arrays, self.training.recipe, self.trial.layout
        return batches.Epoch(arrays.train_images, arrays.train_labels, recipe, epoch, layout)


def setup_of(
    training: Training,
    data_folder: Path,
    device: str,
    threads: int,
    limit_test: int | None,
    group: ranks.Group,
    init: Path | None = None,
    teacher: tuple[nn.Module, Layout] | None = None,
) -> TrainingSetup:
    """The network with its first weights, drawn or from the file `init`, and its images.

    `teacher` is the trained network that teaches, and its layout. Raises UsageError if the network does not stand its trial.
    Raises Corrupt if the weights of the file do not fit.
    """
    torch.set_num_threads(threads)
    recipe = training.recipe
    trial = group.from_first(try_out(training, device, group.count))
    seed_all(recipe.seed)
    network: nn.Module = complete.build(training.network, training.data)
    parameters = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    if init:
        initialise(network, init, training)
    frozen = freeze(network, training) if recipe.freeze else frozenset[str]()
    if recipe.batch_norm == "synchronised":
        network = group.synchronised(network)
    network = complete.on(device, network, trial.layout)
    teaches = _teaching(teacher, device) if teacher else None
    setup = TrainingSetup(
        training=training,
        network=network,
        model=group.parallel(network),
        optimizer=optimizer_of(network, recipe),
        arrays=_arrays(data_folder, recipe, limit_test, device),
        device=device,
        group=group,
        trial=trial,
        parameters=parameters,
        frozen=frozen,
        teacher=teaches,
    )
    if not len(setup.batches(0)):
        few = len(setup.arrays.train_labels)
        raise UsageError(
            f"{training.name}: {few} training images give {group.count} ranks no batch; raise --limit-train"
        )
    return setup


def evaluate(network: nn.Module, arrays: Arrays, group: ranks.Group, layout: Layout = "channels_last") -> float:
    """Top-1 accuracy on the test images, a fraction of 1. Each rank tests its share; the counts are exact."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=arrays.test_labels.device)
    all_images, all_labels = group.share(arrays.test_images), group.share(arrays.test_labels)
    # Not inference_mode: what the network keeps of this is to be of use in the next epoch.
    with torch.no_grad():
        for done in range(0, len(all_labels), EVALUATION_BATCH):
            report.alive(f"testing: {done * group.count:,} of {len(arrays.test_labels):,} images")
            images, labels = all_images[done : done + EVALUATION_BATCH], all_labels[done : done + EVALUATION_BATCH]
            correct += (network(batches.as_input(images, layout)).argmax(1) == labels).sum()
    return group.total(correct).item() / len(arrays.test_labels)


class _Contiguous(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.contiguous()


def _teaching(teacher: tuple[nn.Module, Layout], device: str) -> nn.Module:
    """The teacher on the device, for images in any layout."""
    network, layout = teacher
    network = complete.on(device, network, layout).eval()
    return nn.Sequential(_Contiguous(), network).eval() if layout == "contiguous" else network


def _arrays(folder: Path, recipe: Recipe, limit_test: int | None, device: str) -> Arrays:
    def tensors(split: str, limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
        images, labels = mapped(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy")
        chosen = choose(len(labels), limit, seed)
        return torch.from_numpy(images[chosen]).to(device), torch.from_numpy(labels[chosen]).to(device)

    train_images, train_labels = tensors("train", recipe.limit_train, recipe.seed)
    # Seed 0, as in the accuracy metric: the curve and the report are over the same images.
    test_images, test_labels = tensors("test", limit_test, 0)
    return Arrays(
        train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
    )

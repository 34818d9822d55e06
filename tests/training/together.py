"""A few steps in double precision, alone or under torchrun; the first rank saves the weights in a folder.

In double precision, since a training in single precision soon makes any difference in rounding visible.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from cifar_deploy.core.records import Recipe
from cifar_deploy.networks import NETWORKS
from cifar_deploy.training import ranks
from cifar_deploy.training.batches import Batch
from cifar_deploy.training.optimise import optimizer_of, set_learning_rate, step

STEPS = 5
# Of odd sizes, so that the ranks' shares differ.
BATCHES = (17, 16, 5)


def main(folder: Path) -> None:
    """A file for each kind of batch norm."""
    folder.mkdir(exist_ok=True)
    with ranks.joined("cpu") as group:
        for batch_norm in ("synchronised", "per-rank"):
            found = trained(group, batch_norm)
            if group.is_first:
                save_file(found, folder / batch_norm)
            group.from_first(None)


def trained(group: ranks.Group, batch_norm: str) -> dict[str, Tensor]:
    """The state of the network after the last step, and the losses."""
    recipe = Recipe(
        name="together",
        optimizer="sgd",
        learning_rate=0.1,
        epochs=1,
        batch_size=16,
        seed=0,
        momentum=0.9,
        weight_decay=1e-3,
    )
    torch.manual_seed(0)
    images, labels = torch.rand(40, 3, 16, 16, dtype=torch.float64), torch.randint(10, (40,))
    network = NETWORKS["resnet8"].build(10).double()
    if batch_norm == "synchronised":
        network = group.synchronised(network)
    model, optimizer = group.parallel(network), optimizer_of(network, recipe)
    losses = []
    for index in range(STEPS):
        chosen = torch.arange(40)[index : index + BATCHES[index % len(BATCHES)]]
        set_learning_rate(optimizer, recipe, index / STEPS)
        own = group.share(chosen)
        loss = step(model, optimizer, recipe, Batch(images[own], labels[own], images[own]), len(chosen) / group.count)
        losses.append(group.total(loss))
    group.settle(network)
    return {**network.state_dict(), "losses": torch.stack(losses)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))

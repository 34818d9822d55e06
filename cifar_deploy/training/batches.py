"""What each step sees: which images, cropped and flipped how, and at what size.

All images lie on the device as uint8. A batch is gathered from them in one indexing operation that crops and flips at
the same time; nothing is done image by image. An epoch's order and changes are drawn from the recipe's seed and the
epoch's number alone, so a training that goes on in the middle of an epoch sees what it would have seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cifar_deploy.core import ranks
from cifar_deploy.core.records import Layout, Recipe

# For a variance batch norm needs more than one image, on each rank.
_FEWEST = 2


class Batch(NamedTuple):
    """What a step sees: images float32 (batch, 3, H, W) in [0, 1], labels int64 (batch,).

    `whole` are the same images at their full size, where the recipe makes them smaller.
    """

    images: Tensor
    labels: Tensor
    whole: Tensor


class Epoch:
    """One pass over the training images, in an order of its own."""

    order: Sequence[Tensor]  # of each step, which images: int64 (batch,)

    def __init__(
        self, images: Tensor, labels: Tensor, recipe: Recipe, number: int, layout: Layout = "channels_last"
    ) -> None:
        """`images` uint8 (N, H, W, 3) and `labels` int64 (N,) are all there are; `number` counts from zero."""
        self._images, self._labels, self._layout = images, labels, layout
        self._height, self._width = scaled(recipe, number, images.shape[1], images.shape[2])
        count, device = len(labels), labels.device
        random = torch.Generator().manual_seed(seed(recipe, number))
        order = torch.randperm(count, generator=random).to(device)
        self.order = [batch for batch in order.split(recipe.batch_size) if len(batch) >= _FEWEST * ranks.count()]
        self._shifts = None
        if recipe.shift:
            self._shifts = torch.randint(-recipe.shift, recipe.shift + 1, (2, count), generator=random).to(device)
        self._flips = _flips(recipe, number, count, random)
        if self._flips is not None:
            self._flips = self._flips.to(device)

    def __len__(self) -> int:
        return len(self.order)

    def take(self, chosen: Tensor) -> Batch:
        """These images, changed, and their labels."""
        images = whole = as_input(self._changed(chosen), self._layout)
        if images.shape[2:] != (self._height, self._width):
            images = functional.interpolate(images, (self._height, self._width), mode="bilinear", antialias=True)
        return Batch(images, self._labels[chosen], whole)

    def _changed(self, chosen: Tensor) -> Tensor:
        if self._shifts is None and self._flips is None:
            return self._images[chosen]
        down, right = (None, None) if self._shifts is None else self._shifts[:, chosen]
        flips = None if self._flips is None else self._flips[chosen]
        height, width, channels = self._images.shape[1:]
        rows = _places(height, len(chosen), down, None, chosen.device)
        columns = _places(width, len(chosen), right, flips, chosen.device)
        # All pixels as one list: a third of the time that indexing by image, row and column takes.
        places = chosen[:, None, None] * (height * width) + rows[:, :, None] * width + columns[:, None, :]
        pixels = self._images.view(-1, channels).index_select(0, places.view(-1))
        return pixels.view(len(chosen), height, width, channels)


def as_input(pixels: Tensor, layout: Layout = "channels_last") -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1]; channels last in memory is the order they came in."""
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    return images if layout == "channels_last" else images.contiguous()


def seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 1_000_003 + epoch


def scaled(recipe: Recipe, epoch: int, height: int, width: int) -> tuple[int, int]:
    """The size of an epoch's images."""
    scale = recipe.scale(epoch)
    return max(1, round(height * scale)), max(1, round(width * scale))


def sizes(recipe: Recipe, height: int, width: int) -> Sequence[tuple[int, int]]:
    """All that the recipe's epochs have."""
    return sorted({scaled(recipe, epoch, height, width) for epoch in range(recipe.epochs)})


def _flips(recipe: Recipe, epoch: int, count: int, random: torch.Generator) -> Tensor | None:
    """Bool (count,), or None where no image is flipped.

    Alternating: half of the images, drawn once for the whole training, in the even epochs, and the others in the odd
    ones, so that two epochs show each image both ways (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.6).
    """
    if recipe.flip == "none":
        return None
    if recipe.flip == "random":
        return torch.randint(2, (count,), generator=random).bool()
    half = torch.randint(2, (count,), generator=torch.Generator().manual_seed(recipe.seed)).bool()
    return half if epoch % 2 == 0 else ~half


def _places(size: int, count: int, shifts: Tensor | None, flips: Tensor | None, device: torch.device) -> Tensor:
    """Int64 (count, size): for each image, from which of its own rows (or columns) each is taken."""
    places = torch.arange(size, device=device).expand(count, size)
    if flips is not None:
        places = torch.where(flips[:, None], size - 1 - places, places)
    if shifts is not None:
        # Reflected at both edges, which are not doubled: -1 is 1, and size is size - 2.
        places = (places + shifts[:, None]).abs()
        places = size - 1 - (size - 1 - places).abs()
    return places

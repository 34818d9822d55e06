import dataclasses

import pytest
import torch
from torch import Tensor

from cifar_deploy.core.records import Recipe
from cifar_deploy.training import batches

PLAIN = Recipe(name="plain", optimizer="sgd", learning_rate=0.1, epochs=4, batch_size=16, seed=0)
COUNT, HEIGHT, WIDTH = 50, 16, 12
IMAGES = torch.randint(256, (COUNT, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT)  # each image's own number, so that it can be found again


def everything(recipe: Recipe, number: int, images: Tensor = IMAGES) -> list[tuple[Tensor, Tensor]]:
    """Images and labels of each step."""
    epoch = batches.Epoch(images, LABELS, recipe, number)
    return [epoch.take(chosen)[:2] for chosen in epoch.order]


def reflected_edges(image: Tensor, down: int, right: int, flip: bool) -> Tensor:
    """What one image becomes, by torch's own padding: the slow way."""
    image = image.permute(2, 0, 1).float()
    margin = max(abs(down), abs(right), 1)
    padded = torch.nn.functional.pad(image[None], (margin,) * 4, mode="reflect")[0]
    if flip:
        padded = padded.flip(2)
        right = -right
    top, left = margin + down, margin + (-right if flip else right)
    return padded[:, top : top + HEIGHT, left : left + WIDTH] / 255


def test_a_plain_epoch_is_every_image_once_as_it_is() -> None:
    images = torch.cat([images for images, _ in everything(PLAIN, 0)])
    labels = torch.cat([labels for _, labels in everything(PLAIN, 0)])
    assert sorted(labels.tolist()) == list(range(COUNT))
    assert torch.equal(images, batches.as_input(IMAGES)[labels])
    assert images.dtype == torch.float32 and float(images.max()) <= 1.0


def test_every_epoch_has_an_order_of_its_own_and_the_same_again() -> None:
    recipe = dataclasses.replace(PLAIN, shift=2, flip="random")
    first, second = (torch.cat([labels for _, labels in everything(recipe, number)]) for number in (0, 1))
    assert not torch.equal(first, second)
    for (images, labels), (again, labels_again) in zip(everything(recipe, 1), everything(recipe, 1), strict=True):
        assert torch.equal(images, again) and torch.equal(labels, labels_again)


def test_each_seed_has_orders_and_changes_of_its_own() -> None:
    recipe = dataclasses.replace(PLAIN, shift=2, flip="random")
    first, second = (everything(dataclasses.replace(recipe, seed=seed), 0) for seed in (0, 1))
    assert [labels.tolist() for _, labels in first] != [labels.tolist() for _, labels in second]
    by_label = [
        dict(zip(torch.cat([each for _, each in of]).tolist(), torch.cat([each for each, _ in of]), strict=True))
        for of in (first, second)
    ]
    assert any(not torch.equal(image, by_label[1][label]) for label, image in by_label[0].items())


def test_a_cropped_and_flipped_image_is_what_padding_and_cropping_make() -> None:
    recipe = dataclasses.replace(PLAIN, shift=3, flip="random")
    seen = set()
    for images, labels in everything(recipe, 0):
        for image, label in zip(images, labels.tolist(), strict=True):
            matches = {
                (down, right, flip)
                for down in range(-3, 4)
                for right in range(-3, 4)
                for flip in (False, True)
                if torch.allclose(image, reflected_edges(IMAGES[label], down, right, flip))
            }
            assert len(matches) == 1, f"image {label} is no crop of itself"
            seen |= matches
    assert {flip for *_, flip in seen} == {False, True}
    assert {down for down, *_ in seen} == {right for _, right, _ in seen} == set(range(-3, 4))


def test_an_alternating_flip_shows_each_image_both_ways_in_two_epochs() -> None:
    recipe = dataclasses.replace(PLAIN, flip="alternating")
    whole = batches.as_input(IMAGES)

    def flipped(number: int) -> list[bool]:
        found = {}
        for images, labels in everything(recipe, number):
            for image, label in zip(images, labels.tolist(), strict=True):
                found[label] = torch.equal(image, whole[label].flip(2))
                assert found[label] or torch.equal(image, whole[label])
        return [found[label] for label in range(COUNT)]

    assert [not flip for flip in flipped(0)] == flipped(1)
    assert flipped(0) == flipped(2)
    assert 10 < sum(flipped(0)) < 40


def test_each_scale_has_its_share_of_the_epochs() -> None:
    recipe = dataclasses.replace(PLAIN, epochs=6, scales=(0.5, 0.75, 1.0))
    shapes = [tuple(everything(recipe, number)[0][0].shape[2:]) for number in range(6)]
    assert shapes == [(8, 6), (8, 6), (12, 9), (12, 9), (16, 12), (16, 12)]
    assert batches.sizes(recipe, 32, 32) == [(16, 16), (24, 24), (32, 32)]
    small = batches.Epoch(IMAGES, LABELS, recipe, 0)
    batch = small.take(small.order[0])
    assert torch.equal(batch.whole, batches.as_input(IMAGES[batch.labels]))  # what a teacher sees
    # Fewer epochs than scales: what is left out are the small ones.
    assert [dataclasses.replace(recipe, epochs=2).scale(number) for number in range(2)] == [0.75, 1.0]
    assert dataclasses.replace(recipe, epochs=1).scale(0) == 1.0


def test_a_smaller_image_keeps_its_brightness() -> None:
    recipe = dataclasses.replace(PLAIN, scales=(0.5,))
    grey = torch.full((COUNT, HEIGHT, WIDTH, 3), 77, dtype=torch.uint8)
    for images, _ in everything(recipe, 0, grey):
        torch.testing.assert_close(images, torch.full_like(images, 77 / 255))


@pytest.mark.parametrize(("count", "steps"), [(33, 2), (34, 3), (48, 3)])
def test_a_last_batch_of_one_is_left_out(count: int, steps: int) -> None:
    assert len(batches.Epoch(IMAGES[:count], LABELS[:count], PLAIN, 0)) == steps

"""An image of any size -> the size that a network takes, by Pillow, as torchvision's Resize and CenterCrop do.

The pixels are those of torchvision for an image that Pillow opened: its size is rounded in the same way, and Pillow's
filters are antialiased.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cifar_deploy.core.arrays import ImageSet, Pixels
from cifar_deploy.core.errors import DataError
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.datasets import on_disk

if TYPE_CHECKING:
    from PIL import Image


def preprocessed_set(images: ImageSet, preprocessing: Preprocessing) -> ImageSet:
    """The images, which are all of one size, after the preprocessing. Raises DataError as `preprocessed` does."""
    height, width = images.test_images.shape[1:3]
    try:
        size = cropped(*resized(width, height, preprocessing.resize), preprocessing.crop)
    except DataError as error:
        raise DataError(f"{images.source}: each image {error}") from error
    total = len(images.train_images) + len(images.test_images)
    on_disk.check_room(images.source, total, *size)
    done = itertools.count(1)

    def made(pixels: Pixels) -> Pixels:
        from PIL import Image

        return on_disk.make(
            len(pixels),
            lambda place: np.asarray(preprocessed(Image.fromarray(pixels[place]), preprocessing)),
            lambda: report(next(done), total, "preprocessing images"),
        ).pixels

    return replace(
        images,
        train_images=made(images.train_images),
        test_images=made(images.test_images),
        preprocessing=preprocessing,
    )


def preprocessed(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Raises DataError if the crop is larger than the image. torchvision would fill what is missing with black."""
    from PIL import Image

    size = resized(*image.size, preprocessing.resize)
    if size != image.size:  # torchvision passes over this, too
        image = image.resize(size, Image.Resampling[preprocessing.interpolation.upper()])
    width, height = cropped(*size, preprocessing.crop)
    if (width, height) != image.size:
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return image


def resized(width: int, height: int, resize: tuple[int, ...]) -> tuple[int, int]:
    """The width and height that an image then has. `resize` is the shorter side, or (height, width), or ()."""
    if not resize:
        return width, height
    if len(resize) == 2:
        return resize[1], resize[0]
    short, long = sorted((width, height))
    longer = int(resize[0] * long / short)
    return (resize[0], longer) if width <= height else (longer, resize[0])


def cropped(width: int, height: int, crop: tuple[int, ...]) -> tuple[int, int]:
    """The width and height that an image then has. Raises DataError if the crop is larger."""
    if not crop:
        return width, height
    if crop[1] > width or crop[0] > height:
        raise DataError(f"is {width}×{height}, and the crop is {crop[1]}×{crop[0]}; resize the images first")
    return crop[1], crop[0]

"""An image of any size -> the size that a network takes, by Pillow, as torchvision's Resize and CenterCrop do.

The pixels are those of torchvision for an image that Pillow opened: its size is rounded in the same way, and Pillow's
filters are antialiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifar_deploy.core.errors import DataError
from cifar_deploy.core.records import Data, Preprocessing

if TYPE_CHECKING:
    from PIL import Image


def preprocessed(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Raises DataError if the crop is larger than the image. torchvision would fill what is missing with black."""
    from PIL import Image

    if preprocessing.resize:
        width, height = resized(image.width, image.height, preprocessing.resize)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    if preprocessing.crop:
        height, width = preprocessing.crop
        if width > image.width or height > image.height:
            raise DataError(
                f"is {image.width}×{image.height}, and the crop is {width}×{height}; resize the images first"
            )
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return image


def resized(width: int, height: int, resize: tuple[int, ...]) -> tuple[int, int]:
    """The width and height that an image then has. `resize` is the shorter side, or (height, width)."""
    if len(resize) == 2:
        return resize[1], resize[0]
    short, long = sorted((width, height))
    longer = int(resize[0] * long / short)
    return (resize[0], longer) if width <= height else (longer, resize[0])


def for_any_size(data: Data) -> Preprocessing:
    """That of the data set's images, if it brings an image of any size to theirs; else they had one size, and it is a resize to it."""
    size, recorded = (data.height, data.width), data.preprocessing or Preprocessing()
    if size in (recorded.crop, recorded.resize):
        return recorded
    return Preprocessing(resize=size, interpolation=recorded.interpolation)

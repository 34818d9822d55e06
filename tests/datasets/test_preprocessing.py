import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import DataError
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.datasets.preprocessing import preprocessed


def _image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "size, resize, crop",
    [
        ((50, 37), (32,), (28, 28)),
        ((37, 51), (33,), (33, 24)),
        ((40, 40), (32,), (31, 30)),
        ((500, 375), (57, 40), ()),
        ((45, 46), (), (32, 33)),
        ((20, 31), (64,), (64, 64)),
    ],
)
def test_pixels_are_those_of_torchvision(size, resize, crop, interpolation):
    from torchvision.transforms import v2

    image = _image(*size)
    steps: list = [v2.Identity()]
    if resize:
        mode = v2.InterpolationMode[interpolation.upper()]
        steps.append(v2.Resize(resize[0] if len(resize) == 1 else list(resize), mode))
    if crop:
        steps.append(v2.CenterCrop(list(crop)))
    ours = preprocessed(image, Preprocessing(resize=resize, crop=crop, interpolation=interpolation))
    assert np.array_equal(np.asarray(ours), np.asarray(v2.Compose(steps)(image)))


def test_a_crop_that_is_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match="is 20×31, and the crop is 32×32"):
        preprocessed(_image(20, 31), Preprocessing(crop=(32, 32)))

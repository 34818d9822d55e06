"""The images that INT8 labels otherwise than PyTorch eager, or a file otherwise than the first one, to look at."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.records import Data, Result
from cifar_deploy.core.table import Thumbnail, Thumbnails
from cifar_deploy.metrics.summary import Configuration, Raw, agreement, classes_of, predictions
from cifar_deploy.sections.accuracy import first_file, pairs
from cifar_deploy.sections.common import Configurations, is_int8

_MOST = 24

# The test images of a data set as uint8 (N, H, W, 3); None if they are not here.
Images = Callable[[Data], NDArray[np.uint8] | None]


def thumbnails(
    configurations: Configurations, raw: Raw, images: Images, preferred: Configuration | None
) -> Thumbnails | None:
    """Of the preferred INT8 configuration or file, else of the one with the most of them; None if there are none, or no images."""
    first = first_file(configurations)
    flipped = {
        configuration: places
        for configuration, reference, this in pairs(configurations)
        if (first or is_int8(configuration)) and (places := _flipped(reference, this, raw))
    }
    if not flipped:
        return None
    shown = preferred if preferred in flipped else max(flipped, key=lambda each: len(flipped[each]))
    assert shown is not None
    result = configurations[shown]["accuracy"].result
    data = result.job.artifact.data
    found = images(data) if data else None
    if found is None:
        return None
    return Thumbnails(
        title=f"Images that {shown} labels otherwise than {first or 'PyTorch eager'} ({len(flipped[shown]):,})",
        images=tuple(_thumbnail(found, reference, result, raw, place) for reference, place in flipped[shown][:_MOST]),
    )


def _flipped(reference: Result, this: Result, raw: Raw) -> list[tuple[Result, int]]:
    """The reference, and the place of each such image; those that are wrong now first."""
    compared, new = agreement(reference, this, raw, raw), predictions(this, raw)
    if not compared or not new:
        return []
    places = sorted(compared.changed, key=lambda place: (new["predicted"][place] == new["labels"][place], place))
    return [(reference, place) for place in places]


def _thumbnail(images: NDArray[np.uint8], old: Result, new: Result, raw: Raw, place: int) -> Thumbnail:
    before, after, classes = predictions(old, raw), predictions(new, raw), classes_of(new)
    assert before is not None and after is not None
    chosen = int(after["chosen"][place])
    return Thumbnail(
        png=_png(images[chosen]) if chosen < len(images) else b"",
        image=chosen,
        true=classes[after["labels"][place]],
        reference=classes[before["predicted"][place]],
        label=classes[after["predicted"][place]],
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(written, "PNG")
    return written.getvalue()

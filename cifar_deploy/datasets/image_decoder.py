"""Image files to arrays, by Pillow: RGB, 8 bits, one size, the first frame.

Sizes are looked at before anything is decoded. A file that will not do does not end the work: all are tried, and one
error says how many there are.
"""

import contextlib
import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import limits
from cifar_deploy.core.arrays import Pixels
from cifar_deploy.core.errors import DataError, DeployError, by_reason, few
from cifar_deploy.core.progress import counted, report
from cifar_deploy.datasets.image_files import ImageFiles, Unreadable

if TYPE_CHECKING:
    from PIL import Image

# Left to choose by the content, Pillow starts Ghostscript for PostScript. A suffix never chooses.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# Phones put a thumbnail or a gain map behind the JPEG's own image, and Pillow counts it as a frame.
_WITH_FRAMES = {"PNG", "WEBP", "GIF", "TIFF"}

# 4,096×4,096: no network here trains on larger ones.
_MOST_PIXELS = 2**24

# Of all images, decoded: 23 times CIFAR-10. They lie in memory together.
_MOST_BYTES = 4 * 2**30
_MOST_BYTES_VARIABLE = "CIFAR_DEPLOY_DATA_LIMIT"

_LONGEST_REASON = 80
_TOLD = 2  # of the reasons, in one line


class Decoder:
    """Decodes one split after the other, and keeps what is wrong with which file."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files
        self._done = 0
        self._faults: dict[PurePosixPath, str] = {}
        self._sizes: dict[tuple[int, int], list[PurePosixPath]] = {}  # (height, width) -> files
        self._with_frames: list[PurePosixPath] = []

    def decode(self, entries: Sequence[PurePosixPath]) -> Pixels:
        """(N, H, W, 3), whole if `check` then finds nothing wrong."""
        images: NDArray[np.uint8] | None = None
        for index, entry in enumerate(entries):
            try:
                image = self._image(entry)
            except Unreadable as error:
                self._faults[entry] = str(error)
            else:
                self._sizes.setdefault(image.shape[:2], []).append(entry)
                if images is None:
                    images = np.empty((len(entries), *image.shape), np.uint8)
                if image.shape == images.shape[1:]:
                    images[index] = image
            self._done += 1
            report(self._done, len(self._files.images), "decoding images")
        return np.empty((0, 0, 0, 3), np.uint8) if images is None else images

    def check(self) -> None:
        """Raises DataError if an image could not be read, or if their sizes differ."""
        path, total = self._files.path, len(self._files.images)
        if len(self._faults) == 1:
            ((entry, fault),) = self._faults.items()
            raise DataError(f"{path}: {entry} {fault}; mend, convert or remove it")
        if self._faults:
            groups = [f"{names} ({reason})" for reason, names, _ in by_reason(self._faults)]
            more = ", and other reasons" if len(groups) > _TOLD else ""
            raise DataError(
                f"{path}: {len(self._faults):,} of {total:,} images cannot be read: {', '.join(groups[:_TOLD])}{more}; "
                "mend, convert or remove them"
            )
        if len(self._sizes) > 1:
            usual, *others = sorted(self._sizes, key=lambda size: -len(self._sizes[size]))
            (height, width), example = usual, self._sizes[usual][0]
            odd = [f"{entry} is {w}×{h}" for h, w in others for entry in self._sizes[h, w]]
            count = f"{len(odd):,} of {total:,} images have another size: " if len(odd) > 1 else ""
            raise DataError(
                f"{path}: {count}{few(odd)}, but {example} is {width}×{height}; bring all images to one size"
            )

    def frames_left_out(self) -> str | None:
        """How many images have further frames, with a few names."""
        if not self._with_frames:
            return None
        return f"of {counted(len(self._with_frames), 'image')} the first frame alone is read: {few(self._with_frames)}"

    def _image(self, entry: PurePosixPath) -> NDArray[np.uint8]:
        image, has_frames = decoded(self._files.read(entry), functools.partial(self._check_room, entry))
        if has_frames:
            self._with_frames.append(entry)
        return np.asarray(image)

    def _check_room(self, entry: PurePosixPath, width: int, height: int) -> None:
        """By what an image's header declares, before any of its pixels is decoded."""
        if self._sizes:  # another size than the first image's is refused in the end
            return
        total = len(self._files.images)
        wanted, most = total * width * height * 3, limits.from_environment(_MOST_BYTES_VARIABLE, _MOST_BYTES)
        if wanted > most:
            raise DataError(
                f"{self._files.path}: {total:,} images of {width:,}×{height:,}, as {entry} is, take "
                f"{limits.shown(wanted)} of memory, and {limits.shown(most)} are allowed; make them smaller, or set "
                f"{_MOST_BYTES_VARIABLE}"
            )


def decoded(
    content: bytes, check_size: Callable[[int, int], None] = lambda width, height: None
) -> tuple["Image.Image", bool]:
    """An image file's content as RGB, upright, and whether it has further frames. Raises Unreadable.

    `check_size` sees the width and height that the header declares before any pixel is decoded.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise Unreadable("is not a readable image: it is empty")
    try:
        with warnings.catch_warnings():
            # Pillow's own bound is larger than ours, and is looked at first.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                width, height = opened.size
                if width * height > _MOST_PIXELS:
                    raise Unreadable(
                        f"is {width:,}×{height:,}, and at most {_MOST_PIXELS:,} pixels an image are decoded"
                    )
                check_size(width, height)
                if _is_deep(opened):
                    raise Unreadable("has more than 8 bits a channel")
                image = ImageOps.exif_transpose(opened).convert("RGB")
                has_frames = False
                with contextlib.suppress(Exception):  # the frames that follow may be damaged: they are not read
                    has_frames = opened.format in _WITH_FRAMES and getattr(opened, "is_animated", False)
    except (DeployError, Unreadable, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable(f"has more than the {_MOST_PIXELS:,} pixels an image that are decoded") from error
    except UnidentifiedImageError as error:
        raise Unreadable(f"is not a readable image: none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's plugins raise whatever they like on damaged files
        raise Unreadable(f"is not a readable image: {_words(error)}") from error
    return image, has_frames


def _is_deep(opened: "Image.Image") -> bool:
    """Whether a channel has more than 8 bits, of which Pillow would cut some off without a word."""
    if opened.mode.startswith(("I", "F")):
        return True
    # Rows of (decoder, extents, offset, arguments); the arguments name the file's own layout: RGB;16B.
    for decoder, _, _, arguments in getattr(opened, "tile", ()):
        layout = arguments[0] if isinstance(arguments, tuple) else arguments
        if ";16" in str(layout) and layout != "BGR;16":  # 5, 6 and 5 bits
            return True
        if decoder.startswith("ppm") and arguments[-1] > 255:  # the largest level
            return True
    return False


def _words(error: Exception) -> str:
    """What an exception says, without addresses in memory."""
    words = re.sub(r"<?[\w.]+ object at 0x[0-9a-fA-F]+>?", "it", str(error)).strip() or type(error).__name__
    return words if len(words) <= _LONGEST_REASON else f"{words[: _LONGEST_REASON - 1]}…"

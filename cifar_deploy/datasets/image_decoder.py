"""Image files to arrays, by Pillow and all cores: RGB, 8 bits, one size, the first frame.

The pixels are those of torchvision's ImageFolder: `Image.open(file).convert("RGB")`. EXIF rotation is not applied. Pillow
converts images with more than 8 bits a channel to 8 bits. A warning counts the rotated images, and another one the converted
images. The decoder checks the size of an image before it reads the pixels. It tries all files, and then raises one error that
counts the unreadable files.
"""

import contextlib
import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cifar_deploy.core.arrays import Pixels
from cifar_deploy.core.errors import DataError, DeployError, by_reason, few
from cifar_deploy.core.progress import counted, report
from cifar_deploy.datasets import AS_IS, LEFT_OUT, Preparation, on_disk
from cifar_deploy.datasets.image_files import ImageFiles, Unreadable
from cifar_deploy.datasets.preprocessing import cropped, preprocessed, resized

if TYPE_CHECKING:
    from PIL import Image

# Left to choose by the content, Pillow starts Ghostscript for PostScript. A suffix never chooses.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# Phones put a thumbnail or a gain map behind the JPEG's own image, and Pillow counts it as a frame.
_WITH_FRAMES = {"PNG", "WEBP", "GIF", "TIFF"}

# 4,096×4,096: no network here trains on larger ones.
_MOST_PIXELS = 2**24

_LONGEST_REASON = 80
_TOLD = 2  # of the reasons, in one line


# EXIF's orientation: 1 is upright, the others turn or mirror.
_ORIENTATION = 0x0112
_TURNED = range(2, 9)


class _TooSmall(Unreadable):
    """An image is smaller than the crop."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What is known of one image."""

    entry: PurePosixPath
    size: tuple[int, int] | None = None  # (height, width) of its pixels, if it has any
    fault: str = ""  # why it cannot be read
    small: str = ""  # that the crop is larger
    has_frames: bool = False
    is_deep: bool = False
    is_turned: bool = False


class Decoder:
    """Decodes one split after the other, and keeps what is wrong with which file."""

    def __init__(self, files: ImageFiles, preparation: Preparation = AS_IS) -> None:
        self._files = files
        self._preprocessing = preparation.preprocessing
        self._skip_broken = preparation.skip_broken
        self._seen: list[_Seen] = []
        self._has_room = False

    def decode(self, entries: Sequence[PurePosixPath]) -> on_disk.Made:
        """An image for each entry, whole if `check` then finds nothing wrong."""
        from PIL import Image

        Image.init()  # else each thread might load Pillow's plugins
        done = len(self._seen)
        self._seen += [_Seen(entry=entry) for entry in entries]

        def image(place: int) -> Pixels | None:
            pixels, self._seen[done + place] = self._image(entries[place])
            return pixels

        counter = iter(range(done + 1, len(self._seen) + 1))
        with bombs_refused():
            return on_disk.make(
                len(entries), image, lambda: report(next(counter), len(self._files.images), "decoding images")
            )

    def check(self) -> None:
        """Raises DataError if an image could not be read, is smaller than the crop, or if their sizes differ."""
        path, total = self._files.path, len(self._files.images)
        faults = {} if self._skip_broken else self._faults()
        if len(faults) == 1:
            ((entry, fault),) = faults.items()
            raise DataError(f"{path}: {entry} {fault}; mend, convert or remove it, or leave it out by --skip-broken")
        if faults:
            groups = [f"{names} ({reason})" for reason, names, _ in by_reason(faults)]
            more = ", and other reasons" if len(groups) > _TOLD else ""
            raise DataError(
                f"{path}: {len(faults):,} of {total:,} images cannot be read: {', '.join(groups[:_TOLD])}{more}; "
                "mend, convert or remove them, or leave them out by --skip-broken"
            )
        if small := [f"{seen.entry} {seen.small}" for seen in self._seen if seen.small]:
            after = " after the resize" if self._preprocessing and self._preprocessing.resize else ""
            raise DataError(
                f"{path}: {len(small):,} of {total:,} images are smaller than the crop{after}: {few(small)}; give a larger "
                "--resize, or a smaller --crop"
            )
        sizes: dict[tuple[int, int], list[PurePosixPath]] = {}
        for seen in self._seen:
            if seen.size:
                sizes.setdefault(seen.size, []).append(seen.entry)
        if len(sizes) > 1:
            usual, *others = sorted(sizes, key=lambda size: -len(sizes[size]))
            (height, width), example = usual, sizes[usual][0]
            odd = [f"{entry} is {w}×{h}" for h, w in others for entry in sizes[h, w]]
            count = f"{len(odd):,} of {total:,} images have another size: " if len(odd) > 1 else ""
            raise DataError(
                f"{path}: {count}{few(odd)}, but {example} is {width}×{height}; bring all images to one size by --size"
            )

    def warnings(self) -> tuple[str, ...]:
        """How many images were left out or lost something, with a few names."""
        told = {
            "of {} the first frame alone is read": [seen for seen in self._seen if seen.has_frames],
            "{} with more than 8 bits a channel, which Pillow converted": [seen for seen in self._seen if seen.is_deep],
            "{} with an EXIF rotation, which is not applied": [seen for seen in self._seen if seen.is_turned],
        }
        found = [
            f"{text.format(counted(len(those), 'image'))}: {few([str(seen.entry) for seen in those])}"
            for text, those in told.items()
            if those
        ]
        if faults := self._faults():
            (reason, names, _), *others = by_reason(faults)
            more = ", and other reasons" if others else ""
            found.append(f"{LEFT_OUT}: {counted(len(faults), 'image')} ({names} {reason}{more})")
        return tuple(found)

    def _faults(self) -> dict[PurePosixPath, str]:
        return {seen.entry: seen.fault for seen in self._seen if seen.fault}

    def _image(self, entry: PurePosixPath) -> tuple[Pixels | None, _Seen]:
        seen = _Seen(entry=entry)
        try:
            found = decoded(self._files.read(entry), functools.partial(self._check_size, entry))
            seen = _Seen(entry=entry, has_frames=found.has_frames, is_deep=found.is_deep, is_turned=found.is_turned)
            image = found.image
            if self._preprocessing:
                image = preprocessed(image, self._preprocessing)
        except _TooSmall as error:
            return None, replace(seen, small=str(error))
        except Unreadable as error:
            return None, replace(seen, fault=str(error))
        pixels = np.asarray(image)
        return pixels, replace(seen, size=pixels.shape[:2])

    def _check_size(self, entry: PurePosixPath, width: int, height: int) -> None:
        """By what an image's header declares, before any of its pixels is decoded."""
        if self._preprocessing:
            wide, high = resized(width, height, self._preprocessing.resize)
            if wide * high > _MOST_PIXELS:
                raise Unreadable(f"is {width:,}×{height:,}, and {wide:,}×{high:,} when it is resized; {_most()}")
            try:
                width, height = cropped(wide, high, self._preprocessing.crop)
            except DataError as error:
                raise _TooSmall(f"is {wide}×{high}") from error
        if not self._has_room:  # another size than the first image's is refused in the end
            example = "" if self._preprocessing else f", as {entry} is,"
            on_disk.check_room(self._files.path, len(self._files.images), width, height, example)
            self._has_room = True


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image file's content."""

    image: "Image.Image"  # RGB
    has_frames: bool  # further ones, which are not read
    is_deep: bool  # of more than 8 bits a channel, which Pillow converted
    is_turned: bool  # by EXIF, which is not applied


@contextlib.contextmanager
def bombs_refused() -> Iterator[None]:
    """What Pillow warns of is an error for all threads, and whatever else it thinks of a file is not told."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Pillow's own bound is larger than ours, and is looked at first.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(content: bytes, check_size: Callable[[int, int], None] = lambda width, height: None) -> Decoded:
    """An image file's content, decoded within `bombs_refused`. Raises Unreadable.

    `check_size` sees the width and height that the header declares before any pixel is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise Unreadable("is not a readable image: it is empty")
    has_frames = is_turned = False
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > _MOST_PIXELS:
                raise Unreadable(f"is {width:,}×{height:,}, and {_most()}")
            check_size(width, height)
            is_deep = _is_deep(opened)
            opened.load()
            image = opened if opened.mode == "RGB" else opened.convert("RGB")  # convert copies an RGB image
            with contextlib.suppress(Exception):  # damaged EXIF, of which nothing is read
                is_turned = opened.getexif().get(_ORIENTATION) in _TURNED
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
    return Decoded(image=image, has_frames=has_frames, is_deep=is_deep, is_turned=is_turned)


def _most() -> str:
    return f"at most {_MOST_PIXELS:,} pixels an image are decoded"


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

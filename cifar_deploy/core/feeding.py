"""Images in, an answer out: an external model as a classifier. By numpy alone, as core.arrays is.

    stored pixels -> the array that the model takes -> its outputs -> a score for each class

What leaves the model is told apart by its shape: scores are (N, classes), be there dimensions of 1 around it, and labels
are N integers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core.arrays import Arrays, Logits, Pixels, Predict, batched
from cifar_deploy.core.errors import WrongOutput, one_line
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Feed


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a model gave, without its numbers."""

    name: str
    dtype: str  # as numpy names it
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'×'.join(map(str, self.shape)) or 'scalar'}"

    def has_scores(self, images: int, classes: int) -> bool:
        sizes = tuple(size for size in self.shape[1:] if size != 1)
        return np.dtype(self.dtype).kind in "iuf" and self.shape[:1] == (images,) and sizes == (classes,)

    def has_labels(self, images: int) -> bool:
        return np.dtype(self.dtype).kind in "iu" and self.shape in ((images,), (images, 1))


def fed(pixels: Pixels, feed: Feed) -> NDArray[Any]:
    """Stored pixels as the model takes them."""
    images = pixels[..., ::-1] if feed.channels == "bgr" else pixels
    if feed.layout == "nchw":
        images = images.transpose(0, 3, 1, 2)
    if feed.is_raw:
        return np.ascontiguousarray(images.astype(np.int16) - 128 if feed.dtype == "int8" else images, feed.dtype)
    values = np.ascontiguousarray(images, np.float32) / np.float32(255)
    if feed.normalisation:
        mean, std = (_by_channel(each, feed) for each in (feed.normalisation.mean, feed.normalisation.std))
        values = (values - mean) / std
    if feed.scale != 1:
        values *= np.float32(feed.scale)
    if feed.quantisation:
        limits = np.iinfo(feed.dtype)
        quantised = np.rint(values / np.float32(feed.quantisation.scale)) + feed.quantisation.zero_point
        values = quantised.clip(limits.min, limits.max)
    return np.ascontiguousarray(values, feed.dtype)


def _by_channel(numbers: Sequence[float], feed: Feed) -> NDArray[np.float32]:
    return np.array(numbers, np.float32).reshape((3, 1, 1) if feed.layout == "nchw" else 3)


def predicting(run: Callable[[Arrays], object], feed: Feed, what: str) -> Predict:
    """`run`, from a model's arrays to its outputs, as a function from stored pixels to scores.

    A label becomes a score of 1, and 0 of the other classes. Raises WrongOutput about `what` for outputs that are no answer.
    """
    classes = len(feed.data.classes)

    def answer(pixels: Pixels) -> NDArray[Any]:
        batch = _filled(pixels, feed)
        arrays = leaves(run([fed(batch, feed)]))
        if feed.place >= len(arrays):
            raise WrongOutput(
                f"{what}: gave {counted(len(arrays), 'output')}; {feed.output} is number {feed.place + 1}"
            )
        output, array = described(feed.output, arrays[feed.place]), arrays[feed.place]
        if feed.answer == "scores" and output.has_scores(len(batch), classes):
            return array.reshape(len(batch), classes)[: len(pixels)]
        if feed.answer == "labels" and output.has_labels(len(batch)):
            return _one_hot(array.reshape(len(batch))[: len(pixels)], classes, what)
        raise WrongOutput(f"{what}: gave {output} for {counted(len(batch), 'image')} of {classes} classes")

    def predict(pixels: Pixels) -> Logits:
        return np.concatenate([answer(part) for part in batched(pixels, feed.batch or len(pixels))])

    return predict


def outputs_of(run: Callable[[Arrays], object], pixels: Pixels, feed: Feed, names: Sequence[str]) -> list[Output]:
    """What a model gives for these images, by the names that its runtime has for it."""
    arrays = leaves(run([fed(_filled(pixels, feed), feed)]))
    if len(names) != len(arrays):
        names = [f"output{place}" for place in range(len(arrays))]
    return [described(name, array) for name, array in zip(names, arrays, strict=True)]


def described(name: str, array: NDArray[Any]) -> Output:
    return Output(name=one_line(name), dtype=array.dtype.name, shape=array.shape)


def leaves(value: object) -> list[NDArray[Any]]:
    """The arrays in what a runtime returned: one, or several in lists and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [np.asarray(value)]


def _filled(pixels: Pixels, feed: Feed) -> Pixels:
    """So many as the model takes at a time: the last image is repeated where images are lacking."""
    lacking = (feed.batch or len(pixels)) - len(pixels)
    return np.concatenate([pixels, np.repeat(pixels[-1:], lacking, axis=0)]) if lacking else pixels


def _one_hot(labels: NDArray[Any], classes: int, what: str) -> Logits:
    if labels.min() < 0 or labels.max() >= classes:
        low, high = labels.min(), labels.max()
        raise WrongOutput(
            f"{what}: gave labels from {low} to {high}, and the images have the classes 0 to {classes - 1}"
        )
    scores: Logits = np.eye(classes, dtype=np.float32)[labels]
    return scores

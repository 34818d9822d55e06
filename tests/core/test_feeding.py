"""Stored pixels as an external model takes them, and scores from what it gives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cifar_deploy.backends import litert
from cifar_deploy.core import codec
from cifar_deploy.core.arrays import Arrays, as_input
from cifar_deploy.core.errors import WrongOutput
from cifar_deploy.core.feeding import Output, fed, outputs_of, predicting
from cifar_deploy.core.records import Data, Feed, Normalisation, Quantisation

DATA = Data(
    dataset="image_folder",
    source="images from photos",
    fingerprint="0" * 64,
    classes=("a", "b", "c"),
    train_images=1,
    test_images=9,
    height=4,
    width=5,
    mean=(0.5,) * 3,
    std=(0.2,) * 3,
)
FLOAT = Feed(data=DATA, layout="nchw", dtype="float32", output="y", place=0, answer="scores")
PIXELS = np.random.default_rng(0).integers(256, size=(6, 4, 5, 3), dtype=np.uint8)


def test_floats_are_what_every_network_of_ours_takes_bit_for_bit() -> None:
    assert np.array_equal(fed(PIXELS, FLOAT), as_input(PIXELS)) and fed(PIXELS, FLOAT).flags.c_contiguous
    last = fed(PIXELS, replace(FLOAT, layout="nhwc"))
    assert np.array_equal(last, as_input(PIXELS).transpose(0, 2, 3, 1)) and last.flags.c_contiguous


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_mean_and_std_are_of_pixels_in_0_to_1_and_scale_comes_last(layout: Any) -> None:
    """As Caffe does it: blue first, 0..255, minus its own mean."""
    own = Normalisation(mean=(104 / 255, 117 / 255, 123 / 255), std=(1.0, 1.0, 1.0), channels="bgr")
    array = fed(PIXELS, replace(FLOAT, layout=layout, scale=255.0, normalisation=own))
    expected = PIXELS[..., ::-1].astype(np.float64) - [104, 117, 123]
    np.testing.assert_allclose(array if layout == "nhwc" else array.transpose(0, 2, 3, 1), expected, atol=1e-4)
    imagenet = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    array = fed(PIXELS, replace(FLOAT, layout=layout, normalisation=imagenet))
    expected = (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(
        array if layout == "nhwc" else array.transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5
    )


def test_integers_without_a_scale_of_their_own_take_the_pixels_themselves() -> None:
    for dtype in ("uint8", "int32", "int64"):
        array = fed(PIXELS, replace(FLOAT, layout="nhwc", dtype=dtype))
        assert array.dtype == dtype and np.array_equal(array, PIXELS)
    array = fed(PIXELS, replace(FLOAT, layout="nhwc", dtype="int8"))
    assert array.dtype == np.int8 and np.array_equal(array.astype(int), PIXELS.astype(int) - 128)


def test_a_quantised_input_takes_the_nearest_integer_and_no_larger_one() -> None:
    unit = replace(FLOAT, layout="nhwc", dtype="uint8", quantisation=Quantisation(scale=1 / 255, zero_point=0))
    assert np.array_equal(fed(PIXELS, unit), PIXELS)
    signed = replace(unit, dtype="int8", quantisation=Quantisation(scale=1 / 255, zero_point=-128))
    assert np.array_equal(fed(PIXELS, signed).astype(int), PIXELS.astype(int) - 128)
    both = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    array = fed(PIXELS, replace(unit, normalisation=both, quantisation=Quantisation(scale=1 / 64, zero_point=128)))
    expected = np.rint((PIXELS / 255 - 0.5) / 0.5 * 64) + 128
    assert np.abs(array - expected).max() <= 1 and (array == expected).mean() > 0.99
    clipped = fed(PIXELS, replace(unit, quantisation=Quantisation(scale=1 / 510, zero_point=0)))
    assert clipped.max() == 255 and np.array_equal(clipped, np.minimum(PIXELS.astype(int) * 2, 255))


@pytest.mark.parametrize(
    ("dtype", "told", "expected"),
    [
        (np.int8, (1 / 255, -128), Quantisation(scale=1 / 255, zero_point=-128)),
        (np.uint8, (0.0, 0), None),  # what a file says of pixels as they are
        (np.float32, (0.0, 0), None),
    ],
)
def test_tflite_says_what_the_integers_of_an_input_stand_for(
    dtype: Any, told: tuple[float, int], expected: Quantisation | None
) -> None:
    assert litert._quantisation({"dtype": dtype, "quantization": told}) == expected


def test_half_floats_are_rounded_once() -> None:
    assert np.array_equal(fed(PIXELS, replace(FLOAT, dtype="float16")), as_input(PIXELS).astype(np.float16))


def _scores(sizes: list[int]) -> Any:
    """A model that gives each image its own numbers, and notes how many it was given."""

    def run(arrays: Arrays) -> list[NDArray[Any]]:
        (images,) = arrays
        sizes.append(len(images))
        first = images[:, 0, 0, :3]
        return [first, first.argmax(axis=1), first[:, :, None, None], np.zeros((len(images), 7), np.float32)]

    return run


def test_batches_are_filled_up_and_the_answers_of_what_fills_them_are_dropped() -> None:
    sizes: list[int] = []
    free = predicting(_scores(sizes), FLOAT, "m")(PIXELS)
    fixed = predicting(_scores(sizes), replace(FLOAT, batch=4), "m")(PIXELS)
    assert sizes == [6, 4, 4] and np.array_equal(free, fixed) and free.shape == (6, 3)


def test_labels_and_scores_with_dimensions_of_1_are_answers_too() -> None:
    scores = predicting(_scores([]), FLOAT, "m")(PIXELS)
    labels = predicting(_scores([]), replace(FLOAT, answer="labels", place=1, batch=4), "m")(PIXELS)
    assert np.array_equal(labels.argmax(axis=1), scores.argmax(axis=1)) and set(np.unique(labels)) == {0, 1}
    assert np.array_equal(predicting(_scores([]), replace(FLOAT, place=2), "m")(PIXELS), scores)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        (replace(FLOAT, place=3), "m: gave y float32 6×7 for 6 images of 3 classes"),
        (replace(FLOAT, place=4), "m: gave 4 outputs; y is number 5"),
        (replace(FLOAT, answer="labels"), "gave y float32 6×3"),
        (
            replace(FLOAT, answer="labels", place=1, data=replace(DATA, classes=("a", "b"))),
            "and the images have the classes 0 to 1",
        ),
    ],
)
def test_what_is_no_answer_is_told(feed: Feed, words: str) -> None:
    with pytest.raises(WrongOutput) as told:
        predicting(_scores([]), feed, "m")(PIXELS)
    assert words in str(told.value)


def test_outputs_have_their_runtimes_names_or_their_places() -> None:
    found = outputs_of(_scores([]), PIXELS, replace(FLOAT, batch=8), ("y", "label", "z", "other"))
    assert [str(each) for each in found] == [
        "y float32 8×3", "label int64 8", "z float32 8×3×1×1", "other float32 8×7"
    ]  # fmt: skip
    assert [each.name for each in outputs_of(_scores([]), PIXELS, FLOAT, ())] == [f"output{n}" for n in range(4)]
    nested = outputs_of(lambda arrays: {"a": (np.zeros(2), [np.zeros(3)])}, PIXELS, FLOAT, ())
    assert [each.shape for each in nested] == [(2,), (3,)]


def test_a_batch_of_one_image_has_scores() -> None:
    assert Output(name="y", dtype="uint8", shape=(1, 10)).has_scores(1, 10)
    assert not Output(name="y", dtype="bool", shape=(1, 10)).has_scores(1, 10)
    assert not Output(name="y", dtype="float32", shape=(10,)).has_scores(1, 10)
    assert not Output(name="y", dtype="object", shape=(2, 10)).has_scores(2, 10)
    assert not Output(name="y", dtype="float32", shape=(2,)).has_labels(2)


@pytest.mark.parametrize(
    ("feed", "told"),
    [
        (FLOAT, "float32, NCHW, pixels in 0..1"),
        (replace(FLOAT, scale=255.0, layout="nhwc", batch=4), "float32, NHWC, pixels in 0..255, 4 images at a time"),
        (replace(FLOAT, dtype="int8"), "int8, NCHW, pixels minus 128"),
        (
            replace(FLOAT, normalisation=Normalisation(mean=(0.5,) * 3, std=(1.0,) * 3, channels="bgr")),
            "float32, NCHW, pixels in 0..1, blue first, mean 0.5, 0.5, 0.5",
        ),
        (
            replace(FLOAT, dtype="uint8", quantisation=Quantisation(scale=0.5, zero_point=3)),
            "uint8, NCHW, pixels in 0..1, quantised (scale 0.5, zero point 3)",
        ),
    ],
)
def test_a_feed_says_how_images_reach_a_file_and_is_kept_as_it_is(feed: Feed, told: str) -> None:
    assert str(feed) == told
    assert codec.from_json(Feed, codec.to_json(feed)) == feed and "data" not in feed.identity

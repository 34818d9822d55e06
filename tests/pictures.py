"""A folder of small pictures whose class is a colour, and ONNX classifiers of it that somebody else might have made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

CLASSES = ("blue", "green", "red")  # as they are sorted; the models score red, green and blue, in the order of channels
WRONG = 2  # of the pictures of each class in the test set, which show another colour


def folder(path: Path, *, side: int = 8, each: int = 10, names: Sequence[str] = CLASSES, seed: int = 0) -> Path:
    """So many PNG files of each class and split."""
    random = np.random.default_rng(seed)
    for split in ("train", "test"):
        for place, name in enumerate(names):
            (path / split / name).mkdir(parents=True)
            for number in range(each):
                shown = place if split == "train" or number >= WRONG else (place + 1) % 3
                pixels = random.integers(100, size=(side, side, 3), dtype=np.uint8)
                pixels[..., 2 - shown % 3] += 100
                Image.fromarray(pixels).save(path / split / name / f"{number}.png")
    return path


def model(
    path: Path,
    *,
    shape: Sequence[int | str] = ("N", 3, 8, 8),
    dtype: int = TensorProto.FLOAT,
    answers: Sequence[str] = ("scores",),
    classes: int = 3,
) -> Path:
    """The mean of each channel, the last one first, so that an answer is one of CLASSES: as `scores`, `softmax`, `label` or `map`."""
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=axes, keepdims=0),
        helper.make_node("Gather", ["m", "order"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["softmax"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("Unsqueeze", ["scores", "ends"], ["map"]),
    ]
    order = [2, 1, 0] if classes == 3 else [2, 1, 0] * (classes // 3 + 1)
    constants = {"order": np.array(order[:classes]), "ends": np.array([2, 3])}
    values = [
        helper.make_tensor_value_info("x", dtype, list(shape)),
        *(
            helper.make_tensor_value_info(name, TensorProto.INT64 if name == "label" else TensorProto.FLOAT, None)
            for name in answers
        ),
    ]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path

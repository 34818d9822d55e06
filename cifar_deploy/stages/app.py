"""An artifact -> what an app needs beside its files: the class names, how an image becomes the input, a program that runs it.

    labels.txt           a class a line, in the order of the outputs
    preprocessing.json   from an image to the array that the file takes
    example.py           at most 20 lines of numpy, Pillow and the runtime: the three most likely classes of an image

All follow from the artifact's record, so they are the same bytes again. They are no part of the artifact: no metric counts
them and nothing here reads them. A checkpoint has no example.py: its network's code is in cifar-deploy alone.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from cifar_deploy.backends import Example, with_example
from cifar_deploy.core import files, untrusted
from cifar_deploy.core.errors import Corrupt, printable
from cifar_deploy.core.records import Artifact, Preprocessing, Trained
from cifar_deploy.core.store import EXAMPLE, LABELS, PREPROCESSING, Store
from cifar_deploy.datasets.preprocessing import for_any_size
from cifar_deploy.formats import Format, format_of

# Of an example, with blank lines where there is room.
_MOST_LINES = 20


def write(store: Store, artifact: Artifact) -> None:
    """Write the files beside those of the artifact, as far as they are not there. Raises Unwritable."""
    folder = store.folder_of(artifact)
    for name, text in texts(artifact).items():
        if not _holds(folder / name, text.encode()):
            files.write_text(folder / name, text)


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError, Corrupt):
        return untrusted.read_bytes(path, len(content)) == content
    return False


def texts(artifact: Artifact) -> Mapping[str, str]:
    """The files by their names; none of an artifact that failed, or that is no trained network's."""
    if artifact.failure or not isinstance(artifact.origin, Trained):
        return {}
    found = {LABELS: _labels(artifact), PREPROCESSING: _preprocessing(artifact)}
    runtime = with_example(str(artifact.format))
    if runtime and runtime.example:
        found[EXAMPLE] = _program(artifact, runtime.example)
    own = {file.name for file in artifact.files}
    return {name: text for name, text in found.items() if name not in own}


def _labels(artifact: Artifact) -> str:
    """A name that would break the line is escaped."""
    assert artifact.data
    return "".join(f"{printable(name)}\n" for name in artifact.data.classes)


def _preprocessing(artifact: Artifact) -> str:
    data, format = artifact.data, format_of(artifact)
    assert data
    steps, is_float = for_any_size(data), format.input == "float32"
    name, output = format.names or (None, None)
    found: dict[str, Any] = {
        "width": data.width,
        "height": data.height,
        "resize": {"shorter_side": steps.resize[0]} if len(steps.resize) == 1 else _sized(steps.resize),
        "crop": _sized(steps.crop),
        "interpolation": steps.interpolation,
        "antialias": steps.interpolation != "nearest",
        "channels": "RGB",
        "layout": _layout(format),
        "dtype": format.input,
        "range": [0, 1] if is_float else [0, 255],
        "mean_and_std": "inside the network",
        "input": name,
        "output": output,
        "output_values": "logits",
        "classes": len(data.classes),
    }
    if steps != data.preprocessing:
        found["note"] = (
            f"the data set's images are {data.width}×{data.height}; an image of another size is resized to it"
        )
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def _sized(size: tuple[int, ...]) -> dict[str, int] | None:
    return {"width": size[1], "height": size[0]} if size else None


def _layout(format: Format) -> str:
    layout = "NCHW" if format.input == "float32" else "NHWC"
    return layout if format.has_batch else layout.removeprefix("N")


def _program(artifact: Artifact, example: Example) -> str:
    data, format = artifact.data, format_of(artifact)
    assert data
    name, output = format.names or ("", "")
    words = {"model": f'Path(__file__).with_name("{format.filename}")', "input": name, "output": output}
    needs = f"{', '.join(('numpy', 'pillow', *example.packages[:-1]))} and {example.packages[-1]}"
    own = ("import sys", "from pathlib import Path")
    others = ("import numpy as np", "from PIL import Image", *example.imports)
    steps = for_any_size(data)
    remark = "" if steps == data.preprocessing else "the data set's images have this size"
    lines = [
        f'"""The three most likely classes of an image: python example.py IMAGE. Needs {needs}."""',
        *own,
        *sorted(others, key=lambda line: (line.startswith("from"), line.lower())),
        'labels = Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").splitlines()',
        'image = Image.open(sys.argv[1]).convert("RGB")  # EXIF turns no image, as in the measurements',
        *_steps(steps, remark),
        "images = np.stack(image.split())[None].astype(np.float32) / 255  # NCHW, 0 to 1; the network does mean and std"
        if format.input == "float32"
        else "images = np.array(image)[None]  # NHWC, 0 to 255; the network does mean and std",
        *(Template(line).substitute(words) for line in example.run),
        "for place in np.argsort(-logits)[:3]:",
        '    print(f"{1 / np.exp(logits - logits[place], dtype=float).sum():7.2%}  {labels[place]}")  # softmax',
    ]
    for place in (1 + len(own) + len(others), 1 + len(own), 1):  # the imports in their groups
        if len(lines) < _MOST_LINES:
            lines.insert(place, "")
    return "".join(f"{line}\n" for line in lines)


def _steps(steps: Preprocessing, remark: str) -> Iterator[str]:
    """As datasets.preprocessing applies them, to the pixel."""
    height, width = steps.crop or (0, 0)
    filter = f"Image.Resampling.{steps.interpolation.upper()}"
    if len(steps.resize) == 1:
        yield f"image = image.resize([int({steps.resize[0]} * side / min(image.size)) for side in image.size], {filter})"
    elif steps.resize:
        yield f"image = image.resize(({steps.resize[1]}, {steps.resize[0]}), {filter})" + (remark and f"  # {remark}")
    elif steps.crop:
        yield f'assert image.width >= {width} and image.height >= {height}, "the image is smaller than {width}×{height}"'
    if steps.crop:
        yield f"left, top = round((image.width - {width}) / 2), round((image.height - {height}) / 2)"
        yield f"image = image.crop((left, top, left + {width}, top + {height}))"

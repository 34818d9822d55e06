"""Checkpoint + format -> files, and the validation of their output.

Writing and checking are two processes: the second holds the runtime that will run the artifact, and may do without
torch. Validation compares the artifact's logits with the eager network's on the same real test images.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, machine
from cifar_deploy.core.arrays import Pixels, as_input, batched, choose, mapped
from cifar_deploy.core.errors import ExportError, Unavailable, WrongOutput, loading, raised_as
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Artifact, Checkpoint, Data, External, File, Parity, Trained
from cifar_deploy.core.registry import need
from cifar_deploy.core.store import WEIGHTS, Store, described
from cifar_deploy.formats import Choices, Source, format_of

# Real test images that the validation looks at; with them the agreement is known to 0.4 points.
VALIDATION_IMAGES = 256
_VALIDATION_BATCH = 64

_LOGITS = "logits of the network itself"

NO_OP = "cifar_deploy.networks.no_op:no_op"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the exports of one network are compared with: real images, and its own logits of them."""

    images: Path  # the folder of a data set's arrays
    stand_in: str | None  # the source of the images, if the network was trained on others
    logits: Path  # an .npy that the first export writes
    calibration: Path | None = None  # an .npy of the images for INT8 calibration; None: the training images


@dataclass(frozen=True, kw_only=True)
class Written:
    files: tuple[File, ...]
    seconds: float
    choices: Choices


def write(wanted: Artifact, root: Path, reference: Reference, staged: Path) -> Written:
    """Write the files of the artifact that is wanted into the folder `staged`, and the reference's logits if need be.

    Raises ExportError with the converter's own words if it fails, Unavailable if a package or the training images are
    missing, Corrupt if the weights are not those of the record.
    """
    plugin, origin = format_of(wanted), wanted.origin
    assert not isinstance(origin, External)
    need("format", str(wanted.format), plugin)
    import torch

    from cifar_deploy.networks import answers, complete

    network = complete.trained(Store(root), origin)
    pixels = validation_pixels(reference.images)
    if not reference.logits.exists():
        # Else a format would be blamed for what the network does itself.
        few = torch.from_numpy(as_input(pixels[:2]))
        if reason := answers.unfit(origin.network, network, few, len(origin.data.classes)):
            raise ExportError(f"{wanted.name}: the network itself {reason}")
        with files.atomic_write(reference.logits) as part, open(part, "wb") as output:
            np.save(output, answers.logits_of_pixels(network, pixels, _LOGITS))
    source = Source(
        network=complete.OfPixels(network).eval() if plugin.input == "uint8" else network,
        origin=origin,
        images=torch.from_numpy(plugin.prepare(pixels)),
        calibration_images=lambda count: _calibration_images(wanted, reference, count),
    )
    begun = time.perf_counter()
    with raised_as(lambda error: ExportError(f"{wanted.name} to {wanted.variant}: {type(error).__name__}: {error}")):
        choices = dict(plugin.write(source, staged / plugin.filename))
    seconds = time.perf_counter() - begun
    if not plugin.is_portable:
        choices["processor"] = machine.machine().chip
    return Written(files=tuple(described(path) for path in sorted(staged.iterdir())), seconds=seconds, choices=choices)


def _calibration_images(wanted: Artifact, reference: Reference, count: int) -> NDArray[Any]:
    assert wanted.data
    if not (reference.calibration or wanted.data.train_images):
        raise Unavailable(
            f"format {wanted.variant}: needs images for its calibration, and {wanted.data.source} has test images alone; "
            "run `cifar-deploy export --calibration-data PATH`"
        )
    if reference.stand_in and not reference.calibration:
        raise Unavailable(
            f"format {wanted.variant}: needs training images, and those of {wanted.name} "
            f"({wanted.data.source}) are not in the cache; "
            f"run `cifar-deploy data --dataset {wanted.data.dataset} [--data-dir PATH]`, or `cifar-deploy export --calibration-data PATH`"
        )
    pixels = mapped(reference.calibration or reference.images / "train_images.npy")
    return format_of(wanted).prepare(pixels[np.random.default_rng(0).permutation(len(pixels))[:count]])


def write_no_op(data: Data, staged: Path) -> File:
    """Write the weights of the no-op network, for images of this data set, into the folder `staged`."""
    from cifar_deploy.formats.checkpoint import save
    from cifar_deploy.networks import complete

    save(complete.build(NO_OP, data), staged / WEIGHTS)
    return described(staged / WEIGHTS)


def write_answers(checkpoint: Checkpoint, root: Path, images: Path, logits: Path, labels: Path) -> None:
    """Write the network's own logits of the validation's images among those in the folder `images`, and its labels of all.

    Raises Corrupt if the weights are not those of the record.
    """
    from cifar_deploy.networks import answers, complete

    network = complete.trained(Store(root), Trained(checkpoint=checkpoint)).eval()
    np.save(logits, answers.logits_of_pixels(network, validation_pixels(images), _LOGITS))
    found = answers.logits_of_pixels(network, mapped(images / "test_images.npy"), _LOGITS)
    np.save(labels, found.argmax(axis=1).astype(np.int32))


def check(artifact: Artifact, backend: str, reference: Reference, staged: Path) -> Parity:
    """Run the validation's images through `backend`, one alone and the rest in batches, and compare with the reference.

    Raises Unavailable if the device on which the backend's output is validated is not here.
    """
    plugin = BACKENDS[backend]
    need("backend", backend, plugin)
    devices.check(plugin.validated_on, plugin.requires)
    format = format_of(artifact)
    images = format.prepare(validation_pixels(reference.images))
    with loading(artifact.title, backend):
        predict = plugin.load(staged / format.filename, artifact, plugin.targets[plugin.validated_on], 1)
        answers = [predict(images[:1])]
        for batch in batched(images[1:], _VALIDATION_BATCH):
            report(sum(map(len, answers)), len(images), f"validating on {backend}")
            answers.append(predict(batch))
        logits = np.concatenate(answers)
    expected = np.load(reference.logits)
    if logits.shape != expected.shape:
        raise WrongOutput(
            f"{artifact.title}: {backend} answers with {logits.shape} for {len(images)} images, "
            f"and the network with {expected.shape}"
        )
    if not np.isfinite(logits).all():
        raise WrongOutput(f"{artifact.title}: {backend} answers with logits that are no numbers")
    return Parity(
        backend=backend,
        images=len(images),
        largest_difference=float(np.abs(logits - expected).max()),
        largest_logit=float(np.abs(expected).max()),
        agreement=float((logits.argmax(1) == expected.argmax(1)).mean()),
        stand_in=reference.stand_in,
    )


def can_check(backend: str) -> bool:
    """Whether the device is here on which this backend's output is validated."""
    plugin = BACKENDS[backend]
    try:
        devices.check(plugin.validated_on, plugin.requires)
    except Unavailable:
        return False
    return True


def validation_pixels(data_folder: Path) -> Pixels:
    stored = mapped(data_folder / "test_images.npy")
    pixels: Pixels = stored[choose(len(stored), VALIDATION_IMAGES)]
    return pixels

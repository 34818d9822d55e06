"""Checkpoint + format -> files, and the parity gate that they must pass.

Writing and checking are two processes: the second holds the runtime that will run the artifact, and may do without
torch. The gate compares the artifact's logits with the eager network's on the same real test images.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_deploy import devices
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import files, machine
from cifar_deploy.core.arrays import Pixels, as_input, choose, mapped, portions
from cifar_deploy.core.errors import ExportError, Unavailable, WrongOutput, loading, raised_as
from cifar_deploy.core.records import Artifact, Checkpoint, Data, File, Parity, Recipe, Training
from cifar_deploy.core.registry import need
from cifar_deploy.core.store import WEIGHTS, Store, as_artifact, described
from cifar_deploy.formats import FORMATS, Choices, Source

# Real test images that the gate looks at; with them the agreement is known to 0.4 points.
GATE_IMAGES = 256
_GATE_BATCH = 64

FLOOR_NETWORK = "cifar_deploy.networks.floor:floor"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the exports of one network are compared with: real images, and its own logits of them."""

    images: Path  # the folder of a data set's arrays
    stand_in: str | None  # the source of the images, if the network was trained on others
    logits: Path  # an .npy that the first export writes


@dataclass(frozen=True, kw_only=True)
class Written:
    files: tuple[File, ...]
    seconds: float
    choices: Choices


def write(checkpoint: Checkpoint, format: str, root: Path, reference: Reference, staged: Path) -> Written:
    """Write the artifact's files into the folder `staged`, and the reference's logits unless they are there.

    Raises ExportError with the converter's own words if it fails, Unavailable if a package or the training images are
    missing, Corrupt if the weights are not those of the record.
    """
    plugin = FORMATS[format]
    need("format", format, plugin.requires, plugin.programs, plugin.environment)
    import torch

    from cifar_deploy.networks import answers, complete

    training = checkpoint.training
    weights = Store(root).verified(as_artifact(checkpoint))[WEIGHTS]
    network = complete.load(training.network, training.data, weights)
    pixels = gate_pixels(reference.images)
    if not reference.logits.exists():
        # Else a format would be blamed for what the network does itself.
        few = torch.from_numpy(as_input(pixels[:2]))
        if reason := answers.unfit(training.network, network, few, len(training.data.classes)):
            raise ExportError(f"{training.name}: the network itself {reason}")
        with files.whole(reference.logits) as part, open(part, "wb") as output, torch.no_grad():
            np.save(output, network(torch.from_numpy(as_input(pixels))).numpy())
    source = Source(
        network=complete.OfPixels(network).eval() if plugin.input == "uint8" else network,
        checkpoint=checkpoint,
        images=torch.from_numpy(plugin.prepare(pixels)),
        training_images=lambda count: _training_images(checkpoint, format, reference, count),
    )
    begun = time.perf_counter()
    with raised_as(lambda error: ExportError(f"{training.name} to {format}: {type(error).__name__}: {error}")):
        choices = dict(plugin.write(source, staged / plugin.filename))
    seconds = time.perf_counter() - begun
    if not plugin.is_portable:
        choices["processor"] = machine.machine().chip
    return Written(files=tuple(described(path) for path in sorted(staged.iterdir())), seconds=seconds, choices=choices)


def _training_images(checkpoint: Checkpoint, format: str, reference: Reference, count: int) -> NDArray[Any]:
    if reference.stand_in:
        raise Unavailable(
            f"format {format}: needs training images, and those of {checkpoint.training.name} "
            f"({checkpoint.training.data.source}) are not in the cache; "
            f"run `cifar-deploy data --dataset {checkpoint.training.data.dataset}`, with --data-dir where it needs one"
        )
    pixels = mapped(reference.images / "train_images.npy")
    return FORMATS[format].prepare(pixels[np.random.default_rng(0).permutation(len(pixels))[:count]])


def floor(data: Data, root: Path, name: str) -> Checkpoint:
    """Commit the network that does next to nothing, for images of this data set, as if it had been trained by this name."""
    from cifar_deploy.formats.checkpoint import save
    from cifar_deploy.networks import complete

    store = Store(root)
    return commit_untrained(
        store, name, FLOOR_NETWORK, data, lambda weights: save(complete.build(FLOOR_NETWORK, data), weights)
    )


def commit_untrained(store: Store, name: str, network: str, data: Data, write: Callable[[Path], object]) -> Checkpoint:
    """A network without parameters as if it had been trained; `write(path)` makes the file of its weights."""
    with files.staging(store.checkpoint_folder(name)) as staged:
        write(staged / WEIGHTS)
        checkpoint = untrained(name, network, data, described(staged / WEIGHTS), machine.now())
        store.save_checkpoint(checkpoint, staged)
    return checkpoint


def untrained(name: str, network: str, data: Data, weights: File, finished: str) -> Checkpoint:
    """The record of what nobody has trained here."""
    recipe = Recipe(name="none", optimizer="adam", learning_rate=0.0, epochs=0, batch_size=1, seed=0)
    return Checkpoint(
        training=Training(name=name, network=network, recipe=recipe, data=data),
        weights=weights,
        parameters=0,
        multiply_adds=0,
        curve=(),
        test_images=0,
        device="cpu",
        device_name=machine.machine().processor,
        threads=1,
        peak_bytes=None,
        device_peak_bytes=None,
        machine=machine.machine(),
        versions=machine.versions(["torch", "numpy"]),
        commit=machine.commit(),
        finished=finished,
    )


def check(artifact: Artifact, backend: str, reference: Reference, staged: Path) -> Parity:
    """Run the gate's images through `backend`, one alone and the rest in batches, and compare with the reference.

    Raises Unavailable if the device on which the backend's output is validated is not here.
    """
    plugin = BACKENDS[backend]
    need("backend", backend, plugin.requires, plugin.programs, plugin.environment)
    devices.check(plugin.validated_on, plugin.requires)
    format = FORMATS[artifact.format]
    images = format.prepare(gate_pixels(reference.images))
    with loading(f"{artifact.name} {artifact.format}", backend):
        predict = plugin.load(staged / format.filename, artifact, plugin.targets[plugin.validated_on], 1)
        logits = np.concatenate([predict(images[:1]), *map(predict, portions(images[1:], _GATE_BATCH))])
    expected = np.load(reference.logits)
    if logits.shape != expected.shape:
        raise WrongOutput(
            f"{artifact.name} {artifact.format}: {backend} answers with {logits.shape} for {len(images)} images, "
            f"and the network with {expected.shape}"
        )
    if not np.isfinite(logits).all():
        raise WrongOutput(f"{artifact.name} {artifact.format}: {backend} answers with logits that are no numbers")
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


def gate_pixels(data_folder: Path) -> Pixels:
    stored = mapped(data_folder / "test_images.npy")
    pixels: Pixels = stored[choose(len(stored), GATE_IMAGES)]
    return pixels

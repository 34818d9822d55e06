"""A network that was trained elsewhere -> Checkpoint: built, given its weights, tested on all test images and committed."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_deploy.core import files, machine
from cifar_deploy.core.arrays import choose, mapped
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import Addition, Checkpoint, Layout
from cifar_deploy.core.store import WEIGHTS, Store, described
from cifar_deploy.core.verdict import judge_labels
from cifar_deploy.networks.usual import Usual, usual

if TYPE_CHECKING:
    from torch import Tensor, nn

_DEVICE = "cpu"


def add(
    wanted: Addition,
    root: Path,
    data_folder: Path,
    weights: Path | None,
    entry: str | None,
    threads: int,
    limit_test: int | None,
) -> Checkpoint:
    """Commit the network into the store at `root`, with its accuracy on the test images and what is doubtful about it.

    Args:
        wanted: What is added; where in its file the weights are is found here.
        data_folder: Of the images of its data.
        weights: The user's file; None: the network's function returns a trained module.
        entry: Of that file; None: the one that fits best.

    Raises UsageError if the network cannot be built, takes no such images or answers the same image differently; what
    networks.weights.fit raises if its weights do not fit.
    """
    import torch

    from cifar_deploy.formats.checkpoint import save_trained
    from cifar_deploy.networks import answers, complete, counting, diagnosis
    from cifar_deploy.networks.weights import fit

    torch.set_num_threads(threads)
    data = wanted.data
    network = complete.build(wanted.network, data, wanted.normalisation)
    notes: tuple[str, ...] = ()
    if weights:
        assert wanted.weights
        found = fit(network, weights, wanted.network, wanted.weights, entry=entry)
        wanted = dataclasses.replace(wanted, entry=found.entry, prefix=found.prefix)
        notes = found.notes
    images = answers.fixed_images(data.height, data.width)
    if reason := answers.unfit(wanted.network, network, images, len(data.classes)):
        raise UsageError(f"{wanted.network}: {reason}")
    for note in notes:
        report(0, 1, milestone=f"{weights}: {note}")
    macs, uncounted = counting.macs(network, images[:1])
    layout = _layout(wanted.network, network, len(data.classes), images)
    pixels, labels = mapped(data_folder / "test_images.npy"), np.load(data_folder / "test_labels.npy")
    chosen = choose(len(labels), limit_test)
    tested_on, truth = pixels if limit_test is None else pixels[chosen], labels[chosen]
    logits = answers.logits_of_pixels(complete.on(_DEVICE, network, layout), tested_on, "testing", layout)
    predicted = logits.argmax(axis=1)
    at_chance = judge_labels(truth, predicted.astype(np.int32))
    doubts = diagnosis.doubts(network, data, wanted.normalisation, pixels, labels)
    store = Store(root)
    with files.staging(store.checkpoint_folder(wanted.name)) as staged:
        with files.atomic_write(staged / WEIGHTS) as part:
            save_trained(wanted.network, network, data, part, half=False)
        # As every later command will: what the state_dict lacks comes to light now.
        complete.load(wanted.network, data, staged / WEIGHTS, normalisation=wanted.normalisation)
        checkpoint = Checkpoint(
            training=wanted,
            weights=described(staged / WEIGHTS),
            parameters=sum(weight.numel() for weight in network.parameters()),
            macs=macs,
            uncounted=uncounted,
            curve=(),
            test_images=len(truth),
            tested=float((predicted == truth).mean()),
            warnings=(*(at_chance.reasons if at_chance else ()), *doubts),
            device=_DEVICE,
            device_name=machine.machine().processor,
            threads=threads,
            peak_bytes=None,
            device_peak_bytes=None,
            layout=layout,
            machine=machine.machine(),
            versions=machine.versions(("torch", "numpy")),
            commit=machine.commit(),
            finished=machine.now(),
        )
        store.save_checkpoint(checkpoint, staged)  # last: now it is there
    return checkpoint


def usual_of(given: str) -> Usual:
    return usual(given)


def _layout(name: str, network: "nn.Module", classes: int, images: "Tensor") -> Layout:
    """The faster one of convolutions, unless the network cannot run in it."""
    from cifar_deploy.networks import answers, complete

    expected = answers.logits_of(name, network, images, classes)
    try:
        found = answers.logits_of(name, complete.on(_DEVICE, network, "channels_last"), images, classes)
    except UsageError:
        return "contiguous"
    return "channels_last" if answers.are_of_one_network(found, expected) else "contiguous"

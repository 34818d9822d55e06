"""Recipe -> Checkpoint: a network trained on arrays in memory, whole batches at a time.

The clock of `seconds` runs while steps are made (batch assembly, forward, backward, update, progress told); evaluation
and saving are outside, and inside `wall_seconds`. Each epoch's randomness is seeded by the recipe and the epoch's number, and
what has been drawn of it is saved with the weights, so a training that goes on where it was interrupted gives the weights
that it would have given uninterrupted: bit for bit on the CPU with the same threads.

Under torchrun every rank calls this, each with its own copy of the images; the first one writes (see training.ranks).
"""

import copy
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_deploy.core import files, machine, memory
from cifar_deploy.core.arrays import choose
from cifar_deploy.core.errors import Diverged, Unavailable, UsageError, few
from cifar_deploy.core.progress import counted, report
from cifar_deploy.core.records import Checkpoint, DeadChannels, File, Trained, Training
from cifar_deploy.core.store import WEIGHTS, Store, described
from cifar_deploy.devices import BY_PREFERENCE, DEVICES
from cifar_deploy.formats.checkpoint import halved, save_trained

if TYPE_CHECKING:
    from torch import Tensor

    from cifar_deploy.training.setup import TrainingSetup

_PACKAGES = ("torch", "numpy")

# Weights are stored as float16 if the test accuracy stays so near, 5 images of 10,000.
_SAME_ACCURACY = 0.0005

# A channel that is zero for so many is dead.
_DEAD_IMAGES = 2_000


def train(
    training: Training,
    root: Path,
    data_folder: Path,
    device: str,
    threads: int,
    limit_test: int | None,
    checkpoint_every_s: float,
    init: Path | None = None,
    choose_arithmetic: bool = False,
    teacher: Checkpoint | None = None,
) -> Checkpoint:
    """Train, from the last saved state if there is one, and commit weights and record into the store at `root`.

    The state is saved after each epoch, and within one whenever so many seconds have passed, unless there are several
    ranks. `device` may be "auto". `init` is the file of the recipe's first weights. With `choose_arithmetic` the faster
    one replaces the recipe's. `teacher` is the record of the network that the recipe names as teacher.

    Raises Diverged when the loss is no longer a number, Unavailable if the device is not here, UsageError if the network
    cannot take the recipe's images, Corrupt if the weights of `init`, the teacher or the saved state are damaged or of
    something else, DeployError if the saved state was tested on other images, Unwritable if the disk takes no more.
    """
    from cifar_deploy.networks import complete
    from cifar_deploy.training import curves, forecast, loop, ranks
    from cifar_deploy.training.setup import setup_of
    from cifar_deploy.training.state import State

    device, device_name = find_device(device)
    store = Store(root)
    folder = store.training_folder(training.name)
    with ranks.joined(device) as group:
        group.from_first((training, limit_test, choose_arithmetic))
        taught_by = (complete.trained(store, Trained(checkpoint=teacher)), teacher.layout) if teacher else None
        setup = setup_of(training, data_folder, device, threads, limit_test, group, init, taught_by)
        step_seconds = None
        if choose_arithmetic:
            arithmetic, step_seconds = forecast.faster_arithmetic(setup)
            setup.training = setup.training.computed_in(arithmetic)
            # The steps that were only timed are no part of the training's memory.
            memory.restart_peak()
            DEVICES[device].restart_peak()
        training = setup.training
        test_images = len(setup.arrays.test_labels)
        setting: dict[str, str | int] = {
            "device": device if device == "cpu" else device_name,
            "threads": threads,
            "ranks": group.count,
            "processor": machine.machine().chip,
            "torch": machine.versions(["torch"])["torch"],
        }
        store.begin(training)
        state = State(folder, setting, test_images)
        try:
            ended = loop.run(
                setup,
                state,
                checkpoint_every_s,
                f"{device} ({device_name}), {counted(threads, 'thread')}",
                step_seconds,
            )
        except Diverged:
            state.remove()  # from there the same recipe would only diverge again
            raise
        group.from_first(None)  # so that no rank leaves before the last one is done
    network = setup.network
    rounded = _rounded_accuracy(setup) if training.recipe.weights == "float16" else None
    half = rounded is not None and _is_the_same(rounded, ended.curve[-1].accuracy, test_images)
    if rounded is not None:
        kept_as = "they are stored so" if half else "too far off, they are stored as float32"
        report(1, 1, milestone=f"with weights as float16: test accuracy {rounded:.2%}; {kept_as}")
    dead = _dead_channels(setup)
    if dead:
        report(1, 1, milestone=f"dead channels in {few(dead)}")
    checkpoint = Checkpoint(
        training=training,
        weights=File(name=WEIGHTS, bytes=0, sha256=""),  # until they are written: then little is left to go wrong
        parameters=setup.parameters,
        macs=setup.trial.macs,
        curve=tuple(ended.curve),
        test_images=test_images,
        device=device,
        device_name=device_name,
        threads=threads,
        ranks=group.count,
        changes=ended.changes,
        step_seconds=ended.step_seconds,
        dead_channels=dead,
        rounded_accuracy=rounded,
        layout=setup.trial.layout,
        uncounted=setup.trial.uncounted,
        peak_bytes=memory.peak_bytes(),
        device_peak_bytes=DEVICES[device].peak_bytes(),
        machine=machine.machine(),
        versions=machine.versions(_PACKAGES),
        commit=machine.commit(),
        finished=machine.now(),
    )
    with files.staging(store.checkpoint_folder(training.name)) as staged:
        with files.atomic_write(staged / WEIGHTS) as part:
            save_trained(training.network, network, training.data, part, half=half)
        curves.write(staged, ended.curve)
        curves.write_events(staged, ended.curve)
        checkpoint = dataclasses.replace(checkpoint, weights=described(staged / WEIGHTS))
        store.save_checkpoint(checkpoint, staged)  # last: now it is finished
    state.remove()
    return checkpoint


def find(networks: list[str]) -> None:
    """Raises UsageError for the first network that no name leads to, and then Unavailable if a library is not here."""
    from cifar_deploy.networks import complete

    missing = []
    for network in networks:
        try:
            complete.find(network)
        except Unavailable as error:
            missing.append(error)
    if missing:
        raise missing[0]


def find_device(wanted: str) -> tuple[str, str]:
    """A device's name here and its description; for "auto" the first that is present. Raises Unavailable without it."""
    if wanted != "auto":
        return wanted, DEVICES[wanted].probe()
    for name in BY_PREFERENCE:
        try:
            return name, DEVICES[name].probe()
        except Unavailable:
            continue
    raise Unavailable("--device auto: no device is here, not even a processor")


def follow(
    training: Training,
    data_folder: Path,
    device: str,
    threads: int,
    init: Path | None = None,
    choose_arithmetic: bool = False,
) -> None:
    """What every rank but the first does. Raises UsageError if the first one trains something else."""
    from cifar_deploy.training import forecast, loop, ranks
    from cifar_deploy.training.setup import setup_of

    device, _ = find_device(device)
    with ranks.joined(device) as group:
        told: tuple[Training, int | None, bool] | None = group.from_first(None)
        if told is None:
            return  # trained before
        wanted, limit_test, is_to_be_chosen = told
        if choose_arithmetic:  # unless the first rank goes on with what was chosen before
            training = training.computed_in(wanted.recipe.arithmetic)
        if difference := wanted.difference(training):
            raise UsageError(f"the first rank trains {difference}; start all ranks with the same")
        setup = setup_of(training, data_folder, device, threads, limit_test, group, init)
        if is_to_be_chosen:
            arithmetic, _ = forecast.faster_arithmetic(setup)
            setup.training = setup.training.computed_in(arithmetic)
        loop.run(setup, None, math.inf, "")
        group.from_first(None)


def dismiss(device: str) -> None:
    """Tell the ranks that follow that what was asked for has been trained before."""
    from cifar_deploy.training import ranks

    device, _ = find_device(device)
    with ranks.joined(device) as group:
        group.from_first(None)


def _rounded_accuracy(setup: "TrainingSetup") -> float | None:
    """On the test images, with weights as they come back from a file of float16; the network's own stay as they are.

    None if it cannot be found out, which is no reason to lose a training.
    """
    from cifar_deploy.training import ranks
    from cifar_deploy.training.setup import evaluate

    network = setup.network
    before = copy.deepcopy(network.state_dict())
    try:
        network.load_state_dict(halved(network))
        return evaluate(network, setup.arrays, ranks.Group(setup.device), setup.trial.layout)
    except Exception as error:
        report(1, 1, milestone=f"warning: not tested with weights as float16 ({type(error).__name__}: {error})")
        return None
    finally:
        network.load_state_dict(before)


def _dead_channels(setup: "TrainingSetup") -> tuple[DeadChannels, ...] | None:
    """Over some of the test images. None if they cannot be found out, which is no reason to lose a training."""
    from cifar_deploy.networks import complete
    from cifar_deploy.networks.dead import dead_channels
    from cifar_deploy.training import batches
    from cifar_deploy.training.setup import EVALUATION_BATCH

    images = setup.arrays.test_images
    chosen = choose(len(images), _DEAD_IMAGES)

    def parts() -> Iterator["Tensor"]:
        for done in range(0, len(chosen), EVALUATION_BATCH):
            report.alive(f"looking for dead channels: {done:,} of {len(chosen):,} images")
            yield batches.as_input(images[chosen[done : done + EVALUATION_BATCH]], setup.trial.layout)

    try:
        return dead_channels(setup.network, parts(), complete.body(setup.network))
    except Exception as error:
        report(1, 1, milestone=f"warning: no dead channels are counted ({type(error).__name__}: {error})")
        return None


def _is_the_same(accuracy: float, other: float, images: int) -> bool:
    """Counted in images, as the fractions were."""
    return round(abs(accuracy - other) * images) <= _SAME_ACCURACY * images

"""A recipe and data -> a trained network: finished before, gone on with, or trained now."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cifar_deploy.core import files, ranks, untrusted
from cifar_deploy.core.defaults import CHECKPOINT_EVERY_S, RECIPE, TEACHER_WEIGHT, TEMPERATURE
from cifar_deploy.core.errors import Corrupt, DataError, Unavailable, UnknownName, UsageError, WorkerFailed, few
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.progress import OnProgress, counted
from cifar_deploy.core.records import Addition, Checkpoint, File, Recipe, Teacher, Training
from cifar_deploy.core.store import Store, as_artifact, check_name, described
from cifar_deploy.devices import DEVICES
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.stages import app
from cifar_deploy.workers import train as worker
from cifar_deploy.workers.prepare import Prepared

# How a thread of OpenMP waits.
_WAIT = "OMP_WAIT_POLICY"

_TRAIN_FIRST = "run `cifar-deploy train-all` first, or give another --out"


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Which trained network of the store teaches, and how; see core.records.Teacher."""

    name: str
    temperature: float = TEMPERATURE
    weight: float = TEACHER_WEIGHT


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train: the recipe, which decides the weights, and what does not."""

    recipe: Recipe = field(default_factory=lambda: RECIPES[RECIPE])
    device: str = "auto"
    threads: int | None = None  # None: all that are allowed
    limit_test: int | None = None
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    init: Path | None = None  # where the file of the recipe's first weights is
    choose_arithmetic: bool = False  # the faster one here, in place of the recipe's
    teaching: Teaching | None = None  # it becomes the recipe's teacher; None: the recipe's own teaches, if it has one

    @property
    def taught_by(self) -> Teaching | None:
        """The settings' own, or that of a recipe that is from a record."""
        if self.teaching or not (teacher := self.recipe.teacher):
            return self.teaching
        return Teaching(name=teacher.name, temperature=teacher.temperature, weight=teacher.weight)


def fine_tuning(settings: TrainingSettings, init: Path, *, freeze: bool = False) -> TrainingSettings:
    """The same from the weights of a file; with `freeze` the last layer alone is trained.

    Raises UsageError if there is no such file.
    """
    weights = weights_file(init, "--init")
    return replace(settings, recipe=replace(settings.recipe, init=weights, freeze=freeze), init=init.absolute())


def weights_file(path: Path, option: str) -> File:
    """The record of a weights file that an option names. Raises UsageError if there is no such file."""
    check_weights(path, option)
    return described(path)


def check_weights(path: Path, option: str) -> None:
    """Raises UsageError if an option names no file."""
    untrusted.check_named(path, "give a .safetensors file or a state dict", option)
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder; give the file itself")


def train(
    store: Store,
    prepared: Prepared,
    network: str,
    settings: TrainingSettings | None = None,
    *,
    name: str | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome[Checkpoint]:
    """Train a network, go on with a training that was interrupted, or return the one that is finished.

    One that was begun with `force` and interrupted goes on without it. The state is saved after each epoch, and within
    one every `checkpoint_every_s` of the settings.

    Raises UsageError if the name belongs to a training that differs in network, data or recipe, unless `force`, or if the
    network cannot take the images. Raises DataError if there are no training images, Corrupt if a record, the teacher or the
    saved state is damaged, DeployError if the saved state was tested on other images, Diverged, Unavailable without the
    device, and Unwritable if the disk takes no more.
    Under torchrun this is for the first rank; the others `follow`.
    """
    settings = settings or TrainingSettings()
    if settings.device != "auto":
        DEVICES.given(settings.device)
    training = training_of(store, prepared, network, settings, name=name, force=force)
    finished = _finished(store, training.name, force)
    unfinished = None if force else store.unfinished(training.name)
    if not unfinished:
        files.discard(store.training_folder(training.name))
    if finished and not force and not _is_same(unfinished, training):
        store.verified(as_artifact(finished))
        if ranks.count() > 1:
            Worker(what=training.name).call(worker.dismiss, settings.device)
        app.write(store, as_artifact(finished))  # which earlier versions did not
        return Outcome(value=finished, reused=True)
    threads = settings.threads or ranks.threads()
    own = Worker(what=training.name, pool_threads=threads, variables=waiting(), on_progress=on_progress)
    try:
        trained = own.call(
            worker.train,
            training=training,
            root=store.root,
            data_folder=prepared.folder,
            device=settings.device,
            threads=threads,
            limit_test=settings.limit_test,
            checkpoint_every_s=settings.checkpoint_every_s,
            init=settings.init,
            choose_arithmetic=settings.choose_arithmetic and not _is_same(unfinished, training),
            teacher=checkpoint(store, teacher.name) if (teacher := training.recipe.teacher) else None,
        )
    except WorkerFailed as error:
        if error.kind != "out of memory":
            raise
        more = f"{error}; give a smaller training batch, or more memory"
        raise WorkerFailed(more, error.kind, error.log) from error
    app.write(store, as_artifact(trained))
    return Outcome(value=trained, reused=False)


def follow(
    prepared: Prepared, network: str, settings: TrainingSettings | None = None, *, name: str | None = None
) -> None:
    """Train along with the first rank, under torchrun; it alone reads and writes an output folder."""
    settings = settings or TrainingSettings()
    check_alone(settings)
    threads = settings.threads or ranks.threads()
    Worker(what=name_of(network, name), pool_threads=threads, variables=waiting()).call(
        worker.follow,
        training=_training(prepared, network, name, settings),
        data_folder=prepared.folder,
        device=settings.device,
        threads=threads,
        init=settings.init,
        choose_arithmetic=settings.choose_arithmetic,
    )


def check_ready(
    store: Store,
    networks: Sequence[str],
    settings: TrainingSettings,
    name: str | None = None,
    force: bool = False,
) -> None:
    """Look for what trainings need besides images, so that none are read in vain.

    Raises UsageError for the first network of the user's or of a library that is not to be found: the others are known by
    their names. Raises Unavailable without the device of the settings. A finished training needs neither, and the network
    of one that goes on is not looked for.
    """
    finished = () if force else store.names()
    to_train = [network for network in networks if name_of(network, name) not in finished]
    own = [each for each in to_train if ":" in each and (force or not store.unfinished(name_of(each, name)))]
    if own:
        # Of what else is wrong the training itself will say so, and keep no other from its own.
        with contextlib.suppress(Unavailable, WorkerFailed):
            Worker(what=few(own)).call(worker.find, own)
    if to_train and settings.device not in ("auto", "cpu"):
        Worker(what=f"device {settings.device}").call(worker.find_device, settings.device)


def waiting() -> dict[str, str]:
    """The variable that lets a thread sleep while it waits for the others, unless the user has set it.

    By default a thread spins. On two cores with a load of 14, two spinning threads trained resnet8 at 9 to 15 images/s, and
    two sleeping threads at 62 to 83. With a load of 1, sleeping threads took 1.29 times as long for mobilenet-0.25 (median of
    7 pairs). ACTIVE is faster on a machine without other work.
    """
    return {} if _WAIT in os.environ else {_WAIT: "PASSIVE"}


def training_of(
    store: Store,
    prepared: Prepared,
    network: str,
    settings: TrainingSettings,
    *,
    name: str | None = None,
    force: bool = False,
) -> Training:
    """What `train` would train, in the arithmetic that was chosen if it was begun before.

    Raises UsageError where it would, before anything is done.
    """
    training = _training(prepared, network, name, settings)
    if found := check_teacher(store, settings, training.name):
        training = replace(training, recipe=replace(training.recipe, teacher=_teacher(found, training, settings)))
    if force:
        return training
    finished = _finished(store, training.name, force)
    if finished and isinstance(finished.training, Addition):
        raise UsageError(
            f"{training.name}: exists already, and was trained elsewhere; replace it with --force, or keep both with "
            f"`cifar-deploy train {network} --name NAME`"
        )
    done = finished and finished.training
    there = [one for one in (store.unfinished(training.name), done) if isinstance(one, Training)]
    if settings.choose_arithmetic:
        alike = ((one, training.computed_in(one.recipe.arithmetic)) for one in there)
        training = next((wanted for one, wanted in alike if _is_same(one, wanted)), training)
    if there and not any(_is_same(one, training) for one in there):
        raise UsageError(
            f"{training.name}: exists already with {there[0].difference(training)}; "
            f"replace it with --force, or keep both with `cifar-deploy train {network} --name NAME`"
        )
    return training


def check_alone(settings: TrainingSettings) -> None:
    """Raises UsageError if there is a teacher and, under torchrun, other processes."""
    if settings.taught_by and ranks.count() > 1:
        raise UsageError(f"{_option(settings.taught_by)}: needs one process; leave it out, or train without torchrun")


def check_teacher(store: Store, settings: TrainingSettings, name: str) -> Checkpoint | None:
    """The teacher of a new training of this name, checked without its images; None if it has no teacher.

    Raises UsageError if no other network of the store has the teacher's name, or if there are other processes.
    Raises Corrupt if the teacher's files are damaged.
    """
    check_alone(settings)
    if not (teaching := settings.taught_by):
        return None
    option = _option(teaching)
    if teaching.name == name:
        raise UsageError(
            f"{option}: has the name of the new training; give that another one by `cifar-deploy train --name`"
        )
    if not store.names():
        raise UsageError(
            f"{option}: no trained network has this name, nor any other; train it first (`cifar-deploy train NETWORK "
            f"--name {teaching.name}`), or take it in (`cifar-deploy add`)"
        )
    try:
        teacher = checkpoint(store, teaching.name)
        store.verified(as_artifact(teacher))
    except Corrupt as error:
        raise Corrupt(f"{option}: {error}") from error
    except UsageError as error:
        raise UsageError(f"--teacher: {error}") from error
    return teacher


def _option(teaching: Teaching) -> str:
    return f"--teacher {teaching.name}"


def _teacher(teacher: Checkpoint, training: Training, settings: TrainingSettings) -> Teacher:
    """The record of a teacher. Raises UsageError if it cannot teach this training."""
    teaching = settings.taught_by
    assert teaching
    option = _option(teaching)
    wanted = None if settings.teaching else settings.recipe.teacher
    if wanted and wanted.weights.sha256 != teacher.weights.sha256:
        raise UsageError(
            f"{option}: has other weights here ({teacher.weights.sha256[:12]}) than the recipe's teacher "
            f"({wanted.weights.sha256[:12]}); bring those, or give a teacher of your own as teaching"
        )
    theirs, mine = teacher.training.data, training.data
    if theirs.classes != mine.classes:
        raise UsageError(f"{option}: answers with other classes than {mine.source} has; train it on these images first")
    if (theirs.height, theirs.width, theirs.preprocessing) != (mine.height, mine.width, mine.preprocessing):
        raise UsageError(
            f"{option}: takes images of {theirs.width}×{theirs.height} that are prepared otherwise; give the same --size, "
            "--resize, --crop and --interpolation"
        )
    return Teacher(
        name=teaching.name,
        network=teacher.training.network,
        weights=teacher.weights,
        temperature=teaching.temperature,
        weight=teaching.weight,
    )


def _finished(store: Store, name: str, force: bool) -> Checkpoint | None:
    """A damaged record raises Corrupt, unless the network is trained again, or was begun to be."""
    try:
        return store.checkpoint(name)
    except Corrupt:
        if force or store.unfinished(name):
            return None
        raise


def _is_same(there: Training | None, wanted: Training) -> bool:
    return there is not None and there.difference(wanted) is None


def _training(prepared: Prepared, network: str, name: str | None, settings: TrainingSettings) -> Training:
    recipe = settings.recipe
    NETWORKS.given(network)
    if recipe.init and not settings.init:
        raise UsageError(f"recipe: begins from the weights of {recipe.init}; give that file as the settings' init")
    if not prepared.data.train_images:
        raise DataError(f"{prepared.data.source}: has test images alone; add train/ beside them, with the same classes")
    ranks.check_batch(recipe.batch_size)
    data = prepared.data
    if recipe.shift >= min(data.height, data.width):  # missing pixels are reflected, and there are not so many
        raise UsageError(
            f"{data.source}: images of {data.width}×{data.height} are too small for the recipe's random crop of "
            f"±{counted(recipe.shift, 'pixel')}; give --recipe original"
        )
    if recipe.limit_train and recipe.limit_train >= data.train_images:
        recipe = replace(recipe, limit_train=None)  # it limits nothing
    return Training(name=name_of(network, name), network=network, recipe=recipe, data=data)


def name_of(network: str, name: str | None = None) -> str:
    """What a training is called. Raises UsageError if no folder can have that name."""
    return check_name(name or network.replace(":", "-"))


def names(store: Store) -> list[str]:
    """The trained networks. Raises UsageError if there is none."""
    found = store.names()
    if not found:
        raise UsageError(f"{store.exported}: no trained network; {_TRAIN_FIRST}")
    # The default networks first, in their order, as everywhere.
    order = {name: index for index, name in enumerate(DEFAULT_NETWORKS)}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name))


def checkpoint(store: Store, name: str) -> Checkpoint:
    """The trained network of this name. Raises UsageError if there is none."""
    found = store.checkpoint(check_name(name))
    if not found:
        if there := store.names():
            raise UnknownName.among("trained network", name, there)
        raise UsageError(f"{name}: no trained network has this name, nor any other; {_TRAIN_FIRST}")
    return found

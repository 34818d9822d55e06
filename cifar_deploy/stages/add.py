"""A network that was trained elsewhere -> the store, as if it had been trained here."""

from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core import files, ranks
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.core.records import Addition, Channels, Checkpoint, Data, Normalisation
from cifar_deploy.core.store import Store, as_artifact
from cifar_deploy.networks import NETWORKS
from cifar_deploy.networks.usual import Usual
from cifar_deploy.stages import app, train
from cifar_deploy.workers import add as worker
from cifar_deploy.workers.prepare import Prepared

_GIVE_WEIGHTS = "give --weights with a .safetensors file or a state dict"
_ANOTHER_NAME = "replace it with --force, or give another name"


@dataclass(frozen=True, kw_only=True)
class TrainedElsewhere:
    """What is known of a network that was trained elsewhere."""

    network: str  # a name of `networks`, or module:function
    weights: Path | None = None  # None: the function returns a trained module
    entry: str | None = None  # of the file; None: the one that fits best
    # Of pixels in [0, 1], in the order of `channels`; None: those of `usual`, else those of the training images.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Channels = "rgb"
    usual: Usual | None = None
    threads: int | None = None  # of the test; None: all that are allowed
    limit_test: int | None = None


def add(
    store: Store,
    prepared: Prepared,
    name: str,
    given: TrainedElsewhere,
    *,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome[Checkpoint]:
    """Add a trained network, or return the one that was added before.

    Raises UsageError if the name belongs to another network, unless `force`; LoadError or Corrupt if the weights are not
    those of the network.
    """
    wanted = addition_of(prepared, name, given)
    if not force and (existing := _existing(store, wanted)):
        store.verified(as_artifact(existing))
        app.write(store, as_artifact(existing))
        return Outcome(value=existing, reused=True)
    threads = given.threads or ranks.threads()
    checkpoint = Worker(what=name, pool_threads=threads, variables=train.waiting(), on_progress=on_progress).call(
        worker.add,
        wanted=wanted,
        root=store.root,
        data_folder=prepared.folder,
        weights=given.weights and given.weights.absolute(),
        entry=given.entry,
        threads=threads,
        limit_test=given.limit_test,
    )
    files.discard(store.training_folder(name))
    app.write(store, as_artifact(checkpoint))
    return Outcome(value=checkpoint, reused=False)


def usual_of(given: str) -> Usual:
    """How the maker of pretrained weights prepares images (see networks.usual)."""
    return Worker(what=given).call(worker.usual_of, given)


def check(name: str, given: TrainedElsewhere) -> None:
    """Raises UsageError for what is wrong whatever the images are."""
    NETWORKS.given(given.network)
    train.name_of(given.network, name)
    is_own = ":" in given.network and not NETWORKS.is_of_library(given.network)  # which may return trained weights
    if not given.weights and not is_own:
        raise UsageError(f"--weights: missing, and {given.network} comes without trained ones; {_GIVE_WEIGHTS}")
    if given.entry is not None and not given.weights:
        raise UsageError("--entry: needs --weights; add it, or leave this out")
    if (given.mean is None) != (given.std is None) and not given.usual:
        lone, other = ("--mean", "--std") if given.std is None else ("--std", "--mean")
        raise UsageError(f"{lone}: needs {other}; give both")
    if given.weights:
        train.check_weights(given.weights, "--weights")


def addition_of(prepared: Prepared, name: str, given: TrainedElsewhere) -> Addition:
    """What `add` would add. Raises UsageError where it would, before anything is done."""
    check(name, given)
    return Addition(
        name=train.name_of(given.network, name),
        network=given.network,
        data=prepared.data,
        normalisation=_normalisation(given, prepared.data),
        weights=train.weights_file(given.weights, "--weights") if given.weights else None,
    )


def _normalisation(given: TrainedElsewhere, data: Data) -> Normalisation | None:
    """What the network expects; None: mean and std of the training images."""
    usual = given.usual.normalisation if given.usual else None
    mean, std = given.mean or (usual and usual.mean), given.std or (usual and usual.std)
    if mean and std:
        return Normalisation(mean=mean, std=std, channels=given.channels)
    if not data.train_images:
        raise UsageError("--mean, --std: missing, and there are no training images to take them from; give both")
    if given.channels == "rgb":
        return None
    own = data.normalisation
    return Normalisation(mean=own.mean[::-1], std=own.std[::-1], channels="bgr")


def _existing(store: Store, wanted: Addition) -> Checkpoint | None:
    """What was added before and is the same. Raises UsageError if the name belongs to another network."""
    if store.unfinished(wanted.name):
        raise UsageError(f"{wanted.name}: a training of this name is not finished; {_ANOTHER_NAME}")
    there = store.checkpoint(wanted.name)
    if not there:
        return None
    if not isinstance(there.training, Addition):
        raise UsageError(f"{wanted.name}: exists already, and was trained here; {_ANOTHER_NAME}")
    if difference := there.training.difference(wanted):
        raise UsageError(f"{wanted.name}: exists already with {difference}; {_ANOTHER_NAME}")
    return there

"""A recipe and data -> a trained network: finished before, gone on with, or trained now."""

from cifar_deploy.core import files, ranks
from cifar_deploy.core.defaults import CHECKPOINT_EVERY_S
from cifar_deploy.core.errors import Corrupt, UnknownName, UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.progress import OnProgress
from cifar_deploy.core.records import Checkpoint, Recipe, Training
from cifar_deploy.core.store import Store, as_artifact, check_name
from cifar_deploy.devices import DEVICES
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.workers import train as worker
from cifar_deploy.workers.prepare import Prepared


def train(
    store: Store,
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    device: str = "auto",
    threads: int | None = None,
    limit_test: int | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome[Checkpoint]:
    """Train a network, go on with a training that was interrupted, or return the one that is finished.

    One that was begun with `again` and interrupted goes on without it. The state is saved after each epoch, and within
    one every `checkpoint_every_s`.

    Raises UsageError if the name belongs to a training that differs in network, data or recipe, unless `again`.
    Under torchrun this is for the first rank; the others `follow`.
    """
    if device != "auto":
        DEVICES.given(device)
    training = training_of(store, prepared, network, name=name, recipe=recipe, again=again)
    finished = _finished(store, training.name, again)
    unfinished = None if again else store.unfinished(training.name)
    if not unfinished:
        files.discard(store.training_folder(training.name))
    if finished and not again and not _is_same(unfinished, training):
        store.verified(as_artifact(finished))
        if ranks.count() > 1:
            Worker().call(worker.dismiss, device)
        return Outcome(value=finished, reused=True)
    threads = threads or ranks.threads()
    checkpoint = Worker(pool_threads=threads, on_progress=on_progress).call(
        worker.train,
        training=training,
        root=store.root,
        data_folder=prepared.folder,
        device=device,
        threads=threads,
        limit_test=limit_test,
        checkpoint_every_s=checkpoint_every_s,
    )
    return Outcome(value=checkpoint, reused=False)


def follow(
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Train along with the first rank, under torchrun; it alone reads and writes an output folder."""
    threads = threads or ranks.threads()
    Worker(pool_threads=threads).call(
        worker.follow,
        training=_training(prepared, network, name, recipe),
        data_folder=prepared.folder,
        device=device,
        threads=threads,
    )


def training_of(
    store: Store,
    prepared: Prepared,
    network: str,
    *,
    name: str | None = None,
    recipe: Recipe = RECIPES["paper"],
    again: bool = False,
) -> Training:
    """What `train` would train. Raises UsageError where it would, before anything is done."""
    training = _training(prepared, network, name, recipe)
    if again:
        return training
    finished = _finished(store, training.name, again)
    there = [one for one in (store.unfinished(training.name), finished and finished.training) if one]
    if there and not any(_is_same(one, training) for one in there):
        raise UsageError(
            f"{training.name}: exists already with {there[0].difference(training)}; "
            "give another --name, or --again to replace it"
        )
    return training


def _finished(store: Store, name: str, again: bool) -> Checkpoint | None:
    """A damaged record raises Corrupt, unless the network is trained again, or was begun to be."""
    try:
        return store.checkpoint(name)
    except Corrupt:
        if again or store.unfinished(name):
            return None
        raise


def _is_same(there: Training | None, wanted: Training) -> bool:
    return there is not None and there.difference(wanted) is None


def _training(prepared: Prepared, network: str, name: str | None, recipe: Recipe) -> Training:
    NETWORKS.given(network)
    ranks.check_batch(recipe.batch_size)
    return Training(
        name=check_name(name or network.replace(":", "-")), network=network, recipe=recipe, data=prepared.data
    )


def names(store: Store) -> list[str]:
    """The trained networks. Raises UsageError if there is none."""
    found = store.names()
    if not found:
        raise UsageError(
            f"{store.exported}: no trained network; run `cifar-deploy train-all` first, or give another --out"
        )
    # The default networks first, in their order, as everywhere.
    order = {name: index for index, name in enumerate(DEFAULT_NETWORKS)}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name))


def checkpoint(store: Store, name: str) -> Checkpoint:
    """The trained network of this name. Raises UnknownName if there is none."""
    found = store.checkpoint(check_name(name))
    if not found:
        raise UnknownName.among("trained network", name, store.names() or ["none yet: run `cifar-deploy train`"])
    return found

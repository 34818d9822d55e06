"""What `quickstart` measures: the networks that travel with the package, in few formats on the runtimes that come with it."""

from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable

from cifar_deploy.core import codec, files
from cifar_deploy.core.errors import Corrupt, UsageError
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.records import Checkpoint
from cifar_deploy.core.store import CHECKPOINT, WEIGHTS, Store, as_artifact, verified
from cifar_deploy.metrics import as_runtime_metric, default_metrics
from cifar_deploy.stages import prepare

BACKENDS = ("pytorch", "torchscript", "onnxruntime")
_FORMATS = ("torchscript", "onnx")
_FORMATS_OF_IMAGES = ("onnx_int8",)  # the training images calibrate them

_REMEDY = "install cifar-deploy again"


def shipped(store: Store) -> list[Outcome[Checkpoint]]:
    """The networks that travel with the package, by name, in the output folder as if they had been trained there.

    Raises UsageError if the folder holds another network of such a name, Corrupt if a file is damaged.
    """
    folder = resources.files("cifar_deploy") / "shipped"
    found = [each for each in folder.iterdir() if (each / "checkpoint.json").is_file()] if folder.is_dir() else []
    if not found:
        raise Corrupt(f"{folder}: holds no network; {_REMEDY}")
    return [_copied(store, each) for each in sorted(found, key=lambda each: each.name)]


def _copied(store: Store, source: Traversable) -> Outcome[Checkpoint]:
    place, there = store.checkpoint_folder(source.name), store.checkpoint(source.name)
    with files.staging(place) as staged:
        for name in ("checkpoint.json", WEIGHTS):
            with files.errors_named(place):
                (staged / name).write_bytes((source / name).read_bytes())
        checkpoint = codec.load(Checkpoint, staged / "checkpoint.json", _REMEDY)
        verified(staged / WEIGHTS, checkpoint.weights, _REMEDY)
        if not there:
            store.save_checkpoint(checkpoint, staged)
            return Outcome(value=checkpoint, reused=False)
    if there.weights != checkpoint.weights:
        raise UsageError(f"--out: {place} holds another network of this name; give another folder")
    store.verified(as_artifact(there))
    return Outcome(value=there, reused=True)


def has_images(checkpoints: Iterable[Checkpoint]) -> bool:
    """Whether the images that all of them were trained on are in the cache."""
    return all(prepare.find(checkpoint.training.data.fingerprint) for checkpoint in checkpoints)


def formats(with_images: bool) -> list[str]:
    """What is measured: the checkpoint, and what is exported."""
    return [CHECKPOINT, *_FORMATS, *(_FORMATS_OF_IMAGES if with_images else ())]


def metrics() -> list[str]:
    """All by default but those of whole batches."""
    named = default_metrics()
    return [name for name in named if not (metric := as_runtime_metric(name)) or metric.in_bench or metric.per_image]

"""An artifact and images -> the most likely classes of each."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import DeployError, UsageError, by_reason
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.progress import OnProgress, counted
from cifar_deploy.core.records import Artifact, External, variant_name
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.store import Store, artifact_in
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.datasets.image_files import SUFFIXES
from cifar_deploy.formats import format_of, given
from cifar_deploy.stages import plan
from cifar_deploy.stages.export import readers, versions_of
from cifar_deploy.stages.profile import exported
from cifar_deploy.workers import predict as worker
from cifar_deploy.workers.predict import Prediction

FORMAT = "onnx"  # of a network that is named without one

_SHOWN_REASONS = 2


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What an artifact answered on a backend."""

    artifact: Artifact
    backend: str
    predictions: tuple[Prediction, ...]


def predict(
    store: Store,
    artifact: str,
    images: Sequence[Path],
    *,
    format: str | None = None,
    backend: str | None = None,
    top: int = 3,
    threads: int = 1,
    trusted: bool = False,
    on_progress: OnProgress | None = None,
) -> Predicted:
    """The most likely classes of images, by an artifact: its folder, its main file, or the name of a trained network.

    A folder of images stands for all that lie below it, sorted. `format` is that of a named network, by default onnx. The
    backend is by default the first that runs the artifact here. An image that cannot be read says so in its prediction.

    Raises UsageError if there is no such artifact or image, or the backend does not read the format.
    """
    plan.check_names(formats=[format] if format else None, backends=[backend] if backend else None)
    found, folder = _artifact(store, artifact, format)
    paths = [path for image in images for path in _images(image)]
    chosen = _backend(found, backend)
    predictions = Worker(
        what=f"{found.title} on {chosen}",
        pool_threads=threads,
        interpreter=interpreter_for(BACKENDS[chosen]),
        on_progress=on_progress,
    ).call(
        worker.predict,
        artifact=found,
        folder=folder.absolute(),
        backend=chosen,
        threads=threads,
        images=tuple(path.absolute() for path in paths),
        top=top,
        trusted=trusted,
    )
    as_given = (replace(one, image=path) for one, path in zip(predictions, paths, strict=True))
    return Predicted(artifact=found, backend=chosen, predictions=tuple(as_given))


def _artifact(store: Store, word: str, format: str | None) -> tuple[Artifact, Path]:
    """The artifact that the user named, and the folder of its files."""
    path = Path(word)
    if "/" in word and format:
        raise UsageError(
            f"--format: the record of {word} says its format; leave --format out, or name a trained network"
        )
    if format or ("/" not in word and not path.exists()):
        base, input = given(format or FORMAT)
        artifact = exported(store, word, variant_name(base, input))
        return artifact, store.folder_of(artifact)
    untrusted.check_named(path, "give the folder of an artifact, or the name of a trained network")
    folder = path if path.is_dir() else path.parent
    found = artifact_in(folder)
    if not found or isinstance(found.origin, External):
        raise UsageError(
            f"{word}: no artifact.json or checkpoint.json lies there; give the folder of an artifact that "
            "`cifar-deploy export` wrote, or the name of a trained network"
        )
    if not path.is_dir() and path.name != (main := format_of(found).filename):
        raise UsageError(f"{word}: is not the main file of {found.title}; give {folder / main}, or the folder")
    return found, folder


def _backend(artifact: Artifact, named: str | None) -> str:
    """The backend that is named, or the first that runs the artifact here. Raises DeployError with why none does."""
    # By a record, which may be somebody else's: its code is imported only if it is trusted.
    format = str(artifact.format)
    reading = readers(format, [named] if named else None)
    if not reading:
        raise UsageError(f"--backend: {named} does not read {format}; give one of {', '.join(readers(format))}")
    reasons = []
    for backend in reading:
        failure = plan.why_unavailable(artifact, backend, BACKENDS[backend].validated_on, versions_of(backend))
        if not failure:
            return backend
        reasons.append(failure.reason)
    raise DeployError(reasons[0])


def _images(path: Path) -> Iterator[Path]:
    """A file, or the images below a folder: those with a suffix of an image, hidden ones and links to folders left out."""
    untrusted.check_named(path, "give image files, or folders of them")
    if not stat.S_ISDIR(path.stat().st_mode):
        yield path
        return
    below = sorted(_below(path))
    if not below:
        raise UsageError(
            f"{path}: holds no image ({', '.join(sorted(SUFFIXES))}); give image files, or folders of them"
        )
    yield from below


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DeployError(f"{error.filename}: cannot be read ({error.strerror}); mend that, or give another folder")

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(place, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        )


# For people

_PROBABILITY = Column(title="probability", unit="%", stored_unit="1", scale=100)


def lines(predicted: Predicted) -> Iterator[str]:
    """What answered, and what is to be known of its answers."""
    artifact = predicted.artifact
    yield f"{artifact.title} on {BACKENDS[predicted.backend].title or predicted.backend}"
    resized = sum(one.resized for one in predicted.predictions)
    if resized and artifact.data:
        size = f"{artifact.data.width}×{artifact.data.height}"
        yield (
            f"Resized to {size}: {counted(resized, 'image')}. The images of {artifact.data.dataset} all have this size, "
            "and no preprocessing of larger ones is recorded."
        )


def section(predicted: Predicted) -> Section | None:
    """Of one image a row a class; of several a row an image. None if no image could be read."""
    answered = [one for one in predicted.predictions if one.classes]
    if not answered:
        return None
    if len(predicted.predictions) == 1:
        (only,) = answered
        return Section(
            title=str(only.image),
            label_titles=("class",),
            columns={"probability": _PROBABILITY},
            rows=tuple(
                Row(labels=(each.label,), values={"probability": Value(number=each.probability)})
                for each in only.classes
            ),
        )
    places = [f"top {place}" for place in range(1, len(answered[0].classes) + 1)]
    return Section(
        title="Predictions",
        label_titles=("image",),
        columns={place: Column(title=place, unit="", stored_unit="") for place in places},
        rows=tuple(_row(one, places) for one in predicted.predictions),
    )


def _row(prediction: Prediction, places: Sequence[str]) -> Row:
    words: Mapping[str, str] = {
        place: f"{each.label} {each.probability:.1%}" for place, each in zip(places, prediction.classes, strict=False)
    }
    return Row(labels=(str(prediction.image),), values={}, words=words or {places[0]: "cannot be read"})


def refusal(predicted: Predicted) -> str | None:
    """Which images cannot be read, and why; None if all can."""
    faults = {str(one.image): one.unreadable for one in predicted.predictions if one.unreadable}
    if not faults:
        return None
    if len(faults) == 1:
        ((image, fault),) = faults.items()
        return f"{image}: {fault}; mend, convert or leave it out"
    reasons = [f"{names} ({reason})" for reason, names, _ in by_reason(faults)]
    more = ", and other reasons" if len(reasons) > _SHOWN_REASONS else ""
    return (
        f"{len(faults):,} of {len(predicted.predictions):,} images cannot be read: "
        f"{', '.join(reasons[:_SHOWN_REASONS])}{more}; mend, convert or leave them out"
    )

"""Artifacts and test images -> bench.py: one text file that measures them on another device, by this program's own code."""

import base64
import hashlib
import io
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cifar_deploy
from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import codec, files, image_cache, machine, packs, trust
from cifar_deploy.core.arrays import choose
from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.packs import Choice, Manifest, PackSettings
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, Checkpoint, Data, File
from cifar_deploy.core.store import CHECKPOINT, Store, described, place_of
from cifar_deploy.formats import FORMATS, format_of
from cifar_deploy.metrics import PROTOCOL
from cifar_deploy.stages import export, plan, prepare, train
from cifar_deploy.workers import export as worker

# Of base64 in a line: short enough for whatever carries text.
_LINE = 900

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip knows: the same content is the same bytes

_PACKAGE = Path(cifar_deploy.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A pack that was written."""

    path: Path
    id: str
    bytes: int
    manifest: Manifest


def pack(
    store: Store,
    path: Path,
    names: Sequence[str] = (),
    *,
    formats: Sequence[str] | None = None,
    images: int,
    settings: PackSettings,
    on_progress: OnProgress | None = None,
) -> Packed:
    """Write what measures the exports of these trainings on another device into one text file.

    `images`: so many test images of each data set travel, those that `evaluate --limit-test` chooses.

    Raises UsageError if nothing of what is asked for can run without PyTorch or belongs to this processor alone, and
    Unavailable if the images are not in the cache.
    """
    plan.check_names(formats=formats, backends=settings.backends, metrics=settings.metrics)
    for option, given in (("--backend", settings.backends), ("--metric", settings.metrics)):
        for name in given or ():
            if ":" in name:
                raise UsageError(f"{option}: {name} is your own code, which does not travel; give one of `list`")
    names = list(names) or train.names(store)
    checkpoints = [train.checkpoint(store, name) for name in names]
    artifacts = [artifact for checkpoint in checkpoints for artifact in _travelling(store, checkpoint, formats)]
    _check(artifacts, names, formats)
    if settings.backends:
        plan.check_readers({str(artifact.format) for artifact in artifacts}, settings.backends, "add its --format")
    taken = [one for one in checkpoints if any(artifact.checkpoint == one for artifact in artifacts)]
    with files.temporary_folder() as folder:
        root = folder / "content"
        choices = []
        for done, checkpoint in enumerate(taken):
            if on_progress:
                on_progress(Progress(done=done, total=len(taken), message=checkpoint.training.name))
            choices.append(_choice(checkpoint.training.data, images, root))
            _write_answers(store, checkpoint, root / choices[-1].place)
            codec.save(_made(root / "exported" / checkpoint.training.name / CHECKPOINT) / "checkpoint.json", checkpoint)
        for artifact in artifacts:
            _copy(store, artifact, root)
        for data, format, input in {(artifact.data, artifact.format, artifact.input): None for artifact in artifacts}:
            assert data and format
            if settings.controls and (baseline := export.baseline(store, data, format, input)):
                _copy(store, baseline, root)
        for module in _modules():
            shutil.copyfile(
                module,
                _made((root / packs.FOLDER / "cifar_deploy" / module.relative_to(_PACKAGE)).parent) / module.name,
            )
        manifest = Manifest(
            program=cifar_deploy.__version__,
            commit=machine.commit(),
            protocol=PROTOCOL,
            networks=tuple(checkpoint.training.name for checkpoint in taken),
            variants=tuple(dict.fromkeys(artifact.variant for artifact in artifacts)),
            choices=tuple(dict.fromkeys(choices)),
            requires=tuple(_requires(artifacts, settings.backends)),
            settings=settings,
            files=tuple(_files(root)),
        )
        place = root / packs.FOLDER / packs.MANIFEST
        codec.save(place, manifest)
        id = packs.id_of(place.read_bytes())
        files.write_text(path, _text(_zipped(root), id, manifest.requires))
    trust.remember_pack(id)
    return Packed(path=path, id=id, bytes=path.stat().st_size, manifest=manifest)


def why_not(artifact: Artifact) -> str | None:
    """Why an artifact cannot travel; None if it can."""
    if artifact.failure:
        return f"its export failed ({artifact.failure.kind})"
    if ":" in str(artifact.format):
        return "its format is your own code; install cifar-deploy on the device, with that code"
    plugin = format_of(artifact)
    if artifact.format == CHECKPOINT or plugin.is_program:
        return "it needs PyTorch; install cifar-deploy on the device, and run `cifar-deploy evaluate` there"
    if not plugin.is_portable:
        return "it is for this processor alone; install cifar-deploy on the device, and export it there"
    return None


def _travelling(store: Store, checkpoint: Checkpoint, formats: Sequence[str] | None) -> Iterator[Artifact]:
    for artifact in store.artifacts(checkpoint.training.name):
        if artifact.weights_sha256 != checkpoint.weights.sha256:
            continue  # of weights that were replaced since
        if artifact.variant not in (formats or [artifact.variant]):
            continue
        reason = why_not(artifact)
        if reason and formats:
            raise UsageError(f"--format: {artifact.title} cannot travel: {reason}")
        if not reason:
            yield artifact


def _check(artifacts: Sequence[Artifact], names: Sequence[str], formats: Sequence[str] | None) -> None:
    for variant in formats or ():
        if not any(artifact.variant == variant for artifact in artifacts):
            raise UsageError(f"--format: no {variant} of {', '.join(names)} is exported; run `cifar-deploy export`")
    if not artifacts:
        portable = [name for name, plugin in FORMATS.items() if plugin.is_portable and not plugin.is_program]
        raise UsageError(
            f"{', '.join(names)}: nothing is exported that runs without PyTorch; run `cifar-deploy export` "
            f"(of {', '.join(name for name in portable if name != CHECKPOINT)})"
        )


def _choice(data: Data, images: int, root: Path) -> Choice:
    """The images that travel, written to their folder."""
    source = prepare.folder_of(data)
    chosen = choose(data.test_images, images)
    choice = Choice(data=data, images=len(chosen))
    folder = root / choice.place
    if not folder.exists():
        folder.mkdir(parents=True)
        codec.save(image_cache.record_path(folder), data)
        np.save(folder / "chosen.npy", chosen)
        for name in ("test_images", "test_labels"):
            np.save(folder / f"{name}.npy", image_cache.load_array(source, name)[chosen])
    return choice


def _write_answers(store: Store, checkpoint: Checkpoint, folder: Path) -> None:
    name = checkpoint.training.name
    Worker(what=f"answers of {name}").call(
        worker.write_answers,
        checkpoint=checkpoint,
        root=store.root,
        images=folder,
        logits=folder / packs.logits_of(name),
        labels=folder / packs.labels_of(name),
    )


def _copy(store: Store, artifact: Artifact, root: Path) -> None:
    """The artifact's files, verified, and its record."""
    place = _made(root / place_of(artifact))
    for name, path in store.verified(artifact).items():
        shutil.copyfile(path, place / name)
    codec.save(place / "artifact.json", artifact)


def _modules() -> Iterator[Path]:
    return (path for path in sorted(_PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts)


def _requires(artifacts: Iterable[Artifact], backends: Sequence[str] | None) -> Iterator[str]:
    """The packages of the runtime that each format is made for, in the version that is here, and numpy."""
    found: dict[str, str] = {}
    for artifact in artifacts:
        for backend in backends or export.readers(str(artifact.format))[:1]:
            versions = export.versions_of(backend)
            wanted = {name.replace("_", "-"): versions.get(name) for name in (*BACKENDS[backend].requires, "numpy")}
            # Without the label of a build ("+cpu"), which an index of another kind does not have.
            found |= {name: version.partition("+")[0] for name, version in wanted.items() if version}
    # Python 3.10 has older ones, and they read the same files.
    return (f"{name}=={found[name]}; python_version >= '3.11'" for name in sorted(found))


def _files(root: Path) -> Iterator[File]:
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        file = described(path)
        yield File(name=path.relative_to(root).as_posix(), bytes=file.bytes, sha256=file.sha256)


def _zipped(root: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            packed.writestr(
                zipfile.ZipInfo(path.relative_to(root).as_posix(), _EARLIEST), path.read_bytes(), zipfile.ZIP_DEFLATED
            )
    return content.getvalue()


def _text(content: bytes, id: str, requires: Sequence[str]) -> str:
    """The head as a script with its metadata (PEP 723), and the content behind it as comments."""
    metadata = ["# /// script", '# requires-python = ">=3.10"', "# dependencies = ["]
    metadata += [f'#     "{each}",' for each in (*requires, *_without_versions(requires))]
    metadata += ["# ]", "# ///"]
    code = (_PACKAGE / "head.py").read_text()
    for name, value in {
        "SHA256": hashlib.sha256(content).hexdigest(),
        "ID": id,
        "REQUIRES": tuple(packs.names(requires)),
    }.items():
        code = re.sub(rf"^{name} = .*$", f"{name} = {value!r}", code, flags=re.M)
    text = base64.b64encode(content).decode()
    lines = [f"# {text[start : start + _LINE]}" for start in range(0, len(text), _LINE)]
    return "\n".join([*metadata, code, packs.CONTENT.decode().strip(), *lines, ""])


def _without_versions(requires: Iterable[str]) -> list[str]:
    return [f"{name}; python_version < '3.11'" for name in packs.names(requires)]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

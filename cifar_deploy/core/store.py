"""Where everything lies below one output folder, and the only code that writes there.

    exported/<name>/checkpoint/   weights.safetensors, checkpoint.json, metrics.jsonl (a line an epoch)
    exported/<name>/<format>/     the artifact's files, artifact.json
    exported/<name>/*/            labels.txt, preprocessing.json, example.py: for an app (see stages.app)
    baselines/<data>/<format>/    the same of the no-op network for images of a data set
    training/<name>/              state of a training that is not finished
    reports/results.jsonl         a line for each run, appended as it ends (see core.journal)
    reports/raw/                  the samples and predictions behind the lines (see core.samples)
    profile/                      traces, and a record of each: <name>-<format>-<backend>.json and .profile.json
    log.txt                       tracebacks and what workers printed
    .lock                         held by the one process that writes

A JSON record is written after the files that it describes, so a reader who finds it finds them too, and knows their
hashes. It holds a checksum of its own and the version that it is of (see core.upgrades), and so does each line of
results.jsonl. What a record says of itself (its name,
its format, the names of its files) must be of the place where it lies: a folder may be somebody else's.
"""

import contextlib
import errno
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from cifar_deploy.core import codec, files, machine, samples, untrusted
from cifar_deploy.core.errors import Corrupt, Unwritable, UsageError
from cifar_deploy.core.journal import Fault, Journal, Lines, grouped
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.records import (
    Addition,
    Artifact,
    Baseline,
    Begun,
    Checkpoint,
    External,
    File,
    Measurement,
    Result,
    Run,
    Trained,
    Training,
)

CHECKPOINT = "checkpoint"  # the format that training itself writes
WEIGHTS = "weights.safetensors"

# Files for apps, beside an artifact's own (see stages.app). They are neither measured nor verified.
FOR_APPS = (LABELS, PREPROCESSING, EXAMPLE) = ("labels.txt", "preprocessing.json", "example.py")

# Files that training writes beside the weights, for plotting.
_BESIDE_WEIGHTS = ("metrics.jsonl", "tensorboard")

_RESTORE = "restore it from a copy, or run `cifar-deploy train NETWORK --force`"
_EXPORT_AGAIN = "run `cifar-deploy export --force`"
_PROFILE_AGAIN = "run `cifar-deploy profile` again"

_PROFILE = ".profile.json"

_LOCK = ".lock"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """`name`, if it can name a folder everywhere; else UsageError."""
    if not _NAME.fullmatch(name) or files.is_leftover(name):
        raise UsageError(
            f"{name}: cannot name a training; use letters, digits, '.', '_' and '-', as in `train NETWORK --name NAME`"
        )
    return name


def place_of(artifact: Artifact) -> Path:
    """The folder of an artifact, below any output folder; not of an external model."""
    variant = artifact.variant.replace(":", ".")
    if isinstance(artifact.origin, Baseline):
        return Path("baselines", artifact.origin.data.fingerprint[:12], variant)
    return Path("exported", artifact.name, variant)


class _Before:
    """What an output folder held before a command: a command that is refused leaves nothing else behind."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._entries = self._listed()
        self._made = [folder for folder in (store.root, *store.root.parents) if not os.path.lexists(folder)]

    def _listed(self) -> set[str]:
        with contextlib.suppress(OSError):
            return set(os.listdir(self._store.root))
        return set()

    def restore(self) -> None:
        """Delete what the command itself made, if that is nothing but the lock, the log and empty folders."""
        new = self._listed() - self._entries
        if not new <= {_LOCK, self._store.log.name}:
            return
        with contextlib.suppress(OSError):
            for name in new:
                (self._store.root / name).unlink()
            for folder in self._made:
                folder.rmdir()


class Store:
    """One output folder. Reading is free; writing belongs inside `with Store(root) as store:`, which locks it."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root).absolute()
        self.exported = self.root / "exported"
        self.baselines = self.root / "baselines"
        self.reports = self.root / "reports"
        self.training = self.root / "training"
        self.profile = self.root / "profile"
        self.log = self.root / "log.txt"
        self._journal: Journal | None = None  # while this process holds the lock
        self._before: _Before | None = None  # likewise
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> "Store":
        self._before = _Before(self)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(
                self.root / _LOCK, f"{self.root}: another cifar-deploy is at work here; wait, or give another --out"
            )
            self._lock.__enter__()
        except OSError as error:
            what = f"--out: {self.root} cannot be written ({error.strerror})"
            self._before.restore()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unwritable(f"{what}; make room or give another folder") from error
            raise UsageError(f"{what}; give another folder") from error
        for folder in (self.exported, self.baselines, self.reports, self.training, self.profile):
            files.sweep(folder)
        files.sweep_temporary_folders()
        self._journal = Journal(self.results_path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal = None
        for folder in (self.exported, self.baselines):  # killed workers leave what they were shown
            files.sweep(folder)
        if isinstance(error, UsageError) and self._before:
            self._before.restore()
        self._lock.__exit__()

    # Checkpoints

    def names(self) -> list[str]:
        """The trainings that are finished."""
        found = (path.parents[1].name for path in self.exported.glob("*/checkpoint/checkpoint.json"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def checkpoint_folder(self, name: str) -> Path:
        return self.exported / name / CHECKPOINT

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The record of a finished training, or None. Its weights are not touched: see `verified`."""
        path = self.checkpoint_folder(name) / "checkpoint.json"
        if not path.exists():
            return None
        checkpoint = codec.load(Checkpoint, path, _RESTORE, self._tell)
        if (checkpoint.training.name, checkpoint.weights.name) != (name, WEIGHTS):
            found = f"{checkpoint.training.name} in {checkpoint.weights.name}"
            raise Corrupt(f"{path}: is the record of {found}, not of {name} in {WEIGHTS}; {_RESTORE}")
        return checkpoint

    def save_checkpoint(self, checkpoint: Checkpoint, staged: Path) -> None:
        """Commit a training: the folder `staged`, which holds its weights, takes its place as one, the record included.

        Whatever fails, what was there before stays whole.
        """
        _commit(staged, self.checkpoint_folder(checkpoint.training.name), "checkpoint.json", checkpoint)

    # A training that is not finished

    def training_folder(self, name: str) -> Path:
        return self.training / name

    def begin(self, training: Training) -> None:
        """Record what is being trained, and the finished network of that name that it will replace, if there is one."""
        begun = Begun(training=training, replaces=self._finished(training.name))
        codec.save(self.training_folder(training.name) / "training.json", begun)

    def unfinished(self, name: str) -> Training | None:
        """What was begun and can go on. None if no state of it was saved yet, or if it is finished and a state was left."""
        path = self.training_folder(name) / "training.json"
        if not path.exists() or not any(path.parent.glob("state.*")):
            return None
        begun = codec.load(Begun, path, _RESTORE, self._tell)
        return begun.training if begun.replaces == self._finished(name) else None

    def _finished(self, name: str) -> str | None:
        """Finishing time of the network of this name; None if there is no such network, or its record is damaged."""
        try:
            checkpoint = self.checkpoint(name)
        except Corrupt:
            return None
        return checkpoint.finished if checkpoint else None

    # Artifacts

    def artifact_folder(self, name: str, variant: str) -> Path:
        """Of a trained network's artifact, by the network's name and the artifact's variant."""
        return self.exported / name / variant.replace(":", ".")

    def folder_of(self, artifact: Artifact) -> Path:
        """Where the files of an artifact lie, and its record; not of an external model."""
        return self.root / place_of(artifact)

    def artifact(self, name: str, variant: str) -> Artifact | None:
        """An export's record, or None. The record of the checkpoint itself comes from the checkpoint."""
        if variant == CHECKPOINT:
            checkpoint = self.checkpoint(name)
            return as_artifact(checkpoint) if checkpoint else None
        path = self.artifact_folder(name, variant) / "artifact.json"
        return self._artifact(path) if path.exists() else None

    def earlier(self, artifact: Artifact) -> Artifact | None:
        """What was exported before in the place of this artifact, or None."""
        path = self.folder_of(artifact) / "artifact.json"
        return self._artifact(path) if path.exists() else None

    def artifacts(self, name: str) -> Iterator[Artifact]:
        """The checkpoint first, then every export."""
        if checkpoint := self.checkpoint(name):
            yield as_artifact(checkpoint)
        for path in sorted((self.exported / name).glob("*/artifact.json")):
            if not files.is_leftover(path.parent.name):
                yield self._artifact(path)

    def _artifact(self, path: Path) -> Artifact:
        artifact = codec.load(Artifact, path, _EXPORT_AGAIN, self._tell)
        if isinstance(artifact.origin, External) or self.folder_of(artifact) != path.parent:
            here = f"{path.parent.parent.name} {path.parent.name}"
            raise Corrupt(f"{path}: is the record of {artifact.title}, not of {here}; {_EXPORT_AGAIN}")
        return artifact

    def save_artifact(self, artifact: Artifact, staged: Path) -> None:
        """Commit an export: the folder `staged`, which holds its files, takes its place as one, the record included.

        Whatever fails, what was there before stays whole.
        """
        kept = {file.name for file in artifact.files}
        for path in list(staged.iterdir()):
            if path.name not in kept:
                files.remove(path)
        _commit(staged, self.folder_of(artifact), "artifact.json", artifact)

    def verified(self, artifact: Artifact) -> Mapping[str, Path]:
        """The artifact's files by name, each of the size and hash that its record says; else Corrupt.

        No parser has seen them. What is opened is taken from here, by its name, and from nowhere else.
        """
        remedy = _remedy(artifact)
        return {file.name: verified(self._place(artifact, file), file, remedy) for file in artifact.files}

    @contextlib.contextmanager
    def view(self, artifact: Artifact) -> Iterator[Mapping[str, Path]]:
        """As `verified`, in a folder that holds these files and nothing else: a runtime opens some files by itself."""
        if isinstance(artifact.origin, External):
            yield self.verified(artifact)  # they lie where their owner has put them
            return
        with files.staging(folder := self.folder_of(artifact)) as alone:
            yield set_apart(artifact, folder, alone)

    def _place(self, artifact: Artifact, file: File) -> Path:
        """The path of a file of an artifact. The record of an external model holds whole paths, any other record names."""
        if isinstance(artifact.origin, External):
            return Path(file.name)
        return untrusted.inside(self.folder_of(artifact), file.name)

    def strays(self, artifact: Artifact) -> list[str]:
        """What lies beside the artifact's files and is none of them: neither counted, nor checked, nor opened."""
        folder = self.folder_of(artifact)
        ours = {
            "artifact.json",
            "checkpoint.json",
            *_BESIDE_WEIGHTS,
            *FOR_APPS,
            *(file.name for file in artifact.files),
        }
        found = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
        return sorted(name for name in found if name not in ours and not files.is_leftover(name))

    def _tell(self, path: Path, note: str) -> None:
        """Warn of what was set aside in a record, the first time that it is in a file of this name."""
        if (path.name, note) not in self._told:
            self._told.add((path.name, note))
            codec.warn(path, note)

    # Profiles

    def trace_path(self, name: str, variant: str, backend: str) -> Path:
        """Where the trace of an artifact on a backend lies."""
        return self.profile / f"{name}-{variant}-{backend}.json".replace(":", ".")

    def save_profile(self, profile: Profile) -> None:
        """Write the record of a profile, beside its trace."""
        codec.save(self._profile_path(profile), profile)

    def _profile_path(self, profile: Profile) -> Path:
        return self.trace_path(profile.name, profile.format, profile.backend).with_suffix(_PROFILE)

    def profiles(self) -> list[Profile]:
        """Every profile that can be read. A warning says which cannot."""
        found = []
        for path in sorted(self.profile.glob(f"*{_PROFILE}")):
            try:
                profile = codec.load(Profile, path, _PROFILE_AGAIN, self._tell)
                title = f"{profile.name} {profile.format} on {profile.backend}"
                if self._profile_path(profile) != path:
                    raise Corrupt(f"{path}: is the record of {title}; {_PROFILE_AGAIN}")
                found.append(profile)
            except Corrupt as error:
                warnings.warn(str(error))
            except OSError as error:
                warnings.warn(f"{path}: cannot be read ({error.strerror}); {_PROFILE_AGAIN}")
        return found

    # Results

    @property
    def results_path(self) -> Path:
        return self.reports / "results.jsonl"

    def raw_path(self, name: str) -> Path:
        return samples.raw_path(self.reports, name)

    def has_samples(self, measurement: Measurement) -> bool:
        """Whether the samples behind a measurement are there, and are those that were written."""
        return samples.has_samples(self.reports, measurement)

    def append(self, *runs: Run) -> None:
        """Add runs to results.jsonl, and sync it."""
        self._results().append(*runs)

    def lines(self, fault: Fault | None = None) -> Lines:
        """Every run that can be read, oldest first, and why the other lines cannot. `fault` may find more of those."""
        return self._results().lines(fault)

    def _results(self) -> Journal:
        """The one that was read already, as long as nobody else can write."""
        return self._journal or Journal(self.results_path)

    def runs(self, fault: Fault | None = None) -> Sequence[Run]:
        """Those of `lines`; warnings say what is left out."""
        lines = self.lines(fault)
        lines.warn(self.results_path)
        return lines.runs

    def results(self, fault: Fault | None = None) -> list[Result]:
        """The runs, together as they belong: those of a job in a session. Oldest first, by their newest run."""
        return grouped(self.runs(fault))


def _commit(staged: Path, place: Path, name: str, record: Checkpoint | Artifact) -> None:
    """Put a folder in its place, with the record that describes its files. Raises Unwritable."""
    with files.errors_named(place):
        for path in staged.iterdir():
            if path.is_file():
                files.sync(path)
        codec.save(staged / name, record)
        files.exchange(staged, place)


def artifact_in(folder: Path) -> Artifact | None:
    """The artifact whose files lie in a folder, wherever that is, by the record there; None if there is no record."""
    if (path := folder / "artifact.json").exists():
        return codec.load(Artifact, path, _EXPORT_AGAIN)
    if (path := folder / "checkpoint.json").exists():
        return as_artifact(codec.load(Checkpoint, path, _RESTORE))
    return None


def set_apart(artifact: Artifact, folder: Path, alone: Path) -> Mapping[str, Path]:
    """As `Store.verified`: the artifact's files of `folder`, which are then in the folder `alone`, too."""
    for file in artifact.files:
        place = untrusted.inside(folder, file.name)
        if place.exists():
            untrusted.link(place, alone / file.name)
        verified(place, file, _remedy(artifact), alone / file.name)
    return {file.name: alone / file.name for file in artifact.files}


def as_artifact(of: Checkpoint | Trained | Baseline) -> Artifact:
    """The weights as the artifact of format `checkpoint`, which the network itself runs from."""
    origin = Trained(checkpoint=of) if isinstance(of, Checkpoint) else of
    made = origin.checkpoint if isinstance(origin, Trained) else None
    return Artifact(
        origin=origin,
        format=CHECKPOINT,
        files=(origin.weights,),
        parity=(),
        failure=None,
        versions=made.versions if made else {},
        seconds=0.0,
        commit=made.commit if made else None,
        finished=made.finished if made else machine.now(),
    )


def described(path: Path) -> File:
    return File(name=path.name, bytes=path.stat().st_size, sha256=untrusted.sha256(path))


def _remedy(artifact: Artifact) -> str:
    """What makes a damaged file of an artifact again."""
    origin, name = artifact.origin, shlex.quote(artifact.name)
    if isinstance(origin, External):
        return "restore it from a copy"
    if isinstance(origin, Baseline):
        return "delete its folder, and it is made again"
    if artifact.format and artifact.format != CHECKPOINT:
        format = shlex.quote(artifact.format)
        if artifact.input != "float32":
            return f"run `cifar-deploy export {name} --format {format} --input {artifact.input} --force`"
        return f"run `cifar-deploy export {name} --format {format} --force`"
    training = origin.checkpoint.training
    if isinstance(training, Addition):
        return f"restore it from a copy, or run its `cifar-deploy add {name} ... --force` with its options"
    return f"restore it from a copy, or run its `cifar-deploy train {shlex.quote(training.network)} ... --force` with its options"


def verified(path: Path, record: File, remedy: str, copy: Path | None = None) -> Path:
    """`path`, if the file there, or its `copy`, has the size and the hash of its record; else Corrupt, with the remedy."""
    read = copy or path
    if not read.exists():
        raise Corrupt(f"{path}: is missing; {remedy}")
    if read.stat().st_size != record.bytes or untrusted.sha256(read) != record.sha256:
        raise Corrupt(f"{path}: is not the file its record describes (sha256 differs); {remedy}")
    return path

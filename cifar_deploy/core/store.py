"""Where everything lies below one output folder, and the only code that writes there.

    exported/<name>/checkpoint/   weights.safetensors, checkpoint.json, metrics.jsonl (a line an epoch)
    exported/<name>/<format>/     the artifact's files, artifact.json
    baselines/<data>/<format>/    the same of the no-op network for images of a data set
    training/<name>/              state of a training that is not finished
    reports/results.jsonl         a line a block, appended as it ends
    reports/raw/                  the samples and predictions behind the lines
    log.txt                       tracebacks and what workers printed
    .lock                         held by the one process that writes

A JSON record is written after the files that it describes, so a reader who finds it finds them too, and knows their
hashes. It holds a checksum of its own, and so does each line of results.jsonl. What a record says of itself (its name,
its format, the names of its files) must be of the place where it lies: a folder may be somebody else's.
"""

import contextlib
import errno
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeAlias

from numpy.typing import NDArray

from cifar_deploy.core import arrays, codec, files, machine, sealing, untrusted
from cifar_deploy.core.codec import from_json, to_json
from cifar_deploy.core.errors import Corrupt, Unwritable, UsageError
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.records import (
    Artifact,
    Baseline,
    Begun,
    Block,
    Checkpoint,
    External,
    File,
    Reading,
    Result,
    Session,
    Trained,
    Training,
)

# Rises when a line of results.jsonl changes its meaning; readers skip, with a warning, what is newer than they are.
RESULTS_VERSION = 2

CHECKPOINT = "checkpoint"  # the format that training itself writes
WEIGHTS = "weights.safetensors"

# Files that training writes beside the weights, for plotting.
_BESIDE_WEIGHTS = ("metrics.jsonl", "tensorboard")

# A folder may be somebody else's: of the results that a day's rounds leave, and of the samples of one, far more than enough.
_LARGEST_RESULTS = 2**30
_LARGEST_SAMPLES = 2**28

_RESTORE = "restore it from a copy, or train again (--force)"
_EXPORT_AGAIN = "export again (--force)"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """`name`, if it can name a folder everywhere; else UsageError."""
    if not _NAME.fullmatch(name) or files.is_leftover(name):
        raise UsageError(f"{name}: cannot name a training; use letters, digits, '.', '_' and '-' (see --name)")
    return name


class Store:
    """One output folder. Reading is free; writing belongs inside `with Store(root) as store:`, which locks it."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root).absolute()
        self.exported = self.root / "exported"
        self.baselines = self.root / "baselines"
        self.reports = self.root / "reports"
        self.training = self.root / "training"
        self.log = self.root / "log.txt"

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(
                self.root / ".lock", f"{self.root}: another cifar-deploy is at work here; wait, or give another --out"
            )
            self._lock.__enter__()
        except OSError as error:
            what = f"--out: {self.root} cannot be written ({error.strerror})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unwritable(f"{what}; make room or give another folder") from error
            raise UsageError(f"{what}; give another folder") from error
        for folder in (self.exported, self.baselines, self.reports, self.training):
            files.sweep(folder)
        files.sweep_scratch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in (self.exported, self.baselines):  # killed workers leave what they were shown
            files.sweep(folder)
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
        checkpoint = codec.load(Checkpoint, path, _RESTORE)
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
        sealing.write_record(self.training_folder(training.name) / "training.json", to_json(begun))

    def unfinished(self, name: str) -> Training | None:
        """What was begun and can go on. None if no state of it was saved yet, or if it is finished and a state was left."""
        path = self.training_folder(name) / "training.json"
        if not path.exists() or not any(path.parent.glob("state.*")):
            return None
        begun = codec.load(Begun, path, "restore it from a copy, or start over with --force")
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
        if isinstance(artifact.origin, Baseline):
            return self.baselines / artifact.origin.data.fingerprint[:12] / artifact.variant.replace(":", ".")
        return self.artifact_folder(artifact.name, artifact.variant)

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
        artifact = codec.load(Artifact, path, _EXPORT_AGAIN)
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
        return {file.name: verified(self._place(artifact, file), file) for file in artifact.files}

    @contextlib.contextmanager
    def view(self, artifact: Artifact) -> Iterator[Mapping[str, Path]]:
        """As `verified`, in a folder that holds these files and nothing else: a runtime opens some files by itself."""
        if isinstance(artifact.origin, External):
            yield self.verified(artifact)  # they lie where their owner has put them
            return
        with files.staging(self.folder_of(artifact)) as alone:
            for file in artifact.files:
                place = self._place(artifact, file)
                if place.exists():
                    untrusted.link(place, alone / file.name)
                verified(place, file, alone / file.name)
            yield {file.name: alone / file.name for file in artifact.files}

    def _place(self, artifact: Artifact, file: File) -> Path:
        """The path of a file of an artifact. The record of an external model holds whole paths, any other record names."""
        if isinstance(artifact.origin, External):
            return Path(file.name)
        return untrusted.inside(self.folder_of(artifact), file.name)

    def strays(self, artifact: Artifact) -> list[str]:
        """What lies beside the artifact's files and is none of them: neither counted, nor checked, nor opened."""
        folder = self.folder_of(artifact)
        ours = {"artifact.json", "checkpoint.json", *_BESIDE_WEIGHTS, *(file.name for file in artifact.files)}
        found = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
        return sorted(name for name in found if name not in ours and not files.is_leftover(name))

    # Results

    @property
    def results_path(self) -> Path:
        return self.reports / "results.jsonl"

    def raw_path(self, name: str) -> Path:
        return raw_path(self.reports, name)

    def has_samples(self, reading: Reading) -> bool:
        """Whether the samples behind a reading are there, and are those that were written."""
        try:
            path = self.raw_path(str(reading.raw))
            return path.exists() and reading.raw_sha256 in (None, untrusted.sha256(path))
        except (Corrupt, OSError):
            return False

    def append(self, block: Block) -> None:
        """Add a line to results.jsonl and sync it. A line torn by an earlier crash is cut off first."""
        record = sealing.sealed({"version": RESULTS_VERSION, **to_json(block)})
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        self.reports.mkdir(parents=True, exist_ok=True)
        with files.naming(self.results_path), files.open_to_append(self.results_path) as file:
            _mend_end(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def lines(self, fault: "Fault | None" = None) -> "Lines":
        """Every block that can be read, oldest first, and why the other lines cannot. `fault` may find more of those."""
        return read_lines(self.results_path, fault) if self.results_path.exists() else Lines()

    def blocks(self, fault: "Fault | None" = None) -> Sequence[Block]:
        """Those of `lines`; warnings say what is left out."""
        lines = self.lines(fault)
        for told in lines.told():
            warnings.warn(f"{self.results_path}: {told}")
        return lines.blocks

    def results(self, fault: "Fault | None" = None) -> list[Result]:
        """The blocks, together as they belong: those of a job in a session. Oldest first, by their newest block."""
        return grouped(self.blocks(fault))


def _commit(staged: Path, place: Path, name: str, record: Checkpoint | Artifact) -> None:
    """Put a folder in its place, with the record that describes its files. Raises Unwritable."""
    with files.naming(place):
        for path in staged.iterdir():
            if path.is_file():
                files.sync(path)
        sealing.write_record(staged / name, to_json(record))
        files.exchange(staged, place)


Fault: TypeAlias = Callable[[Block], str | None]  # why a block is not to be used, or None

_TOLD = 3  # of many, so many are named


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What a results.jsonl holds: its blocks, and why the lines that are none are left out."""

    blocks: Sequence[Block] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)  # by the line's number, counted from 1

    def told(self) -> list[str]:
        """What is left out, a text for each reason."""
        return [
            f"line{'s' if count > 1 else ''} {those} left out: {reason}"
            for reason, those, count in _by_reason(self.left_out)
        ]


def _by_reason(reasons: Mapping[Any, str]) -> Iterator[tuple[str, str, int]]:
    """Each reason with those that it is given for: the first few of them in words, and how many they are."""
    found: dict[str, list[str]] = {}
    for one, reason in reasons.items():
        found.setdefault(reason, []).append(str(one))
    for reason, those in found.items():
        more = f" and {len(those) - _TOLD:,} more" if len(those) > _TOLD else ""
        yield reason, ", ".join(those[:_TOLD]) + more, len(those)


def read_lines(path: Path, fault: Fault | None = None) -> Lines:
    """Of a results.jsonl, as far as it can be read."""
    blocks, left_out = [], {}
    for number, line in enumerate(untrusted.read_bytes(path, _LARGEST_RESULTS).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            block = _block(line)
        except Corrupt as error:
            left_out[number] = str(error)
            continue
        if reason := fault and fault(block):
            left_out[number] = reason
        else:
            blocks.append(block)
    return Lines(blocks=blocks, left_out=left_out)


def _block(line: bytes) -> Block:
    sealed = sealing.parsed(line)
    version = sealed.get("version") if isinstance(sealed, dict) else None
    if not isinstance(version, int):
        raise Corrupt("is not a result")
    if version > RESULTS_VERSION:
        raise Corrupt(f"was written by a newer cifar-deploy (version {version}, not {RESULTS_VERSION})")
    if version < RESULTS_VERSION:
        raise Corrupt("is of an earlier version; run `cifar-deploy evaluate` again")
    record = sealing.opened(sealed)
    del record["version"]
    return from_json(Block, record)


def grouped(blocks: Iterable[Block]) -> list[Result]:
    """Blocks of the same job, session and role as one result, by round; of two of the same round the newer one."""
    found: dict[tuple[str, Session | None, bool], dict[int, Block]] = {}
    for block in blocks:
        identity = (block.job.key, block.session, block.control)
        rounds = found.pop(identity, {})  # so that the order is that of the newest block
        found[identity] = {**rounds, block.round: block}
    return [
        Result(job=rounds[max(rounds)].job, blocks=tuple(rounds[index] for index in sorted(rounds)))
        for rounds in found.values()
    ]


def raw_path(reports: Path, name: str) -> Path:
    """Where the samples or predictions of this name lie, which has to be a plain one."""
    return untrusted.inside(reports / "raw", f"{name}.npz")


def read_raw(reports: Path, reading: Reading) -> Mapping[str, NDArray[Any]]:
    """The samples or predictions behind a reading. Raises Corrupt if they are gone or damaged."""
    path = raw_path(reports, str(reading.raw))
    if not path.exists():
        raise Corrupt(f"{path}: samples are gone; measure again (--force)")
    try:
        if reading.raw_sha256 and untrusted.sha256(path) != reading.raw_sha256:
            raise Corrupt(f"{path}: samples are damaged (sha256 differs); measure again (--force)")
        return arrays.read_npz(path, _LARGEST_SAMPLES, "measure again (--force)")
    except OSError as error:
        raise Corrupt(f"{path}: samples cannot be read ({error.strerror}); measure again (--force)") from error


class Samples:
    """Reads what is behind the readings of a reports folder, each file once, and knows afterwards what it could not read."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._read: dict[str, Mapping[str, NDArray[Any]]] = {}
        self._lost: dict[str, str] = {}

    def __call__(self, reading: Reading) -> Mapping[str, NDArray[Any]]:
        """Raises Corrupt."""
        name = str(reading.raw)
        if name in self._lost:
            raise Corrupt(self._lost[name])
        if name not in self._read:
            try:
                self._read[name] = read_raw(self._reports, reading)
            except Corrupt as error:
                self._lost[name] = str(error)
                raise
        return self._read[name]

    def told(self) -> list[str]:
        """What could not be read, a text for each reason."""
        folder = self._reports / "raw"
        files_lost = {f"{name}.npz": why.removeprefix(f"{folder / name}.npz: ") for name, why in self._lost.items()}
        return [f"{those} in {folder}: {reason}" for reason, those, _ in _by_reason(files_lost)]


def _mend_end(file: BinaryIO) -> None:
    """Cut off a line that a crash has torn; one that only lacks its newline gets that."""
    file.seek(0)
    content = file.read()
    if content and not content.endswith(b"\n"):
        start = content.rfind(b"\n") + 1
        try:
            sealing.opened(sealing.parsed(content[start:]))
        except Corrupt:
            file.truncate(start)
        else:
            file.write(b"\n")


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


def verified(path: Path, record: File, copy: Path | None = None) -> Path:
    """`path`, if the file there, or its `copy`, has the size and the hash of its record; else Corrupt."""
    read = copy or path
    if not read.exists():
        raise Corrupt(f"{path}: is missing; train or export again (--force)")
    if read.stat().st_size != record.bytes or untrusted.sha256(read) != record.sha256:
        raise Corrupt(f"{path}: is not the file its record describes (sha256 differs); train or export again (--force)")
    return path

"""Where everything lies below one output folder, and the only code that writes there.

    exported/<name>/checkpoint/   weights.safetensors, checkpoint.json, metrics.jsonl (a line an epoch)
    exported/<name>/<format>/     the artifact's files, artifact.json
    training/<name>/              state of a training that is not finished
    reports/results.jsonl         a line a block, appended as it ends
    reports/raw/                  the samples and predictions behind the lines
    log.txt                       tracebacks and what workers printed
    .lock                         held by the one process that writes

A JSON record is written after the files that it describes, so a reader who finds it finds them too, and knows their
hashes.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import files, isolate, machine
from cifar_deploy.core.errors import Busy, Corrupt, Unwritable, UsageError
from cifar_deploy.core.records import (
    Artifact,
    Begun,
    Block,
    Checkpoint,
    Data,
    File,
    Result,
    Session,
    Training,
    from_json,
    to_json,
)

# Rises when a line of results.jsonl changes its meaning; readers skip, with a warning, what is newer than they are.
RESULTS_VERSION = 2

CHECKPOINT = "checkpoint"  # the format that training itself writes
WEIGHTS = "weights.safetensors"

_SIGNED = re.compile(r"process (\d+) on ([\w.-]+), ([\dT:+-]+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """`name`, if it can name a folder everywhere; else UsageError."""
    if not _NAME.fullmatch(name) or files.is_leftover(name):
        raise UsageError(f"{name}: cannot name a training; use letters, digits, '.', '_' and '-' (see --name)")
    return name


def floor_name(data: Data) -> str:
    """Under what the network that does next to nothing is kept, for images of this data set. No training has such a name."""
    return f"_floor-{data.fingerprint[:12]}"


def is_floor(name: str) -> bool:
    return name.startswith("_floor-")


class Lock:
    """An exclusive lock on a file, gone when its last holder is: this process and the workers that inherit it.

    The file says who holds it. It is written to as the very file that it is: no link leads it elsewhere.
    """

    def __init__(self, path: Path, busy: str | None) -> None:
        """Waits for the lock if `busy` is None, else raises Busy with that message, and the holder in it, if it is held."""
        self._path = path
        self._busy = busy

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if self._busy else 0))
        except BlockingIOError:
            what, separator, remedy = str(self._busy).rpartition("; ")
            busy = Busy(f"{what}{self._holder()}{separator}{remedy}")
            os.close(self._descriptor)
            raise busy from None
        self._sign()
        isolate.INHERITED.add(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        isolate.INHERITED.discard(self._descriptor)
        os.close(self._descriptor)

    def _sign(self) -> None:
        signature = f"process {os.getpid()} on {platform.node()}, {machine.now()}\n"
        status = os.fstat(self._descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, and its holder is not known
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, signature.encode(), 0)

    def _holder(self) -> str:
        """Who holds the lock, as far as the file says."""
        with contextlib.suppress(OSError):
            text = os.pread(self._descriptor, 300, 0).decode(errors="replace").strip()
            if signed := _SIGNED.fullmatch(text):
                return f" (process {signed[1]} on {signed[2]}, since {signed[3]})"
        return ""


class Store:
    """One output folder. Reading is free; writing belongs inside `with Store(root) as store:`, which locks it."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root).absolute()
        self.exported = self.root / "exported"
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
        for folder in (self.exported, self.reports, self.training):
            files.sweep(folder)
        files.sweep_scratch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__()

    # Checkpoints

    def names(self) -> list[str]:
        """The trainings that are finished."""
        found = (path.parents[1].name for path in self.exported.glob("*/checkpoint/checkpoint.json"))
        return sorted(name for name in found if not is_floor(name))

    def checkpoint_folder(self, name: str) -> Path:
        return self.exported / name / CHECKPOINT

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The record of a finished training, or None. Its weights are not touched: see `verified`."""
        path = self.checkpoint_folder(name) / "checkpoint.json"
        return from_json(Checkpoint, files.read_json(path)) if path.exists() else None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Commit a training whose weights have been written into its folder."""
        files.write_json(self.checkpoint_folder(checkpoint.training.name) / "checkpoint.json", to_json(checkpoint))

    # A training that is not finished

    def training_folder(self, name: str) -> Path:
        return self.training / name

    def begin(self, training: Training) -> None:
        """Record what is being trained, and the finished network of that name that it will replace, if there is one."""
        finished = self.checkpoint(training.name)
        begun = Begun(training=training, replaces=finished.finished if finished else None)
        files.write_json(self.training_folder(training.name) / "training.json", to_json(begun))

    def unfinished(self, name: str) -> Training | None:
        """What was begun and can go on. None if no state of it was saved yet, or if it is finished and a state was left."""
        path = self.training_folder(name) / "training.json"
        if not path.exists() or not any(path.parent.glob("state.*")):
            return None
        begun, finished = from_json(Begun, files.read_json(path)), self.checkpoint(name)
        return begun.training if begun.replaces == (finished.finished if finished else None) else None

    # Artifacts

    def artifact_folder(self, name: str, format: str) -> Path:
        return self.exported / name / format.replace(":", ".")

    def artifact(self, name: str, format: str) -> Artifact | None:
        """An export's record, or None. The record of the checkpoint itself comes from the checkpoint."""
        if format == CHECKPOINT:
            checkpoint = self.checkpoint(name)
            return as_artifact(checkpoint) if checkpoint else None
        path = self.artifact_folder(name, format) / "artifact.json"
        return from_json(Artifact, files.read_json(path)) if path.exists() else None

    def artifacts(self, name: str) -> Iterator[Artifact]:
        """The checkpoint first, then every export."""
        if checkpoint := self.checkpoint(name):
            yield as_artifact(checkpoint)
        for path in sorted((self.exported / name).glob("*/artifact.json")):
            yield from_json(Artifact, files.read_json(path))

    def save_artifact(self, artifact: Artifact, staged: Path | None) -> None:
        """Commit an export: its files move from the folder `staged` to their place, the record follows them."""
        folder = self.artifact_folder(artifact.name, artifact.format)
        folder.mkdir(parents=True, exist_ok=True)
        for file in artifact.files:
            assert staged is not None
            os.replace(staged / file.name, folder / file.name)
        files.sync_folder(folder)
        files.write_json(folder / "artifact.json", to_json(artifact))
        for stale in folder.iterdir():
            if stale.name not in {"artifact.json", *(file.name for file in artifact.files)} and stale.is_file():
                stale.unlink()

    def verified(self, artifact: Artifact) -> list[Path]:
        """The artifact's files, each of the size and hash that its record says; else Corrupt. No parser has seen them."""
        folder = self.artifact_folder(artifact.name, artifact.format)
        return [verified(folder / file.name, file) for file in artifact.files]

    # Results

    @property
    def results_path(self) -> Path:
        return self.reports / "results.jsonl"

    def raw_path(self, result_name: str) -> Path:
        return self.reports / "raw" / f"{result_name}.npz"

    def append(self, block: Block) -> None:
        """Add a line to results.jsonl and sync it. A line torn by an earlier crash is cut off first."""
        line = json.dumps({"version": RESULTS_VERSION, **to_json(block)}, ensure_ascii=False) + "\n"
        self.reports.mkdir(parents=True, exist_ok=True)
        with files.naming(self.results_path), open(self.results_path, "a+b") as file:
            file.truncate(_end_of_last_line(self.results_path))
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def blocks(self) -> list[Block]:
        """Every block that can be read, oldest first; a warning names each line that cannot."""
        return read_blocks(self.results_path) if self.results_path.exists() else []

    def results(self) -> list[Result]:
        """The blocks, together as they belong: those of a job in a session. Oldest first, by their newest block."""
        return grouped(self.blocks())


def read_blocks(path: Path) -> list[Block]:
    """The blocks of a results.jsonl, as far as it can be read: a warning names each line that cannot."""
    found, earlier = [], 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            version = record.pop("version")
            if version > RESULTS_VERSION:
                raise Corrupt(f"was written by a newer cifar-deploy (version {version}, not {RESULTS_VERSION})")
            if version < RESULTS_VERSION:
                earlier += 1
                continue
            found.append(from_json(Block, record))
        except (ValueError, AttributeError, KeyError, TypeError, Corrupt) as error:
            warnings.warn(f"{path}: line {number} is left out: {error}")
    if earlier:
        warnings.warn(f"{path}: {earlier} lines of an earlier version are left out; run `cifar-deploy evaluate` again")
    return found


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


def read_raw(path: Path) -> Mapping[str, NDArray[Any]]:
    """The samples or predictions behind a reading. Raises Corrupt if they are gone or damaged."""
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Corrupt(f"{path}: samples cannot be read ({error}); measure again (--again)") from error


def _end_of_last_line(path: Path) -> int:
    content = path.read_bytes()
    return content.rfind(b"\n") + 1


def as_artifact(checkpoint: Checkpoint) -> Artifact:
    """A checkpoint as the artifact of format `checkpoint`, which the network itself runs from."""
    return Artifact(
        checkpoint=checkpoint,
        format=CHECKPOINT,
        files=(checkpoint.weights,),
        parity=(),
        failure=None,
        versions=checkpoint.versions,
        seconds=0.0,
        commit=checkpoint.commit,
        finished=checkpoint.finished,
    )


def described(path: Path) -> File:
    return File(name=path.name, bytes=path.stat().st_size, sha256=files.sha256(path))


def verified(path: Path, record: File) -> Path:
    """`path`, if the file there has the size and the hash of its record; else Corrupt."""
    if not path.exists():
        raise Corrupt(f"{path}: is missing; train or export again (--again)")
    if path.stat().st_size != record.bytes or files.sha256(path) != record.sha256:
        raise Corrupt(f"{path}: is not the file its record describes (sha256 differs); train or export again (--again)")
    return path

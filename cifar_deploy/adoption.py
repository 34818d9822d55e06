"""Files that were made elsewhere -> what `evaluate` measures, the parent's side. No file is read here, and none run."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import isolate, machine, untrusted
from cifar_deploy.core.codec import to_json
from cifar_deploy.core.errors import Corrupt, DeployError, UnknownName, UsageError
from cifar_deploy.core.outcome import failure_of
from cifar_deploy.core.progress import OnProgress, Progress
from cifar_deploy.core.records import Artifact, Data, Failure, File, Tensor
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.stages import adopt as adopt_stage
from cifar_deploy.stages import export as export_stage
from cifar_deploy.stages import plan as plan_stage
from cifar_deploy.stages.adopt import Look, Shape
from cifar_deploy.stages.plan import Conditions, Planned

# What can be said of a file without knowing what its answers should be.
METRICS = ("latency", "memory", "file_size")


def adopt(
    paths: Sequence[Path],
    *,
    backends: Sequence[str] | None = None,
    shapes: Iterable[Shape] = (),
    conditions: Conditions = Conditions(),
    trusted: bool = False,
    timeout_s: float = isolate.TIMEOUT_S,
    on_progress: OnProgress | None = None,
) -> list[Planned]:
    """What `evaluate` will measure of files that were made elsewhere: each on every backend that opens it.

    Give `floors=False` to `evaluate`, and a store that holds nothing else. A file that cannot be loaded is planned with
    its failure. Raises UsageError for what no backend opens, and for an input whose shape has to be given or is wrong.
    """
    pairs = _pairs(paths, backends)
    given = {shape.name: shape for shape in shapes}
    names: set[str] = set()
    artifacts: list[tuple[Artifact, str]] = []
    for done, (path, backend) in enumerate(pairs):
        if on_progress:
            on_progress(Progress(done=done, total=len(pairs), message=f"opening {path} on {backend}"))
        try:
            found = isolate.call(
                "cifar_deploy.stages.adopt:look",
                Look,
                timeout_s=timeout_s,
                started_with=interpreter_for(BACKENDS[backend].requires, BACKENDS[backend].environment),
                path=path,
                backend=backend,
                trusted=trusted,
            )
            if found.inputs is None:
                continue
            names.update(input.name for input in found.inputs)
            takes = adopt_stage.taken(path, found.inputs, given)
            artifacts.append((_artifact(path, found.files, takes), backend))
        except UsageError:
            raise
        except DeployError as error:
            artifacts.append((_artifact(path, (), (), failure_of(error)), backend))
    for path in paths:
        if all(artifact.name != str(path) for artifact, _ in artifacts):
            asked = ", ".join(backend for other, backend in pairs if other == path)
            raise UsageError(f"{path}: is not of the kind of {path.suffix} that {asked} opens; leave out --backend")
    if names and (unknown := [name for name in given if name not in names]):
        raise UnknownName.among("input (--shape)", unknown[0], sorted(names))
    return [
        plan_stage.planned(artifact, backend, "cpu", metric, conditions)
        for artifact, backend in artifacts
        for metric in METRICS
    ]


def _pairs(paths: Sequence[Path], backends: Sequence[str] | None) -> list[tuple[Path, str]]:
    """Each file with the backends that open it. Raises UsageError if there is none, or the file is none."""
    wanted = [BACKENDS.given(name) for name in backends or BACKENDS]
    openers = {name: opens.suffixes for name in wanted if (opens := BACKENDS[name].opens)}
    if closed := [name for name in backends or () if name not in openers]:
        raise UsageError(f"--backend: {closed[0]} opens no file that was made elsewhere; leave it out")
    seen: dict[Path, Path] = {}
    found = []
    for path in paths:
        _check(path)
        if (before := seen.setdefault(path.resolve(), path)) is not path:
            raise UsageError(f"{path}: is {before} again; give each file once")
        readers = [name for name, suffixes in openers.items() if path.suffix.lower() in suffixes]
        if not readers:
            opened = sorted({suffix for suffixes in openers.values() for suffix in suffixes})
            raise UsageError(
                f"{path}: {path.suffix or 'a file without a suffix'} is opened by none of {', '.join(openers)}; "
                f"give one of {', '.join(opened)}"
            )
        found += [(path, name) for name in readers]
    for name in backends or ():
        if name not in {backend for _, backend in found}:
            raise UsageError(f"--backend: {name} opens {', '.join(openers[name])}, and no file is such; leave it out")
    return found


def _check(path: Path) -> None:
    if not str(path).isprintable():
        raise UsageError(f"{path}: has characters in its name that cannot be shown; rename it")
    untrusted.check_named(path, "give a model file")
    if path.is_dir():
        raise UsageError(f"{path}: is no file; give the model file itself")
    try:
        untrusted.open_regular(path).close()
    except OSError as error:
        raise Corrupt(f"{path}: cannot be read ({error.strerror}); change that, or give another") from error


def _artifact(
    path: Path, found: tuple[File, ...], takes: tuple[Tensor, ...], failure: Failure | None = None
) -> Artifact:
    """The file as if it had been exported, of a network that nobody has trained, on data that are random arrays."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    data = Data(
        dataset="random",
        source="random arrays",
        fingerprint=hashlib.sha256(json.dumps(to_json(takes)).encode()).hexdigest(),
        classes=(),
        train_images=0,
        test_images=0,
        height=0,
        width=0,
        mean=(),
        deviation=(),
    )
    return Artifact(
        checkpoint=export_stage.untrained(str(path), str(path), data, File(name="", bytes=0, sha256=""), written),
        format="",
        files=found,
        parity=(),
        failure=failure,
        versions={},
        seconds=0.0,
        commit=machine.commit(),
        finished=written,
        takes=takes,
    )

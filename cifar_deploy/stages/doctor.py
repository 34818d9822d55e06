"""What can be chosen here, and what is in the way of the rest."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import untrusted
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.store import Store
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.stages import results as results_stage
from cifar_deploy.workers import catalogue as worker
from cifar_deploy.workers.catalogue import Entry


def catalogue() -> list[Entry]:
    """Every plugin there is, and what it lacks here."""
    return Worker(what="list of plugins").call(worker.catalogue)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What can be used here, of how many formats, runtimes and devices."""

    formats: tuple[str, ...]
    backends: tuple[str, ...]
    devices: tuple[str, ...]
    of_formats: int
    of_backends: int
    of_devices: int

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """What a catalogue says."""
        here: dict[str, list[str]] = {registry.kind: [] for registry in (FORMATS, BACKENDS, DEVICES)}
        for entry in entries:
            if entry.kind in here and not entry.why_unavailable:
                here[entry.kind].append(entry.name)
        return cls(
            formats=tuple(here[FORMATS.kind]),
            backends=tuple(here[BACKENDS.kind]),
            devices=tuple(here[DEVICES.kind]),
            of_formats=len(FORMATS),
            of_backends=len(BACKENDS),
            of_devices=len(DEVICES),
        )

    def __str__(self) -> str:
        some = f"{len(self.formats)} formats × {len(self.backends)} runtimes ready on {', '.join(self.devices)}"
        is_all = (len(self.formats), len(self.backends)) == (self.of_formats, self.of_backends)
        return some if is_all else f"{some}, of {self.of_formats} × {self.of_backends}"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that cannot be done here: why, of what, and the command that mends it or tries it again, if one can."""

    reason: str
    names: tuple[str, ...]
    command: str | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is ready here, and what is not."""

    ready: Ready
    gaps: tuple[Gap, ...]


def diagnose(store: Store) -> Diagnosis:
    """What stands in the way, by its reason: of the plugins that lack something here, and of the store's exports and configurations.

    Raises UsageError if the store's folder does not exist.
    """
    untrusted.check_named(store.root, "give another, or leave it out", "--out")
    found: dict[str, _Found] = {}

    def of(reason: str) -> _Found:
        return found.setdefault(reason, _Found())

    entries = catalogue()
    for entry in entries:
        # An environment is in nobody's way but that of the plugins that need it, and they say so.
        if entry.why_unavailable and entry.kind != ENVIRONMENTS.kind:
            of(entry.why_unavailable).add(f"{entry.kind} {entry.name}", entry.command)
    for name in store.names():
        for artifact in store.artifacts(name):
            if failure := artifact.failure:
                what = f"export of {name} to {artifact.variant}"
                of(f"{failure.kind}: {failure.reason}").again(what, "export", name, {"--format": artifact.variant})
    lines = store.lines(results_stage.fault)
    for told in lines.told():
        of(told).add(f"results in {store.results_path}", None)
    newest = {(Configuration.of(r), r.job.metric): r for r in grouped(lines.runs) if r.job.is_ordinary}
    for (configuration, metric), result in newest.items():
        if failure := result.failure:
            job = result.job
            options = {
                "--format": job.artifact.variant,
                "--backend": job.backend,
                "--device": job.device,
                "--metric": metric,
            }
            what = f"{metric} of {configuration}"
            of(f"{failure.kind}: {failure.reason}").again(what, "evaluate", job.artifact.name, options)
    gaps = (
        Gap(reason=reason, names=tuple(those.names), command=those.command(store.root))
        for reason, those in found.items()
    )
    return Diagnosis(ready=Ready.of(entries), gaps=tuple(gaps))


class _Found:
    """Those that share a reason. The first of them says which command helps: what comes later in the pipeline follows."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._mends: str | None = None
        self._verb = ""
        self._words: dict[str, list[str]] = {}  # of the command that tries it again, by option; "" for names

    def add(self, what: str, command: str | None) -> None:
        """`command` mends it."""
        if not self.names:
            self._mends = command
        self._add_name(what)

    def again(self, what: str, verb: str, name: str, options: Mapping[str, str]) -> None:
        """The command `verb` tries it again, with what is to be tried."""
        if not self.names:
            self._verb = verb
        self._add_name(what)
        if self._verb == verb:
            for option, value in {"": name, **options}.items():
                values = self._words.setdefault(option, [])
                if value not in values:
                    values.append(value)

    def _add_name(self, what: str) -> None:
        if what not in self.names:
            self.names.append(what)

    def command(self, root: Path) -> str | None:
        if not self._verb:
            return self._mends
        words = ["cifar-deploy", self._verb]
        for option, values in self._words.items():
            for value in values:
                words += [option, value] if option else [value]
        return shlex.join([*words, *(["--out", str(root)] if root.resolve() != Path.cwd() else [])])

"""A pack, measured on devices by ssh: each in a thread of its own, its results taken home as they end.

What goes wrong on one device is its outcome, and keeps no other from going on.
"""

import contextlib
import dataclasses
import logging
import queue
import threading
import time
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_deploy.core import cache, packs, untrusted
from cifar_deploy.core.errors import DeployError, Unavailable, UsageError, one_line
from cifar_deploy.core.journal import read_lines
from cifar_deploy.core.locks import Lock
from cifar_deploy.core.packs import Content
from cifar_deploy.core.progress import Progress, counted, duration
from cifar_deploy.core.store import Store
from cifar_deploy.remote import wheels
from cifar_deploy.remote.inventory import Device
from cifar_deploy.remote.landing import Landing
from cifar_deploy.remote.session import Found, Place, Session
from cifar_deploy.remote.wheels import Wheel
from cifar_deploy.stages import importing

log = logging.getLogger(__name__)

_CLOCK_S = 24 * 3600.0  # this far apart, the device's clock is wrong

# Of a device, on the screen.
_MOST_LINES = 1000

# A download that nobody waits for any more may take longer.
_PATIENCE_S = 10.0

# Below the device's folder: see there.py.
_UNPACKED = "packs"


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """How to measure on devices, unless a device's own table says otherwise."""

    send: bool = True  # packages that a device lacks
    keep: bool = False  # there, for the next time, what was sent
    force: bool = False
    python: str | None = None
    arguments: tuple[str, ...] = ()  # more, for the pack


@dataclass(frozen=True, kw_only=True)
class Visited:
    """What came of one device."""

    device: Device
    failure: str | None = None
    python: str | None = None  # that measured
    packages: Mapping[str, str] = field(default_factory=dict)  # the versions that were there
    wheels: tuple[str, ...] = ()  # that it was sent, or had from an earlier time
    sent_bytes: int = 0
    runs: int = 0  # measured now
    appended: int = 0  # to the results at home
    refused: Mapping[str, int] = field(default_factory=dict)  # by reason
    notes: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    seconds: float = 0.0  # all in all
    first_s: float | None = None  # until the first result was home
    last_s: float | None = None  # until the last one was
    measuring_s: float = 0.0  # of these, in the runs themselves


# Hears the name of the device.
OnProgress = Callable[[str, Progress], None]


def measure_on(
    store: Store,
    pack: Path,
    devices: Sequence[Device],
    settings: DeviceSettings,
    on_progress: OnProgress | None = None,
) -> Generator[Visited]:
    """Run the pack on each device, all at the same time, and add what they measure to the store: each outcome as it comes.

    Raises Corrupt if the file is no pack, or was altered.
    """
    content = packs.read(pack)
    told: queue.Queue[tuple[str, Any]] = queue.Queue()
    visits = [_Visit(device, pack, content, settings, told) for device in devices]
    threads = [threading.Thread(target=visit.go, daemon=True) for visit in visits]
    try:
        for thread in threads:
            thread.start()
        going = len(visits)
        while going:
            name, what = told.get()
            if isinstance(what, Progress):
                if on_progress:
                    on_progress(name, what)
            else:
                going -= 1
                yield what.brought_home(store)
    finally:
        for visit in visits:
            visit.end()
        for thread in threads:
            thread.join(_PATIENCE_S)
        for visit in visits:  # of an interrupted command: what has landed is not lost
            visit.brought_home(store)


def check_ready(pack: Path, making: Sequence[str]) -> None:
    """Raises UsageError for a pack that is not there, or together with options of making one."""
    untrusted.check_named(pack, "write one with `cifar-deploy pack`", "--pack")
    if making:
        raise UsageError(f"--pack: holds its own {making[0]}; give that to `cifar-deploy pack`")


class _Visit:
    """One device: what is done there, in order."""

    def __init__(
        self,
        device: Device,
        pack: Path,
        content: Content,
        settings: DeviceSettings,
        told: "queue.Queue[tuple[str, Any]]",
    ) -> None:
        self._device = device
        self._pack = pack
        self._content = content
        self._settings = settings
        self._told = told
        self._begun = time.monotonic()
        self._lines: tuple[str, ...] = ()
        self._latest = Progress(done=0, total=1, message="connecting")
        self._landing = Landing(cache.folder() / "devices" / device.name / content.id)
        self._session: Session | None = None
        self._before = 0  # runs that were measured earlier
        self._is_over = False
        self._visited: Visited = Visited(device=device)
        self._is_ours = False  # what has landed
        self._is_home = False

    # In its thread

    def go(self) -> None:
        self._tell(self._latest)
        try:
            with self._alone():
                self._is_ours = True
                self._before = len(self._landed())
                self._visit()
        except DeployError as error:
            self._note(failure=one_line(str(error)))
        except OSError as error:
            self._note(failure=one_line(f"{error.filename or 'connection'}: {error.strerror or error}"))
        except Exception as error:
            log.exception("%s", self._device.name)
            self._note(failure=one_line(f"{type(error).__name__}: {error}; details in log.txt"))
        finally:
            with contextlib.suppress(DeployError, OSError):
                new = self._landed()[self._before :]
                self._note(runs=len(new), measuring_s=sum(new))
            self._note(seconds=self._passed(), sent_bytes=self._session.sent_bytes if self._session else 0)
            self._told.put((self._device.name, self))

    def _alone(self) -> Lock:
        """Results of one device land from one command at a time."""
        return Lock(
            self._landing.folder.parents[1] / f".{self._device.name}.lock",
            "another command here measures on it; wait, and give the same command again",
        )

    def _visit(self) -> None:
        device, settings = self._device, self._settings
        wanted = packs.names(self._content.manifest.requires)
        session = Session(device.ssh, device.python or settings.python, wanted, self._line)
        with session:
            self._session = session
            if self._is_over:
                return
            python = self._chosen(session.pythons())
            self._note(
                python=str(python), packages={name: str(found) for name, found in python.versions.items() if found}
            )
            sent = self._wheels(python)
            folder = _place(python).folder
            there = session.begin(python, folder)
            _check_space(python, sent, self._pack, there)
            for wheel in sent:
                if wheel.folder not in there:
                    self._send(session, wheel.path, wheel.place)
                    self._say(f"unpacking {wheel.path.name}")
                    session.unpack(wheel.place, wheel.folder)
            place = f"sent/{untrusted.sha256(self._pack)}.py"
            self._send(session, self._pack, place)
            ended = session.run(
                [python.python, f"{folder}/{place}", *self._arguments()],
                self._variables(folder, sent),
                self._landing,
                self._tell,
                self._on_results,
            )
            self._before = self._before if ended.before is None else ended.before
            self._note(answer=tuple(ended.answer))
            if ended.code:
                raise DeployError(ended.reason)
            if not settings.keep:
                session.remove([place, f"{_UNPACKED}/{self._content.id}", *(wheel.folder for wheel in sent)])

    def _chosen(self, pythons: Sequence[Found]) -> Found:
        """The first that has what the pack needs; else the first that can be sent it."""
        asked = self._device.python or self._settings.python
        if not pythons:
            raise Unavailable(
                f"{asked or 'python3'} is not there; install Python 3.10 or newer, or name one with --python"
            )
        usable = [python for python in pythons if python.is_new_enough]
        if not usable:
            newest = max(pythons, key=lambda python: python.version)
            raise Unavailable(f"{newest} is too old; install Python 3.10 or newer, or name one with --python")
        chosen = next((python for python in usable if not python.lacks), usable[0])
        if abs(chosen.clock - time.time()) > _CLOCK_S:
            self._line(
                f"its clock says {time.strftime('%Y-%m-%d %H:%M', time.gmtime(chosen.clock))} UTC; results are dated so"
            )
        return chosen

    def _wheels(self, python: Found) -> list[Wheel]:
        """What the device is sent for this Python. Raises Unavailable."""
        if not (lacks := python.lacks):
            return []
        runtimes = [name for name in python.versions if name != "numpy"]
        if self._settings.send:
            requires = [each for each in self._content.manifest.requires if each.partition("==")[0] in lacks]
            found = wheels.for_device(python, requires, self._say)
            self._note(wheels=tuple(wheel.path.name for wheel in found))
            return found
        if "numpy" in lacks or set(runtimes) <= set(lacks):
            raise Unavailable(f"{python} lacks {', '.join(lacks)}; install them there, or leave --no-send out")
        return []

    def _send(self, session: Session, path: Path, place: str) -> None:
        self._say(f"sending {path.name}")

        def show(done: int, total: int) -> None:
            self._tell(Progress(done=done, total=total, message=f"sending {path.name}"))

        session.send(path, place, show)

    def _arguments(self) -> list[str]:
        device, settings = self._device, self._settings
        arguments = ["--as", device.name, *settings.arguments]
        for count in device.threads:
            arguments += ["--threads", str(count)]
        for option, value in (
            ("--cpus", device.cpus),
            ("--cool-to", device.cool_to_c),
            ("--cool-wait", device.cool_wait_s and f"{device.cool_wait_s:g}s"),
        ):
            arguments += [option, str(value)] if value is not None else []
        return [*arguments, *(["--force"] if settings.force else [])]

    def _variables(self, folder: str, sent: Sequence[Wheel]) -> dict[str, str]:
        variables = {**self._device.env, "CIFAR_DEPLOY_CACHE": folder}
        path = [*(f"{folder}/{wheel.folder}" for wheel in sent), self._device.env.get("PYTHONPATH", "")]
        if any(path):
            variables["PYTHONPATH"] = ":".join(filter(None, path))
        return variables

    def _on_results(self) -> None:
        self._note(first_s=self._visited.first_s or self._passed(), last_s=self._passed())

    def _landed(self) -> list[float]:
        """The seconds of each run that has landed."""
        if not self._landing.results.exists():
            return []
        return [run.seconds for run in read_lines(self._landing.results).runs]

    def _passed(self) -> float:
        return time.monotonic() - self._begun

    def _note(self, **what: Any) -> None:
        self._visited = dataclasses.replace(self._visited, **what)

    def _say(self, message: str) -> None:
        self._tell(Progress(done=0, total=1, message=message))

    def _line(self, text: str) -> None:
        """A line worth keeping on the screen."""
        if len(self._lines) < _MOST_LINES:
            self._lines += (one_line(text, 200),)
        self._tell(self._latest)

    def _tell(self, latest: Progress) -> None:
        self._latest = dataclasses.replace(latest, milestones=self._lines)
        self._told.put((self._device.name, self._latest))

    # In the thread that owns the store

    def end(self) -> None:
        self._is_over = True
        if self._session:
            self._session.end()

    def brought_home(self, store: Store) -> Visited:
        """The outcome, once what has landed is in the store."""
        if self._is_home or not self._is_ours:
            return self._visited
        self._is_home = True
        if self._landing.results.exists():
            try:
                taken = importing.import_results(store, self._landing.folder, known=self._content.artifacts)
                self._note(appended=taken.appended, refused=taken.refused, notes=taken.notes)
            except DeployError as error:
                self._note(failure=self._visited.failure or one_line(str(error)))
        if refused := sum(self._visited.refused.values()):
            self._note(
                failure=self._visited.failure
                or f"{counted(refused, 'result')} refused here, and left in {self._landing.folder}"
            )
        if self._visited.failure is None:
            if not self._landing.results.exists():
                self._note(failure="it has sent no results; see what it said")
            self._landing.remove()
        return self._visited


def _place(python: Found) -> Place:
    """Where what is sent lies on the device. Raises Unavailable."""
    for place in python.places:
        if not place.fault:
            return place
    raise Unavailable(
        "; ".join(f"{place.folder} {place.fault}" for place in python.places) or "no folder takes files there"
    )


def _check_space(python: Found, sent: Sequence[Wheel], pack: Path, there: frozenset[str]) -> None:
    """Raises Unavailable if what is sent, and what is unpacked from it, does not fit."""
    needed = sum(_unpacked_bytes(wheel.path) for wheel in sent if wheel.folder not in there) + 3 * pack.stat().st_size
    place = _place(python)
    if needed > place.free_bytes:
        raise Unavailable(
            f"{place.folder}: {place.free_bytes / 1e6:,.0f} MB are free there, and {needed / 1e6:,.0f} MB are needed; make room, or "
            "set CIFAR_DEPLOY_CACHE there to a larger place"
        )


def _unpacked_bytes(wheel: Path) -> int:
    """Beside the wheel itself, which is deleted then."""
    with zipfile.ZipFile(wheel) as packed:
        return wheel.stat().st_size + sum(member.file_size for member in packed.infolist())


def arguments(cool_to_c: float | None, cool_wait_s: float) -> tuple[str, ...]:
    """Of a pack: what it does not hold itself."""
    cool_to = ("--cool-to", f"{cool_to_c:g}") if cool_to_c is not None else ()
    return (*cool_to, "--cool-wait", f"{cool_wait_s:g}s")


def told(visited: Visited) -> Iterator[str]:
    """For people: what came of it, and what there is to say of its results."""
    yield _summary(visited)
    yield from visited.notes
    for reason, count in visited.refused.items():
        yield f"{counted(count, 'result')} refused: {reason}"


def _summary(visited: Visited) -> str:
    """What came of it, and where the time went."""
    if visited.failure:
        return f"failed: {visited.failure}"
    if not visited.runs:
        return f"nothing new to measure, {_sent(visited)}"
    other = max(0.0, visited.seconds - visited.measuring_s)
    return (
        f"{visited.runs} runs in {duration(visited.measuring_s)} of measuring and {duration(other)} besides, "
        f"{_sent(visited)}"
    )


def _sent(visited: Visited) -> str:
    return (
        f"{visited.sent_bytes / 1e6:.1f} MB sent"
        if visited.sent_bytes >= 1e5
        else f"{visited.sent_bytes / 1e3:.1f} kB sent"
    )

"""Home's half of a session with a device: one connection, over which `there` and then `home` answer."""

import base64
import collections
import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cifar_deploy.core import frames, untrusted
from cifar_deploy.core.errors import Busy, DeployError, one_line, printable
from cifar_deploy.core.frames import Frame
from cifar_deploy.core.progress import Progress
from cifar_deploy.remote.landing import Landing
from cifar_deploy.remote.transport import Transport

# What `python3` may be called, the best first.
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 9, -1)))
_OLDEST = (3, 10)

_PROGRAM = Path(__file__).parent / "there.py"

# A beat every so often; six missed ones, and the other side is taken for gone.
HEARTBEAT_VARIABLE = "CIFAR_DEPLOY_HEARTBEAT"
_HEARTBEAT_S = 10.0
_MISSED = 6

_KEPT_LINES = 50

# The end of the year 9999: what a clock can say.
_LATEST = 253402300799.0
_PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder of a device: how much fits there, and why nothing can lie there, if so."""

    folder: str
    free_bytes: int
    fault: str

    @classmethod
    def of(cls, frame: Frame) -> "Place":
        return cls(folder=frame.get("place", str), free_bytes=frame.get("free", int), fault=frame.get("fault", str))


@dataclass(frozen=True, kw_only=True)
class Found:
    """A Python of a device, and what it says of itself and of the machine."""

    python: str
    version: tuple[int, ...]
    implementation: str
    free_threaded: bool
    bits: int
    system: str
    machine: str
    libc: str
    clock: float
    versions: Mapping[str, str | None]  # of the packages that are asked for
    places: Sequence["Place"]  # for what it is sent, as far as it had to look

    @classmethod
    def of(cls, frame: Frame) -> "Found":
        texts = {name: frame.get(name, str) for name in ("python", "implementation", "system", "machine", "libc")}
        return cls(
            **texts,
            version=tuple(number for number in frame.get("version", list)[:3] if type(number) is int),
            free_threaded=frame.get("free_threaded", bool),
            bits=frame.get("bits", int),
            clock=min(max(frame.get("clock", float), 0.0), _LATEST),
            versions=frame.get("versions", dict),
            places=[Place.of(Frame("folder", each)) for each in frame.get("folders", list) if isinstance(each, dict)],
        )

    @property
    def is_new_enough(self) -> bool:
        return self.version >= _OLDEST

    @property
    def lacks(self) -> list[str]:
        """Of the packages that were asked for."""
        return [name for name, version in self.versions.items() if not version]

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.python})"


class Session:
    """A connection to a device; at the end of the block it is closed, and what runs there ends."""

    def __init__(
        self,
        transport: Transport,
        python: str | None,
        packages: Iterable[str],
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`on_line` hears what the device and the transport print on stderr."""
        self._transport = transport
        self._python = python
        self._packages = tuple(packages)
        self._on_line = on_line
        self._said: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._heartbeat_s = float(os.environ.get(HEARTBEAT_VARIABLE) or _HEARTBEAT_S)
        self._silence_s = self._heartbeat_s * _MISSED
        self._beating = threading.Event()
        self._heard = time.monotonic()
        self._is_silent = False
        self._process: subprocess.Popen[bytes] | None = None
        self.sent_bytes = 0

    def __enter__(self) -> "Session":
        self._process = process = self._transport.start(_command(self._python, self._packages))
        assert process.stdin and process.stdout and process.stderr
        self._stdin = process.stdin.fileno()
        self._frames = frames.read(process.stdout.fileno())
        self._listening = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listening.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beating.set()
        self._close()

    def end(self) -> None:
        """From another thread: the connection ends, and with it whatever waits for an answer."""
        self._beating.set()
        if self._process:
            _kill(self._process)

    # What is asked of the device, in this order

    def pythons(self) -> list[Found]:
        """Every Python that it has under one of the usual names, or the one that was asked for."""
        found: dict[str, Found] = {}
        while (frame := self._next("python", "probed")).kind == "python":
            one = Found.of(frame)
            found.setdefault(one.python, one)
        return list(found.values())

    def begin(self, python: Found, folder: str) -> frozenset[str]:
        """Let this Python take requests, in a folder that no other session works in: what is there of sent/, site/ and packs/.

        Raises Busy.
        """
        for word in (python.python, folder, f"{self._silence_s:g}"):
            self._write(f"{word}\n".encode())
        if (frame := self._next("ready", "busy")).kind == "busy":
            raise Busy(
                f"another run is at work there ({one_line(frame.get('holder', str), 120)}); give the same command again later"
            )
        return frozenset(map(str, frame.get("there", list)))

    def send(self, path: Path, place: str, on_progress: Callable[[int, int], None]) -> None:
        """Let a file be at this place; what is there already of this sha256 is not sent again."""
        size = path.stat().st_size
        self._ask(do="receive", place=place, sha256=untrusted.sha256(path), bytes=size)
        with open(path, "rb") as file:
            there = self._next("has").get("bytes", int)
            if there == size:
                self._next_done()
                return
            file.seek(there)
            while part := file.read(frames.PART_BYTES):
                self._write(part)
                on_progress(file.tell(), size)
        self._next_done()

    def unpack(self, place: str, to: str) -> None:
        self._ask(do="unpack", place=place, to=to)
        self._next_done()

    def remove(self, places: Sequence[str]) -> None:
        self._ask(do="remove", places=list(places))
        self._next_done()

    def run(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        landing: Landing,
        on_progress: Callable[[Progress], None],
        on_results: Callable[[], None],
    ) -> "Ended":
        """Run a pack until it ends. Its results land as they come."""
        self._ask(do="run", arguments=[*arguments, "--frames", f"{self._silence_s:g}s"], variables=dict(variables))
        self._write(frames.line("hello", **landing.has()))
        self._heard = time.monotonic()
        threading.Thread(target=self._beat, daemon=True).start()
        ended = Ended()
        milestones: tuple[str, ...] = ()
        latest = Progress(done=0, total=1)
        while (frame := self._next()).kind != "ended":
            if frame.kind in ("part", "whole"):
                if landing.take(frame):
                    on_results()
            elif frame.kind == "progress":
                latest = Progress(
                    done=frame.get("done", int),
                    total=max(1, frame.get("total", int)),
                    message=one_line(frame.get("message", str), 200),
                    milestones=milestones,
                )
                on_progress(latest)
            elif frame.kind == "hello":
                ended.before = frame.get("runs", int)
            elif frame.kind == "note":
                self._on_line(frame.get("text", str))
            elif frame.kind == "answer":
                ended.answer = [printable(str(line)[:300]) for line in frame.get("lines", list)[:200]]
            elif frame.kind == "error":
                ended.reason = one_line(frame.get("reason", str))
        self._beating.set()
        ended.code = frame.get("code", int)
        if ended.code and not ended.reason:
            told = [line for line in self._said if line.startswith("bench.py: ")]
            ended.reason = one_line(
                (told or [f"bench.py: it left with exit code {ended.code}"])[-1]
                .removeprefix("bench.py: ")
                .removeprefix("error: ")
            )
        return ended

    # The connection

    def _next(self, *kinds: str) -> Frame:
        """The next frame of these kinds, or of any. Raises DeployError for what could not be done, or a lost connection."""
        for frame in self._frames:
            self._heard = time.monotonic()
            if frame.kind == "failed":
                raise DeployError(one_line(frame.get("reason", str)))
            if not kinds or frame.kind in kinds:
                return frame
        raise self._lost()

    def _next_done(self) -> None:
        self._next("done")

    def _ask(self, **request: Any) -> None:
        self._write(json.dumps(request).encode() + b"\n")

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                written = os.write(self._stdin, view)
                self.sent_bytes += written
                view = view[written:]
        except OSError:
            self._next("failed")  # its reason, or that of the lost connection
            raise

    def _beat(self) -> None:
        while not self._beating.wait(self._heartbeat_s):
            if time.monotonic() - self._heard > self._silence_s:
                self._is_silent = True
                self.end()
                return
            with contextlib.suppress(OSError):
                os.write(self._stdin, frames.line("beat"))

    def _listen(self, stderr: Iterable[bytes]) -> None:
        for line in stderr:
            text = line.decode(errors="replace").strip()
            if text:
                self._said.append(text)
                self._on_line(text)

    def _lost(self) -> DeployError:
        """Why nothing more comes."""
        code = self._close()
        if self._is_silent:
            return DeployError(f"it said nothing for {self._silence_s:g} s; see whether it still runs")
        said = one_line(self._said[-1]) if self._said else ""
        if self._transport.fault(code):
            return DeployError(said or "the connection failed")
        return DeployError(f"the connection ended (exit code {code})" + (f": {said}" if said else ""))

    def _close(self) -> int:
        process = self._process
        assert process and process.stdin
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            code = process.wait()
        self._listening.join(0.5)  # a master that the user's ssh keeps may hold stderr
        return code


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what it has started: a jump host's connection is a process of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Ended:
    """How a pack ended."""

    code: int = 0
    before: int | None = None  # runs that were there already
    reason: str = ""
    answer: Sequence[str] = ()


def _command(python: str | None, packages: Iterable[str]) -> str:
    """For the user's shell there, whichever it is: words in quotes, and no line breaks.

    sh asks each Python what it is, waits for the name of one, and becomes that.
    """
    quiet = "" if python else " 2>/dev/null"  # of a name that leads nowhere, nobody wants to hear
    script = (
        'program=$1 packages=$2 mark=$3; shift 3; for each in "$@"; do each=$(command -v "$each") && '
        '"$each" -c "$program" probe $packages </dev/null' + quiet + '; done; printf "\\036%s\\n" "$mark"; '
        "IFS= read -r python && IFS= read -r folder && IFS= read -r silence && "
        'exec "$python" -c "$program" keep "$folder" "$silence"'
    )
    source = base64.b64encode(zlib.compress(_PROGRAM.read_bytes(), 9)).decode()
    program = f'import zlib,base64;exec(zlib.decompress(base64.b64decode("{source}")))'
    mark = frames.line("probed").decode().strip("\x1e\n")
    words = ["sh", "-c", script, "sh", program, " ".join(packages), mark, *([python] if python else _PYTHONS)]
    return "exec " + " ".join(map(shlex.quote, words))

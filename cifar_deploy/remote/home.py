"""Home, as a pack sees it that runs on a device: frames to stdout, and a line on stdin every few seconds (see core.frames).

    from home   hello {"bytes": N, "sha256": H, "raw": [NAME, ...]}   what of the results it has; then beat {}, again and again
    to home     alive {}                                       the answer to a beat
                hello {"pack": ID, "machine": TEXT, "runs": N}   N are there already
                progress {"done": N, "total": M, "message": TEXT}
                note {"text": TEXT}                            a line worth keeping on the screen
                part {"file": F, "offset": N, "base64": B}     of results.jsonl or raw/NAME.npz
                whole {"file": F, "bytes": N, "sha256": H}     all of it was sent
                answer {"lines": [TEXT, ...]}
                error {"reason": TEXT}

Without a line from home for `silence_s`, and at the end of stdin, the pack ends with its workers.
"""

import base64
import contextlib
import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from cifar_deploy.core import frames, untrusted
from cifar_deploy.core.errors import DeployError, one_line
from cifar_deploy.core.progress import Progress

RESULTS = "results.jsonl"
RAW = "raw"

_LARGEST_BYTES = 2**30

# Tidying up kills the worker; what takes longer is ended.
_PATIENCE_S = 10.0


class Home:
    """Shows progress there, and sends what is new in a folder of results as it comes."""

    def __init__(self, reports: Path, silence_s: float) -> None:
        self._reports = reports
        self._silence_s = silence_s
        self._milestones: tuple[str, ...] = ()
        self._answer: list[str] = []
        self._sent_bytes = 0  # of results.jsonl
        self._digest = hashlib.sha256()  # of these
        self._sent_raw: set[str] = set()

    def __enter__(self) -> "Home":
        self._stdout = os.dup(1)
        os.dup2(2, 1)  # what else is printed is no frame
        self._writing = threading.Lock()
        received = frames.read(0, self._silence_s)
        hello = next(received, None)
        if not hello or hello.kind != "hello":
            raise DeployError("home: said nothing; start the pack by hand (`python3 bench.py`)")
        self._begin(hello)
        threading.Thread(target=self._listen, args=(received,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error and not isinstance(error, Exception):
            return  # it is home that is gone: who knows what it still takes
        with contextlib.suppress(OSError):
            self._send_new()
            if self._answer:
                self._say("answer", lines=self._answer)
            if error:
                told = f"{error.filename or 'system'}: {error.strerror}" if isinstance(error, OSError) else str(error)
                self._say("error", reason=one_line(told))

    def begun(self, pack: str, machine: str) -> None:
        self._say("hello", pack=pack, machine=machine, runs=self._runs)

    def __call__(self, latest: Progress) -> None:
        self._send_new()
        for milestone in latest.milestones[len(self._milestones) :]:
            self.line(milestone)
        self._milestones = latest.milestones
        self._say("progress", done=latest.done, total=latest.total, message=latest.message)

    def line(self, told: str) -> None:
        self._say("note", text=told)

    def answer(self, line: str) -> None:
        self._answer.append(line)

    def end(self) -> None:
        """Of a view on a terminal, the line is to be wiped."""

    def _begin(self, hello: frames.Frame) -> None:
        """Skip the results that home already has, if the results here begin with them."""
        there, path = hello.get("bytes", int), self._reports / RESULTS
        content = untrusted.read_bytes(path, _LARGEST_BYTES) if path.exists() else b""
        self._runs = content.count(b'"kind": "run"')
        start = content[:there]
        if hashlib.sha256(start).hexdigest() == hello.get("sha256", str):
            self._sent_bytes = len(start)
            self._digest.update(start)
        self._sent_raw = {str(name) for name in hello.get("raw", list)}

    def _listen(self, received: Any) -> None:
        for _ in received:
            with contextlib.suppress(OSError):
                self._say("alive")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE_S)
        os._exit(143)  # workers see that this process is gone, and end too

    def _send_new(self) -> None:
        """The samples first: a line names only what is there."""
        for path in sorted((self._reports / RAW).glob("*.npz")):
            if path.name not in self._sent_raw:
                content = path.read_bytes()
                self._send(f"{RAW}/{path.name}", 0, content)
                self._sent_raw.add(path.name)
                self._whole(f"{RAW}/{path.name}", len(content), hashlib.sha256(content).hexdigest())
        path = self._reports / RESULTS
        if not path.exists() or path.stat().st_size == self._sent_bytes:
            return
        with open(path, "rb") as file:
            file.seek(self._sent_bytes)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._send(RESULTS, self._sent_bytes, new)
        self._digest.update(new)
        self._sent_bytes += len(new)
        self._whole(RESULTS, self._sent_bytes, self._digest.hexdigest())

    def _send(self, name: str, offset: int, content: bytes) -> None:
        for start in range(0, len(content), frames.PART_BYTES):
            part = content[start : start + frames.PART_BYTES]
            self._say("part", file=name, offset=offset + start, base64=base64.b64encode(part).decode())

    def _whole(self, name: str, size: int, sha256: str) -> None:
        self._say("whole", file=name, bytes=size, sha256=sha256)

    def _say(self, kind: str, **fields: Any) -> None:
        line = memoryview(frames.line(kind, **fields))
        with self._writing:
            while line:
                line = line[os.write(self._stdout, line) :]

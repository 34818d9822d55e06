"""The clock of training."""

import time

import torch


class Stopwatch:
    """Seconds spent inside its `with` blocks; a GPU's queue is empty at both ends."""

    def __init__(self, device: str, seconds: float = 0.0) -> None:
        """It goes on from `seconds`."""
        self._before = seconds
        self._device = device
        self._start: float | None = None

    def __enter__(self) -> None:
        self._wait()
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._wait()
        self._before, self._start = self.seconds, None

    @property
    def seconds(self) -> float:
        """So far; inside a block too."""
        return self._before + (0.0 if self._start is None else time.perf_counter() - self._start)

    def _wait(self) -> None:
        if self._device != "cpu":
            getattr(torch, self._device).synchronize()

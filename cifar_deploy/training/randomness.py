"""What a network may draw random numbers from: torch's generators, numpy's and Python's own.

A generator that a network makes for itself is no part of this.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed them. Of a larger number numpy, and torch on a processor, take the lowest 32 bits."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def mixed(seed: int, *numbers: int) -> int:
    """A seed of 32 bits of its own for each of these numbers, from zero; the seed itself if they are all zero."""
    return int(np.random.SeedSequence((seed, *numbers)).generate_state(1)[0]) if any(numbers) else seed


def state() -> dict[str, Any]:
    """Where they stand, as tensors and numbers: torch.load reads them with `weights_only`."""
    _, words, *numpys = np.random.get_state(legacy=True)
    return {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "random_numpy": (torch.from_numpy(np.asarray(words, dtype=np.int64)), *numpys),
        "random_python": random.getstate(),
    }


def restore(saved: Mapping[str, Any]) -> None:
    """Let them go on from a `state`. What it does not know of, which earlier versions did not save, stays as it is."""
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["random_cuda"])
    if "random_numpy" in saved:
        words, *numpys = saved["random_numpy"]
        np.random.set_state(("MT19937", words.numpy().astype(np.uint32), *numpys))
        random.setstate(saved["random_python"])


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Restores them at the end."""
    before = state()
    try:
        yield
    finally:
        restore(before)

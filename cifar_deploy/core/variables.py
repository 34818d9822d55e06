"""Environment variables for the length of a block: workers inherit them."""

import contextlib
import os
from collections.abc import Iterator

# The name that this machine's user gave it, where two would look alike.
MACHINE_NAME = "CIFAR_DEPLOY_MACHINE_NAME"


@contextlib.contextmanager
def set_to(name: str, value: str) -> Iterator[None]:
    """In the block, and in what is started there, the variable has this value."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

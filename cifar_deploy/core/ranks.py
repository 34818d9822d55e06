"""Which of several processes this one is, where torchrun started it: its variables, read without torch."""

import os
import signal
import threading
import time

from cifar_deploy.core import machine
from cifar_deploy.core.errors import UsageError

# Machines decode the data set before they join, and need not be equally fast.
JOIN_S = 1200.0


def rank() -> int:
    """Among all processes, on all machines; 0 where there is just this one."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def local_rank() -> int:
    """Among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if count() > 1 else 0


def local_count() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if count() > 1 else 1


def threads() -> int:
    """This process's share of the processors that are allowed."""
    return max(1, machine.allowed_threads() // local_count())


def check_batch(batch_size: int) -> None:
    """Raises UsageError where a batch cannot be shared out equally."""
    if batch_size % count():
        raise UsageError(
            f"batch size {batch_size} cannot be divided by {count()} ranks; "
            "give another --batch-size, or start another number of ranks"
        )
    if batch_size < 2 * count():
        raise UsageError(
            f"batch size {batch_size}: batch norm needs 2 images on each rank; give --batch-size {2 * count()}"
        )


def end_with_parent() -> None:
    """Terminate this process once the one that started it is gone: a torchrun that was killed leaves its ranks running."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()

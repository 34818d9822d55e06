"""What a network trains and runs on. A new device is one file here and one line below.

Which word a runtime has for a device is the runtime's business: see `backends`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cifar_deploy.core.registry import Registry, Requirements


@dataclass(frozen=True, kw_only=True)
class Device(Requirements):
    """`requires` are the packages that `probe` takes."""

    summary: str
    probe: Callable[[], str]  # what it is, for people; raises Unavailable, with the reason, if it is not here
    peak_bytes: Callable[[], int | None]  # most ever allocated on it; None if it has no memory of its own
    restart_peak: Callable[[], None] = lambda: None  # let peak_bytes begin again at what is allocated now


DEVICES: Registry[Device] = Registry(
    "device",
    __name__,
    {
        "cpu": "cpu:DEVICE",
        "cuda": "cuda:DEVICE",
        "mps": "mps:DEVICE",
    },
)

# `--device auto` takes the first that is here.
BY_PREFERENCE = ("cuda", "mps", "cpu")


def check(name: str, imported: Collection[str]) -> None:
    """Raises Unavailable, with the reason, if a device is not here.

    It is not asked for if that takes other packages than those `imported`: then the runtime says itself what it lacks.
    """
    # The processor is here, and looking at it would be in the time that an import takes.
    if name != "cpu" and set(DEVICES[name].requires) <= set(imported):
        DEVICES[name].probe()

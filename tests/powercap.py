"""A powercap folder whose counters are known: still, or growing at a known power."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RANGE_UJ = 262_143_328_850  # of a Xeon


def zone(folder: Path, name: str, uj: int, range_uj: int = RANGE_UJ) -> Path:
    """A zone as the kernel shows it; returns the file of its counter."""
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    counter = folder / "energy_uj"
    counter.write_text(f"{uj}\n")
    return counter


def add(counter: Path, uj: int, range_uj: int = RANGE_UJ) -> None:
    counter.write_text(f"{(int(counter.read_text()) + uj) % range_uj}\n")


# The counter appears whole, as the kernel's does: a reader must not find it half written.
_GROW = """
import os, sys, time
path, watts, range_uj = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
begun, first = time.perf_counter(), int(open(path).read())
while os.getppid() == int(sys.argv[4]):
    with open(path + ".part", "w") as part:
        part.write(f"{(first + int((time.perf_counter() - begun) * watts * 1e6)) % range_uj}\\n")
    os.replace(path + ".part", path)
    time.sleep(0.001)
"""


@contextlib.contextmanager
def growing(counter: Path, watts: float, range_uj: int = RANGE_UJ) -> Iterator[None]:
    """Let the counter grow at this power, by a process of its own, until the end of the block."""
    process = subprocess.Popen([sys.executable, "-c", _GROW, str(counter), str(watts), str(range_uj), str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()

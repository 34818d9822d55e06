"""Files by which a kernel tells of the machine: what cannot be read says nothing, and nothing here raises."""

from pathlib import Path

# What all such paths lie below. A test describes another machine in a folder of its own.
ROOT = Path("/")


def text(file: Path) -> str:
    """What the file says, without the NUL and the end of the line behind it; "" if it cannot be read."""
    try:
        return file.read_bytes().decode(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def number(file: Path) -> float | None:
    """The number that the file holds alone; None if it holds none, as a sensor that is switched off."""
    try:
        return float(text(file))
    except ValueError:
        return None

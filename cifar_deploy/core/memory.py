"""A process's own memory, read from /proc/self by the process itself.

`VmRSS` is what is resident now, `VmHWM` the most that ever was. VmHWM restarts at exec, while ru_maxrss starts at the
parent's peak, RUSAGE_CHILDREN is a maximum over all children, and VmPeak is address space: all three would be wrong.
Without /proc (macOS) psutil says what is resident, if it is installed; there is no peak then.
"""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_interpreter_bytes: int | None = None


def resident_bytes() -> int | None:
    if (found := _field("VmRSS")) is not None:
        return found
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int | None:
    return _field("VmHWM")


def _field(name: str) -> int | None:
    """None where there is no /proc (macOS)."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def restart_peak() -> bool:
    """Let VmHWM start again at what is resident now. False where the kernel does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def remember_interpreter() -> None:
    """Called once, by a worker before it imports what it measures."""
    global _interpreter_bytes
    _interpreter_bytes = resident_bytes()


def interpreter_bytes() -> int | None:
    """What was resident when this worker began: Python and the modules that a worker needs to read its request."""
    return _interpreter_bytes

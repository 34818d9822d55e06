"""What a device's Python runs before there is a pack: it says what is there, takes files, starts the pack, and tidies up.

    python -c PROGRAM probe PACKAGE...    describe this Python and this machine, in one frame (see core.frames)
    python -c PROGRAM keep FOLDER S       answer the requests on stdin, a line of JSON each, until it ends or is silent for S seconds

    {"do": "receive", "place": P, "sha256": H, "bytes": N}   -> has {"bytes": K}: send the rest; then done {}
    {"do": "unpack", "place": P, "to": Q}                    -> done {}: the zip P is now the folder Q
    {"do": "run", "arguments": [...], "variables": {...}}    -> whatever that prints; then ended {"code": C}
    {"do": "remove", "places": [P, ...]}                     -> done {}

Places are below FOLDER, which one keeper at a time works in: another is told `busy`. What cannot be done is told as `failed`, and ends
the keeper. An old Python, too, shall parse this file and be able to describe itself.
"""

import hashlib
import json
import os
import sys

# Behind a run home asks for more at once, or for nothing.
_AFTER_RUN = 1 / 6.0

_PART_BYTES = 2**16

# Folders of what was sent, and of what was unpacked from it.
_OURS = ("sent", "site", "packs")


def tell(kind, **fields):
    text = json.dumps(fields, sort_keys=True)
    digest = hashlib.sha256(("%s %s" % (kind, text)).encode("ascii")).hexdigest()[:16]
    os.write(1, ("\x1ecifar-deploy %s %s %s\n" % (kind, digest, text)).encode("ascii"))


def probe(packages):
    import platform
    import struct
    import time

    tell(
        "python",
        python=sys.executable,
        version=list(sys.version_info[:3]),
        implementation=platform.python_implementation(),
        free_threaded="t" in getattr(sys, "abiflags", ""),
        bits=struct.calcsize("P") * 8,
        system=platform.system(),
        machine=platform.machine(),
        libc=_libc(),
        clock=time.time(),
        versions=dict((name, _version(name)) for name in packages),
        folders=_usable() if sys.version_info >= (3, 10) else [],
    )


def _libc():
    """glibc 2.36, musl, macos 14.2, or nothing."""
    import glob
    import platform

    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):
        found = None
    if platform.mac_ver()[0]:
        return "macos %s" % platform.mac_ver()[0]
    return found or ("musl" if glob.glob("/lib/ld-musl-*") else "")


def _version(name):
    try:
        from importlib import metadata

        return metadata.version(name)
    except Exception:
        return None


def _usable():
    """Each place that was tried, up to the first where files can lie."""
    tried = []
    for place, is_own in _places():
        tried.append(_folder(place, is_own))
        if not tried[-1]["fault"]:
            break
    return tried


def _places():
    """Where what is sent may lie, and whether the place is the user's own: the cache, then a temporary folder."""
    import tempfile

    own = os.environ.get("CIFAR_DEPLOY_CACHE")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [
        (own or os.path.join(cache, "cifar-deploy"), True),
        (os.path.join(tempfile.gettempdir(), "cifar-deploy-%d" % os.getuid()), False),
    ]


def _folder(place, is_own):
    """Free bytes there, or why nothing can lie there."""
    import tempfile

    place, fault, free = os.path.abspath(place), "", 0
    try:
        os.makedirs(place, mode=0o755 if is_own else 0o700, exist_ok=True)
        if os.lstat(place).st_uid != os.getuid():  # of a link, who made it
            fault = "belongs to another user"
        with tempfile.TemporaryFile(dir=place):
            status = os.statvfs(place)
        free = status.f_bavail * status.f_frsize
        if status.f_flag & getattr(os, "ST_NOEXEC", 0):
            fault = "is mounted noexec"
    except OSError as error:
        fault = "cannot be written (%s)" % error.strerror
    return {"place": place, "free": free, "fault": fault}


def keep(folder, silence_s):
    import fcntl
    import platform
    import time

    # As core.locks: the file says who holds it, and workers that outlive their parent hold it too.
    lock = os.open(os.path.join(folder, "device.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        tell("busy", holder=os.read(lock, 200).decode("ascii", "replace").strip())
        return
    os.set_inheritable(lock, True)
    os.ftruncate(lock, 0)
    os.write(lock, ("process %d on %s since %s" % (os.getpid(), platform.node(), time.ctime())).encode())
    tell("ready", there=[os.path.join(each, name) for each in _OURS for name in _names(os.path.join(folder, each))])
    while True:
        request = _line(silence_s)
        if request is None:
            return
        try:
            _answer(folder, request, lock, silence_s)
        except OSError as error:
            tell("failed", reason="%s: %s" % (error.filename or folder, error.strerror or error))
            return
        except Exception as error:
            tell("failed", reason="%s: %s" % (type(error).__name__, error))
            return
        if request["do"] == "run":
            silence_s *= _AFTER_RUN


def _names(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _answer(folder, request, lock, silence_s):
    import signal

    def place(name):
        found = os.path.normpath(os.path.join(folder, name))
        if not found.startswith(folder + os.sep):
            raise ValueError("%s leads out of %s" % (name, folder))
        return found

    if request["do"] == "receive":
        _receive(place(request["place"]), request["sha256"], request["bytes"], silence_s)
    elif request["do"] == "unpack":
        _unpack(place(request["place"]), place(request["to"]))
    elif request["do"] == "run":
        code = _run(request["arguments"], request["variables"], lock)
        signal.alarm(int(silence_s) + 1)  # home may take nothing any more, and has not gone
        tell("ended", code=code)
        signal.alarm(0)
        return
    elif request["do"] == "remove":
        import shutil

        for each in map(place, request["places"]):
            if os.path.isdir(each):
                shutil.rmtree(each, ignore_errors=True)
            elif os.path.exists(each):
                os.remove(each)
    tell("done")


def _receive(path, sha256, size, silence_s):
    if os.path.isfile(path) and _sha256(path) == sha256:
        tell("has", bytes=size)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    with open(part, "ab") as file:
        if file.tell() > size:
            file.seek(0)
            file.truncate()
        missing = size - file.tell()
        tell("has", bytes=size - missing)
        while missing:
            received = _bytes(min(missing, _PART_BYTES), silence_s)
            if not received:
                raise OSError(0, "the connection ended", part)
            file.write(received)
            missing -= len(received)
        file.flush()
        os.fsync(file.fileno())
    if _sha256(part) != sha256:
        os.remove(part)
        raise OSError(0, "arrived with another sha256; give the same command again", path)
    os.replace(part, path)


def _unpack(path, to):
    """A wheel is a zip; of one with data folders, what belongs among the packages is put there."""
    import shutil
    import zipfile

    if os.path.isdir(to):
        return
    part = to + ".part"
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(path) as packed:
        packed.extractall(part)
    for data in [name for name in os.listdir(part) if name.endswith(".data")]:
        for kind in ("purelib", "platlib"):
            source = os.path.join(part, data, kind)
            for name in os.listdir(source) if os.path.isdir(source) else ():
                shutil.move(os.path.join(source, name), os.path.join(part, name))
    os.rename(part, to)
    os.remove(path)


def _run(arguments, variables, lock):
    import subprocess

    return subprocess.call(arguments, env=dict(os.environ, **variables), pass_fds=(lock,))


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(2**20), b""):
            digest.update(part)
    return digest.hexdigest()


def _line(silence_s):
    """The next request; None at the end. Byte by byte: what follows it is for whoever runs next.

    What was for a pack that has ended is left alone.
    """
    line = b""
    while line.startswith(b"\x1e") or not line.endswith(b"\n"):
        line = b"" if line.endswith(b"\n") else line
        received = _bytes(1, silence_s)
        if not received:
            return None
        line += received
    return json.loads(line.decode())


def _bytes(most, silence_s):
    import select

    if not select.select([0], [], [], silence_s)[0]:
        return b""
    return os.read(0, most)


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        probe(sys.argv[2:])
    else:
        keep(os.path.abspath(sys.argv[2]), float(sys.argv[3]))

"""Networks, test images and a program that measures them on this machine. Start it: python3 bench.py

It unpacks itself into the user's cache, measures, and writes one file of results to take home. `python3 bench.py --help` shows
its options. `cifar-deploy pack` has written it; what is behind the last line of code is its content, as text.
"""

# This is the head of every pack (see stages.pack), and runs before anything else is known: an old Python, too, shall parse it.

import sys

SHA256 = ""  # of the content
ID = ""  # of the pack
REQUIRES = ()  # packages, as pip takes them

# The content follows this line, as comments.
_MARK = b"# content\n"

_MANIFEST = "pack/manifest.json"


def main():
    if sys.version_info < (3, 10):
        _end(
            "Python %d.%d is too old; run it with Python 3.10 or newer, as `python3.12 bench.py`" % sys.version_info[:2]
        )
    if sys.maxsize < 2**32:
        _end(
            "this Python has 32 bits, for which the runtimes are not made; run it with a 64-bit Python (a 64-bit system)"
        )
    # Not from the folder in which this file lies: a file json.py there is not the one that is meant.
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        del sys.path[0]
    import os

    if os.name != "posix":
        _end("it runs on Linux and macOS; on Windows, run it in WSL")
    try:
        import numpy  # noqa: F401
    except Exception as error:
        _end(
            "numpy cannot be imported (%s); run `pip install %s`, or start it by `uv run --script %s`"
            % (" ".join(str(error).split())[:200] or "it is broken", " ".join(REQUIRES), __file__)
        )
    content, root = _content(), ""
    try:
        root = _root()
        _unpack(content, root)
    except OSError as error:
        _end("%s cannot be written (%s); give another folder with --out" % (error.filename or root, error.strerror))
    sys.path.insert(0, _join(root, "pack"))
    from cifar_deploy import on_device

    on_device.main(root)


def _content():
    """The content as bytes, verified before anything in it is used."""
    import base64
    import binascii
    import hashlib

    with open(__file__, "rb") as own:
        lines = own.read().replace(b"\r\n", b"\n").partition(_MARK)[2].splitlines()
    try:
        content = base64.b64decode(b"".join(line[2:] for line in lines), validate=True)
    except binascii.Error:
        content = b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        _end("its content was cut or altered (the sha256 differs); copy it here again")
    return content


def _unpack(content, root):
    """Write the content to the folder; what is there already, and the same, is not written again."""
    import io
    import os
    import zipfile

    if not os.path.isfile(_join(root, _MANIFEST)) and set(os.listdir(root)) - {"pack"}:
        _end("%s holds other files; give --out a new folder, or an empty one" % root)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        # The manifest first: by it the folder is known to be a pack's, though unpacking be interrupted.
        for member in sorted(packed.infolist(), key=lambda each: each.filename != _MANIFEST):
            path = _join(root, *member.filename.split("/"))
            found = packed.read(member)
            if os.path.isfile(path) and os.path.getsize(path) == len(found):
                with open(path, "rb") as there:
                    if there.read() == found:
                        continue
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            try:
                with open(path + ".part", "wb") as part:
                    part.write(found)
                os.replace(path + ".part", path)
            except OSError:
                if os.path.isfile(path + ".part"):
                    os.remove(path + ".part")
                raise


def _root():
    """Where to unpack: --out, or a folder of the user's cache, or one among the temporary ones where that takes nothing."""
    import os
    import tempfile

    for place, argument in enumerate(sys.argv):
        given = sys.argv[place + 1 : place + 2] if argument == "--out" else [argument[len("--out=") :]]
        if argument.partition("=")[0] == "--out" and given:
            os.makedirs(given[0], exist_ok=True)
            return os.path.abspath(given[0])
    variables = os.environ
    cache = variables.get("CIFAR_DEPLOY_CACHE") or _join(
        variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cifar-deploy"
    )
    root = _join(os.path.abspath(cache), "packs", ID)
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        other = _join(tempfile.gettempdir(), "cifar-deploy-%s-%s" % (os.getuid(), ID))
        os.makedirs(other, mode=0o700, exist_ok=True)
        if os.lstat(other).st_uid != os.getuid():
            _end("%s belongs to another user; give another folder with --out" % other)
        sys.stderr.write("%s cannot be written (%s); %s is used instead\n" % (root, error.strerror, other))
        return other


def _join(*names):
    import os

    return os.path.join(*names)


def _end(reason):
    sys.stderr.write("bench.py: error: %s\n" % reason)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("bench.py: interrupted; run it again\n")
        sys.exit(130)

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


def main():
    if sys.version_info < (3, 10):
        _end(
            "Python %d.%d is too old; run it with Python 3.10 or newer, as `python3.12 bench.py`" % sys.version_info[:2]
        )
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        _end(
            "numpy cannot be imported (%s); run `pip install %s`, or start it by `uv run --script %s`"
            % (error, " ".join(REQUIRES), __file__)
        )
    try:
        root = _unpacked(_content())
    except OSError as error:
        _end(
            "%s cannot be written (%s); give another folder with --out"
            % (error.filename or "the folder", error.strerror)
        )
    # Instead of the folder in which this file lies: a file json.py there is not the one that is meant.
    sys.path[0] = _join(root, "pack")
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


def _unpacked(content):
    """The output folder with the content in it; what is there already, and the same, is not written again."""
    import io
    import os
    import zipfile

    root = _root()
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for member in packed.infolist():
            path = _join(root, *member.filename.split("/"))
            found = packed.read(member)
            if os.path.isfile(path) and os.path.getsize(path) == len(found):
                with open(path, "rb") as there:
                    if there.read() == found:
                        continue
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            with open(path + ".part", "wb") as part:
                part.write(found)
            os.replace(path + ".part", path)
    return root


def _root():
    """Where to unpack: --out, or a folder of the user's cache, or one among the temporary ones where that takes nothing."""
    import os
    import tempfile

    for place, argument in enumerate(sys.argv):
        if argument == "--out" and place + 1 < len(sys.argv):
            return os.path.abspath(sys.argv[place + 1])
        if argument.startswith("--out="):
            return os.path.abspath(argument[len("--out=") :])
    variables = os.environ
    cache = variables.get("CIFAR_DEPLOY_CACHE") or _join(
        variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cifar-deploy"
    )
    root = _join(cache, "packs", ID)
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        other = _join(tempfile.gettempdir(), "cifar-deploy-%s-%s" % (os.getuid(), ID))
        os.makedirs(other, mode=0o700, exist_ok=True)
        if os.stat(other).st_uid != os.getuid():
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
    main()

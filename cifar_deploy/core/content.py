"""What kind of file a file is, by its first bytes, whatever its name says.

A recognised kind is no proof that the file is whole or harmless. ONNX has no signature: a file without one stays
unrecognised, and its parser decides.
"""

import codecs
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cifar_deploy.core import untrusted
from cifar_deploy.core.errors import LoadError


@dataclass(frozen=True, kw_only=True)
class Content:
    title: str  # with its article
    remedy: str  # for a file that should be a model of another kind
    is_text: bool = False  # an error shows the start of a text


ONNX = Content(title="an ONNX model", remedy="let its name end in .onnx")
ORT = Content(title="a model in ORT format", remedy="let its name end in .ort")
IR = Content(title="an OpenVINO IR", remedy="let its name end in .xml, and put its .bin beside it")
TFLITE = Content(title="a TFLite model", remedy="let its name end in .tflite")
EXECUTORCH = Content(title="an ExecuTorch program", remedy="let its name end in .pte")
TORCHSCRIPT = Content(title="a TorchScript program", remedy="let its name end in .ts")
PT2 = Content(title="a program of torch.export", remedy="let its name end in .pt2")

_AGAIN = "download or copy it again"
_FILE_ITSELF = "download the file itself"
_CONVERT = "convert the model to .onnx or .tflite"
_EXPORT = "export the network, with its code, to another format"

EMPTY = Content(title="empty", remedy=f"{_AGAIN}, or export it again")
LFS_POINTER = Content(title="a Git LFS pointer", remedy="run `git lfs pull` in its repository")
HTML = Content(title="an HTML page", remedy=_FILE_ITSELF, is_text=True)
XML = Content(title="XML of another kind", remedy=_FILE_ITSELF, is_text=True)
JSON = Content(title="JSON", remedy=_FILE_ITSELF, is_text=True)
TEXT = Content(title="text", remedy=_FILE_ITSELF, is_text=True)
ZEROS = Content(title="a file that starts with zeros", remedy=_AGAIN)
CUT_ZIP = Content(title="a zip archive without its end", remedy=_AGAIN)
ZIP = Content(title="a zip archive of other files", remedy="unpack it, and give the model in it")
WEIGHTS = Content(
    title="a file of torch.save, which keeps weights",
    remedy="save a program, by torch.jit.save or torch.export.save",
)
PICKLE = Content(title="a Python pickle, as torch.save once wrote", remedy=_EXPORT)
SAFETENSORS = Content(title="a safetensors file, which holds weights alone", remedy=_EXPORT)
HDF5 = Content(title="an HDF5 file, as Keras writes", remedy=_CONVERT)
KERAS = Content(title="a Keras model", remedy=_CONVERT)
CORE_ML = Content(title="a Core ML model", remedy="export the network to another format")
TENSORRT = Content(title="a TensorRT engine", remedy="give the ONNX model that it was built from")
GGUF = Content(title="a GGUF file", remedy="export the network to another format")
ARRAYS = Content(title="a file of NumPy arrays", remedy="give the model itself")
MACHINE_CODE = Content(title="a library or program of machine code", remedy="give the model itself")
DOCUMENT = Content(title="an image or a document", remedy="give the model itself")


def _packed(name: str, program: str) -> Content:
    return Content(title=f"{name} archive", remedy=f"unpack it by {program}, and give the model in it")


# The first bytes -> the kind.
_SIGNATURES = {
    b"version https://git-lfs": LFS_POINTER,
    b"\x1f\x8b": _packed("a gzip", "gunzip or tar"),
    b"BZh": _packed("a bzip2", "bunzip2 or tar"),
    b"\xfd7zXZ\0": _packed("an xz", "unxz or tar"),
    b"\x28\xb5\x2f\xfd": _packed("a Zstandard", "unzstd or tar"),
    b"7z\xbc\xaf\x27\x1c": _packed("a 7-Zip", "7z"),
    b"Rar!": _packed("a RAR", "unrar"),
    b"\x89HDF\r\n\x1a\n": HDF5,
    b"GGUF": GGUF,
    b"ftrt": TENSORRT,
    b"ptrt": TENSORRT,
    b"\x93NUMPY": ARRAYS,
    b"\x7fELF": MACHINE_CODE,
    b"MZ": MACHINE_CODE,
    b"\x89PNG": DOCUMENT,
    b"\xff\xd8\xff": DOCUMENT,
    b"%PDF": DOCUMENT,
    **{bytes([0x80, protocol]): PICKLE for protocol in range(2, 6)},
}
# A FlatBuffers file names its kind in bytes 4 to 8.
_FLATBUFFERS = {b"TFL3": TFLITE, b"ORTM": ORT}

# Of an archive, the first of these that the name of a member holds.
_MEMBERS = {
    "/data/aotinductor/": PT2,
    "archive_format": PT2,
    "serialized_exported_program": PT2,
    "/constants.pkl": TORCHSCRIPT,
    "/data.pkl": WEIGHTS,
    "model.weights.h5": KERAS,
    ".mlmodel": CORE_ML,
    ".npy": ARRAYS,
}

# These are no model for any runtime, as whatever file they came.
_NO_MODEL = (EMPTY, LFS_POINTER, HTML)

_LOOKED_AT_BYTES = 4096
_SHOWN = 40  # characters of a text


def check(path: Path, expected: Content | None) -> None:
    """Raises LoadError, with the kind of file that it is, if it is recognised as another kind than expected.

    Where nothing is known of what to expect, only a kind that is no model at all is refused.
    """
    found = of(path)
    if found is None or found == expected or (not expected and found not in _NO_MODEL):
        return
    wanted = expected.title if expected else "a model or its data"
    start = f" ({_start(path) or 'blank'})" if found.is_text else ""
    raise LoadError(f"{path}: is {found.title}{start}, not {wanted}; {found.remedy}")


def of(path: Path) -> Content | None:
    """None if it is not recognised. Raises Corrupt if it is no regular file."""
    head = _head(path)
    if not head:
        return EMPTY
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_archive(path)
    for signature, content in _SIGNATURES.items():
        if head.startswith(signature):
            return content
    if head[257:262] == b"ustar":
        return _packed("a tar", "tar")
    if not head.strip(b"\0"):
        return ZEROS
    return _of_flatbuffers(head) or _of_protobuf(head) or _of_safetensors(head) or _of_text(head)


def members(path: Path) -> list[str]:
    """The names in a zip archive; none, if it is no whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # BadZipFile, and whatever a damaged name or number makes it raise
        return []


def _head(path: Path) -> bytes:
    with untrusted.open_regular(path) as file:
        return file.read(_LOOKED_AT_BYTES)


def _of_archive(path: Path) -> Content:
    if not zipfile.is_zipfile(path):
        return CUT_ZIP
    names = members(path)
    return next((content for part, content in _MEMBERS.items() if any(part in name for name in names)), ZIP)


def _of_flatbuffers(head: bytes) -> Content | None:
    # The first four bytes are where the root lies: near the start. In ONNX they would be the start of a producer's name.
    if len(head) < 8 or struct.unpack("<I", head[:4])[0] >= _LOOKED_AT_BYTES:
        return None
    is_executorch = re.fullmatch(rb"ET\d\d", head[4:8])
    return EXECUTORCH if is_executorch else _FLATBUFFERS.get(head[4:8])


def _of_protobuf(head: bytes) -> Content | None:
    """ONNX and Core ML both start with a version, field 1. In Core ML a description follows, in ONNX anything else."""
    if not re.match(rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]", head):
        return None
    # A description starts with its first field, the inputs, and the name of a producer with a letter.
    is_description = re.match(rb"\x08.\x12[\x80-\xff]*[\0-\x7f]\x0a", head, re.DOTALL)
    return CORE_ML if is_description else ONNX


def _of_safetensors(head: bytes) -> Content | None:
    return SAFETENSORS if head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] < 2**32 else None


def _of_text(head: bytes) -> Content | None:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # whose last character may be cut
    except UnicodeDecodeError:
        return None
    if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text):
        return None
    if (start := text.lstrip().lower()).startswith(("<!doctype html", "<html")):
        return HTML
    if start.startswith("<"):
        roots = re.sub(r"<\?.*?\?>|<!--.*?-->|<!doctype[^>]*>", "", start, flags=re.DOTALL).lstrip()
        return HTML if roots.startswith("<html") else IR if re.match(r"<net\b", roots) else XML
    return JSON if start.startswith(("{", "[")) else TEXT


def _start(path: Path) -> str:
    text = _head(path).decode("utf-8-sig", "replace").strip()
    return f"{text[:_SHOWN]} …" if len(text) > _SHOWN else text

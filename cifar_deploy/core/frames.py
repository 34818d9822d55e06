"""Frames: the lines between home and a device. A reader ignores all other lines, such as a login greeting.

    RS cifar-deploy KIND DIGEST JSON

RS is the byte 0x1e, which JSON in ASCII cannot hold. DIGEST is the start of the sha256 of "KIND JSON". A frame begins at the last
RS of its line, so neither text before it nor a frame that was cut disturbs it. Nothing here needs more than Python.
"""

import hashlib
import json
import os
import select
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cifar_deploy.core.errors import DeployError

T = TypeVar("T")

_MARK = b"\x1ecifar-deploy "
_DIGEST_DIGITS = 16

# Of a file that travels in frames, this much is in each.
PART_BYTES = 2**18
# A longer line is no frame, whatever it holds.
LONGEST = 2**20


@dataclass(frozen=True)
class Frame:
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, kind: type[T]) -> T:
        """A field of this type. Raises DeployError if it is missing or of another type: a frame may say anything."""
        value = self.fields.get(name)
        if type(value) is not kind:
            raise DeployError(f"frame {self.kind[:40]}: its {name} is no {kind.__name__}")
        return value


def line(kind: str, **fields: Any) -> bytes:
    """A frame as it is sent."""
    text = json.dumps(fields, sort_keys=True)
    return b"%s%s %s %s\n" % (_MARK, kind.encode(), _digest(kind, text.encode()), text.encode())


def _digest(kind: str, text: bytes) -> bytes:
    return hashlib.sha256(kind.encode() + b" " + text).hexdigest()[:_DIGEST_DIGITS].encode()


def parsed(line: bytes) -> Frame | None:
    """The frame that ends this line; None if it ends with none."""
    _, mark, rest = line.rpartition(_MARK)
    kind, _, rest = rest.partition(b" ")
    digest, _, text = rest.strip().partition(b" ")
    if not mark or not kind.isalpha() or digest != _digest(kind.decode(), text):
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return Frame(kind.decode(), fields) if isinstance(fields, dict) else None


def read(descriptor: int, silence_s: float | None = None) -> Iterator[Frame]:
    """The frames that come, each as soon as its line ends, until the end or a silence.

    A line of any length takes bounded memory.
    """
    held, is_too_long = b"", False
    while select.select([descriptor], [], [], silence_s)[0] and (received := os.read(descriptor, 2**16)):
        *lines, held = (held + received).split(b"\n")
        for each in lines:
            if not is_too_long and (frame := parsed(each)):
                yield frame
            is_too_long = False
        if len(held) > LONGEST:
            held, is_too_long = b"", True

"""ncnn: a graph and its weights for phones and small boards, converted by pnnx from a trace. One image a call."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

from cifar_deploy.core.errors import ExportError, Unsupported
from cifar_deploy.formats import Choices, Format, Source


def write(source: Source, path: Path) -> Choices:
    import pnnx
    import torch

    image = source.images[:1]
    if not image.is_floating_point():
        raise Unsupported("format ncnn: takes float32 images alone; it has no uint8 input")
    with tempfile.TemporaryDirectory(prefix="cifar-deploy-") as box:
        traced = Path(box) / "model.ts"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # trace and save each say that they are deprecated
            with torch.inference_mode():
                torch.jit.save(torch.jit.trace(source.network, image), traced)
        shape = f"[{','.join(map(str, image.shape))}]"
        # The weights would be rounded to float16, unless told. What else it writes goes beside the trace.
        command = [pnnx.EXEC_PATH, str(traced), f"inputshape={shape}", "fp16=0"]
        done = subprocess.run(
            [*command, f"ncnnparam={path}", f"ncnnbin={path.with_suffix('.bin')}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode or not path.exists():
        raise ExportError(f"ncnn: pnnx left with {done.returncode}: {done.stdout.strip()[-500:]}")
    return {"fp16": "off"}


FORMAT = Format(
    summary="ncnn, float32, one image a call",
    filename="model.param",
    names=("in0", "out0"),
    has_batch=False,
    requires=("torch", "pnnx"),
    write=write,
    tolerance=1e-4,
    agreement=0.99,
)

"""Functions that the tests run in a worker ("tests.probes:name"), and records to store."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import memory
from cifar_deploy.core.errors import DataError
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.profile import Operator, Profile
from cifar_deploy.core.progress import report
from cifar_deploy.core.records import (
    Artifact,
    Checkpoint,
    Data,
    Disturbance,
    Epoch,
    Failure,
    File,
    ImageType,
    Job,
    Machine,
    Measurement,
    Recipe,
    Run,
    Session,
    Training,
)
from cifar_deploy.core.store import as_artifact
from cifar_deploy.formats import format_of


def processors() -> list[int]:
    """Those that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def describe(recipe: Recipe, numbers: tuple[int, ...], folder: Path) -> list[str]:
    return [recipe.name, str(sum(numbers)), type(folder).__name__]


def same_recipe(recipe: Recipe) -> Recipe:
    return recipe


def raise_value_error(message: str) -> None:
    print("printed before the error")
    raise ValueError(message)


def raise_data_error(message: str) -> None:
    raise DataError(message)


def raise_memory_error() -> None:
    raise MemoryError("no more")


def hold(mebibytes: int) -> int:
    """Take so much memory and touch all of it."""
    return len(b"x" * (mebibytes * 2**20))


def peak_after_a_moment() -> list[int]:
    """The peak while 200 MiB were held for a moment, and after it has started again."""
    hold(200)
    grown = memory.peak_bytes()
    memory.restart_peak()
    return [grown or 0, memory.peak_bytes() or 0]


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def put_aside_and_die() -> None:
    Path(tempfile.mkdtemp(), "half").write_text("x")
    kill_oneself()


def compiled_code() -> str:
    """Where torch.compile keeps it."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()


def exit_silently() -> None:
    os._exit(3)


def sleep_forever() -> None:
    time.sleep(3600)


def report_for(seconds: float) -> str:
    """Report now and then; longer in all than a limit that each step keeps."""
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        step += 1
        report(step, 1000, "counting", milestone="began" if step == 1 else None)
        time.sleep(0.1)
    return "done"


def thread_variables() -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return {name: os.environ[name] for name in names}


def process() -> int:
    return os.getpid()


def variable(name: str) -> str:
    return os.environ[name]


def knows_torch() -> bool:
    return "torch" in sys.modules


def write_logits(backend: str, artifact: Artifact, path: Path, folder: Path) -> None:
    """Of five images together, and of each alone, through a backend whose worker this is."""
    plugin = BACKENDS[backend]
    images = format_of(artifact).prepare(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8))
    predict = plugin.load(path, artifact, plugin.targets[plugin.validated_on], 1)
    folder.mkdir()
    np.save(folder / "together.npy", predict(images))
    np.save(folder / "alone.npy", np.concatenate([predict(images[i : i + 1]) for i in range(len(images))]))


def versions_imported() -> dict[str, str]:
    """For a worker in the tests' environment."""
    import iniconfig
    import numpy
    import tiny_package

    return {"tiny_package": tiny_package.VERSION, "iniconfig": iniconfig.VERSION, "numpy": numpy.__version__}


def types_in_litert(path: Path) -> dict[str, str]:
    """Of what goes in and comes out, and of what the convolutions take, their weights too, and give."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without its kernels for the processor, which would hide what they have taken over.
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    types = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    convolutions = {
        " ".join(types[index] for index in (*op["inputs"][:2], *op["outputs"]))
        for op in interpreter._get_ops_details()
        if op["op_name"] == "CONV_2D"
    }
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    return {
        "input": types[image["index"]],
        "output": types[output["index"]],
        "convolutions": ", ".join(sorted(convolutions)),
    }


def write_pid_and_sleep(path: Path) -> None:
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(3600)


def leave_a_session_behind(path: Path, ends: str) -> None:
    """Start a process in a session of its own, which sleeps; then end in one of several ways."""
    sleeper = "import pathlib, os, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(3600)"
    subprocess.Popen([sys.executable, "-c", sleeper, str(path)], start_new_session=True, stdin=subprocess.DEVNULL)
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    {"well": lambda: None, "crashed": segfault, "late": sleep_forever}[ends]()


def parent_of_a_sleeper(path: str) -> None:
    """For a process of its own: start a worker and wait for it."""
    Worker().call(write_pid_and_sleep, path=path)


def a_checkpoint(weights: File | None = None) -> Checkpoint:
    data = Data(
        dataset="digits",
        source="handwritten digits",
        fingerprint="f" * 64,
        classes=("0", "1", "größer"),
        train_images=4,
        test_images=2,
        height=8,
        width=9,
        mean=(0.25, 0.5, 0.75),
        std=(0.1, 0.2, 0.3),
    )
    recipe = Recipe(name="adam", optimizer="adam", learning_rate=0.001, epochs=2, batch_size=4, seed=0)
    return Checkpoint(
        training=Training(name="small", network="resnet8", recipe=recipe, data=data),
        weights=weights or File(name="weights.safetensors", bytes=3, sha256="0" * 64),
        parameters=10,
        macs=20,
        curve=(
            Epoch(loss=2.5, accuracy=0.5, seconds=1.0, wall_seconds=1.5),
            Epoch(loss=2.0, accuracy=1.0, seconds=1.0, wall_seconds=1.5),
        ),
        test_images=2,
        device="cpu",
        device_name="a processor",
        threads=1,
        peak_bytes=None,
        device_peak_bytes=1024,
        machine=Machine(
            host="here",
            processor="a processor",
            cores=1,
            memory_bytes=2**30,
            system="Linux 6",
            architecture="x86_64",
            python="3.11",
        ),
        versions={"numpy": "2.0", "torch": "2.9"},
        commit=None,
        finished="2026-01-01T00:00:00+00:00",
    )


def a_job(metric: str = "latency", format: str = "checkpoint", input: ImageType = "float32") -> Job:
    checkpoint = a_checkpoint()
    return Job(
        artifact=replace(as_artifact(checkpoint), format=format, input=input),
        backend="pytorch",
        device="cpu",
        metric=metric,
        threads=1,
        batch_size=1,
        seconds=0.5,
        protocol=1,
        machine=checkpoint.machine,
        versions=checkpoint.versions,
    )


def an_operator(name: str, type: str, dtype: str | None, seconds: float) -> Operator:
    """Of four calls."""
    return Operator(name=name, type=type, dtype=dtype, is_convolution="Conv" in type, calls=4, seconds=seconds)


def a_profile(job: Job, *operators: Operator) -> Profile:
    """Of four inferences of the job's artifact, which took 10 ms."""
    return Profile(
        name=job.artifact.name,
        format=job.artifact.variant,
        files=job.artifact.files,
        backend=job.backend,
        device=job.device,
        threads=job.threads,
        inferences=4,
        seconds=0.01,
        operators=operators,
        machine=job.machine,
        versions=job.versions,
        started="2026-01-01T00:00:00+00:00",
        commit=None,
    )


def a_session(*jobs: Job) -> Session:
    return Session(started="2026-01-01T00:00:00+00:00", seed=1, jobs=tuple(job.key for job in jobs))


def calm(**changes: Any) -> Disturbance:
    """What a quiet machine says of half a second."""
    quiet = Disturbance(
        seconds=0.5,
        run_delay=0.001,
        steal=0.0,
        involuntary_switches=3,
        calibration_before=0.0014,
        calibration_after=0.0015,
        clock_jump=0.0,
    )
    return replace(quiet, **changes)


def a_run(
    metric: str = "latency",
    failure: Failure | None = None,
    *,
    job: Job | None = None,
    session: Session | None = None,
    round: int = 0,
    control: bool = False,
    value: float = 0.001,
    raw: str | None = "abc",
    disturbance: Disturbance | None = None,
) -> Run:
    values = {"p50": value, "samples": 100.0}
    return Run(
        job=job or a_job(metric),
        session=session,
        round=round,
        control=control,
        measurement=None if failure else Measurement(values=values, raw=raw, disturbance=disturbance or calm()),
        failure=failure,
        started=f"2026-01-01T00:00:{round:02}+00:00",
        seconds=2.0,
        commit="abc+",
    )

"""The options of the command line, each stated once: its name, its type, its limits and the help that a user reads.

Those that every command has are in config: --config, --no-config, --save-config.

Nothing here imports more than `--help` needs.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from cifar_deploy.core import limits, trust, units, variables
from cifar_deploy.core.defaults import (
    CHECKPOINT_EVERY_S,
    COOL_WAIT_S,
    HIGHEST_TEMPERATURE,
    QUICKSTART_SECONDS,
    SECONDS,
    TEACHER_WEIGHT,
    TEMPERATURE,
    TIMEOUT_S,
)
from cifar_deploy.networks import DEFAULT_NETWORKS

if TYPE_CHECKING:
    from cifar_deploy.stages.bench import Shape, Value


def _offered(names: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context], list[str]]:
    """For shell completion, which prints no error: where there is one it offers nothing."""

    def offered(context: typer.Context) -> list[str]:
        with contextlib.suppress(Exception):
            return list(names(context))
        return []

    return offered


def _names(registry: str) -> Callable[[typer.Context], list[str]]:
    """Those of a registry, given as "module:NAME"."""
    module, _, name = registry.partition(":")
    return _offered(lambda context: getattr(importlib.import_module(f"cifar_deploy.{module}"), name))


@_offered
def _trained(context: typer.Context) -> Iterable[str]:
    """The trained networks of the output folder that the line names so far. Nothing is written there."""
    from cifar_deploy.core.store import Store

    return Store(context.params.get("out") or ".").names()


# Beyond all that anyone trains with, and small enough for every number that is made of them.
_MOST_EPOCHS, _LARGEST_BATCH, _HIGHEST_RATE, _MOST_TIMES = 1_000_000, 1_000_000, 1e30, 1e6


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a positive number")
    return value


def _up_to(most: float) -> Callable[[float], float]:
    def check(value: float) -> float:
        if _positive(value) > most:
            raise typer.BadParameter(f"{value:g} is more than {most:g}")
        return value

    return check


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} is not between 0 and 1")
    return value


def _checked(
    option: str, help: str, default: str, metavar: str = "NUMBER", check: Callable[[float], float] = _positive
) -> Any:
    """An optional number that `check` accepts."""
    return typer.Option(
        option,
        metavar=metavar,
        help=help,
        show_default=default,
        callback=lambda value: None if value is None else check(value),
    )


def _parsed(parse: Callable[[str, str], Any], option: str) -> Callable[[Any], Any]:
    """`parse` from core.units, for typer, which gives the default as it is."""

    def parsed(text: Any) -> Any:
        try:
            return parse(text, option) if isinstance(text, str) else text
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed


def _isa_levels() -> list[str]:
    from cifar_deploy.core.records import Isa

    return list(get_args(Isa))


def _isa(text: str) -> str:
    levels = _isa_levels()
    if text not in levels:
        raise typer.BadParameter(f"{text} is no level of instructions; there are: {', '.join(levels)}")
    return text


def _shape(text: str) -> "Shape":
    """image=1,3,224,224 or ids=1,128:int64. An input's name may hold a colon or an equals sign itself."""
    from cifar_deploy.core.arrays import NUMBERS, has_random
    from cifar_deploy.stages.bench import Shape

    name, _, rest = text.rpartition("=")
    sizes, _, dtype = rest.partition(":")
    if dtype and not has_random(dtype):
        raise typer.BadParameter(f"{text} names the type {dtype}; there are: {', '.join(NUMBERS)}")
    with contextlib.suppress(ValueError):
        shape = Shape(name=name, sizes=tuple(map(int, sizes.split(","))) if sizes else (), dtype=dtype or None)
        if name and all(size > 0 for size in shape.sizes):
            return shape
    raise typer.BadParameter(
        f"{text} is no shape; give image=1,3,224,224, or ids=1,128:int64 where the file has no type"
    )


def _value(text: str) -> "Value":
    """rate=16000, scale=0.5 or mask=true. An input's name may hold an equals sign itself."""
    from cifar_deploy.stages.bench import Value

    name, _, word = text.rpartition("=")
    if name and (number := _number(word)) is not None:
        return Value(name=name, value=number)
    raise typer.BadParameter(f"{text} is no value; give rate=16000, scale=0.5 or mask=true")


def _number(word: str) -> bool | int | float | None:
    """None if it is none, or a larger one than a record holds."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    with contextlib.suppress(ValueError):
        if abs(whole := int(word)) < 2**63:
            return whole
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(word)):
            return number
    return None


def _channel_numbers(text: str) -> tuple[float, ...]:
    """Of pixels in [0, 1]: a number for each channel, or one for all."""
    numbers = [_number(word.strip()) for word in text.split(",")]
    if len(numbers) not in (1, 3) or any(number is None or isinstance(number, bool) for number in numbers):
        raise typer.BadParameter(f"{text} is neither one number nor three; give it as in 0.485,0.456,0.406")
    if outside := [f"{number:g}" for number in numbers if not 0 <= number <= 1]:  # type: ignore[operator]
        raise typer.BadParameter(f"{outside[0]} is outside of 0 to 1; give it for pixels in 0..1, 255 times smaller")
    values = tuple(float(number) for number in numbers if number is not None)
    return values * 3 if len(values) == 1 else values


def _channel_std(text: str) -> tuple[float, ...]:
    if not all(numbers := _channel_numbers(text)):
        raise typer.BadParameter(f"{text} holds 0, by which nothing can be divided; give a number above 0")
    return numbers


def _trust_code(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if ":" not in name:
            raise typer.BadParameter(f"{name} is no code; give module:object, as the record names it")
    trust.give(names or ())
    return names


def _limit_memory(context: typer.Context, value: int | None) -> int | None:
    """For as long as the command runs."""
    if value is not None:
        context.with_resource(limits.at_most(value))
    return value


def _name_machine(context: typer.Context, value: str | None) -> str | None:
    """For as long as the command runs."""
    if value is not None:
        from cifar_deploy.core import machine

        context.with_resource(machine.named(value))
    return value


_RECIPES = "the recipe's"


def _silence(context: typer.Context, as_json: bool) -> bool:
    """For as long as the command runs, the document alone is on stdout."""
    if as_json:
        from cifar_deploy import console

        context.with_resource(console.silence())
    return as_json


def _several(*names: str, of: str, help: str, default: str) -> Any:
    """An option for names of a registry, given as "module:NAME"."""
    return typer.Option(
        *names,
        metavar=names[0].removeprefix("--").upper(),
        help=f"{help}; may be repeated.",
        autocompletion=_names(of),
        show_default=default,
    )


def _with_unit(name: str, parse: Callable[[str, str], Any], metavar: str, help: str, **how: Any) -> Any:
    """An option for a number with a unit; `parse` is of core.units."""
    return typer.Option(name, parser=_parsed(parse, name), metavar=metavar, help=help, **how)


Out = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of exported/, reports/ and log.txt.")]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", metavar="DATASET", help="Where images come from.", autocompletion=_names("datasets:DATASETS")
    ),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="PATH", help="The data set's directory, archive or .zip.")
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="N|HxW",
        help="Bring images to one size: N resizes the shorter side and crops the centre square, HxW resizes to that.",
        show_default="as they are",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize", metavar="N|HxW", help="Resize images: the shorter side to N, or to HxW.", show_default="as they are"
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        "--crop", metavar="N|HxW", help="Crop the centre of each image, after the resize.", show_default="whole images"
    ),
]
Interpolation = Annotated[
    Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] | None,
    typer.Option(
        "--interpolation",
        help="Pillow's filter for the resize.",
        show_default="bilinear",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Names of the network's outputs in their order, one a line.",
        show_default="the data set's own",
        dir_okay=False,
    ),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out images that cannot be read, and count them.")
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--calibration-data",
        metavar="PATH",
        help="Folder or .zip of images for the INT8 calibration; labels are not needed.",
        show_default="the training images",
    ),
]
_NETWORK = "A network, torchvision:NAME, timm:NAME, or module:function"
NetworkArgument = Annotated[
    str,
    typer.Argument(metavar="NETWORK", help=f"{_NETWORK}.", autocompletion=_names("networks:NETWORKS")),
]
NetworkOptions = Annotated[
    list[str] | None,
    _several("--network", of="networks:NETWORKS", help=_NETWORK, default=", ".join(DEFAULT_NETWORKS)),
]
AddedName = Annotated[
    str, typer.Argument(metavar="NAME", help="What to call the network; exports and results are found under it.")
]
AddedNetwork = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help=f"{_NETWORK}. The function may return a trained module.",
        show_default="NAME",
        autocompletion=_names("networks:NETWORKS"),
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Its trained weights: safetensors, or a state dict in .pt, .pth or .ckpt.",
        show_default="those that the function returns",
    ),
]
Entry = Annotated[
    str | None,
    typer.Option(
        "--entry",
        metavar="KEY",
        help="Where in the file the weights are, as state_dict or ema.",
        show_default="the entry that fits best",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="LIBRARY:NAME",
        help="Take resize, crop, interpolation, mean and std from a weights entry of torchvision, or from timm:NAME.",
    ),
]
AddedMean = Annotated[
    Any,
    typer.Option(
        "--mean",
        parser=_channel_numbers,
        metavar="M,M,M",
        help="Mean that the network expects, of pixels in 0..1: a number a channel, or one.",
        show_default="of the training images",
    ),
]
AddedStd = Annotated[
    Any,
    typer.Option(
        "--std",
        parser=_channel_std,
        metavar="S,S,S",
        help="Standard deviation that the network expects.",
        show_default="of the training images",
    ),
]
AddedChannels = Annotated[
    Literal["rgb", "bgr"],
    typer.Option("--channels", help="Order of channels that the network expects, and of --mean and --std."),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Trained networks, by name.",
        show_default="all",
        autocompletion=_trained,
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What to call this training.", show_default="the network")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="RECIPE", help="How to train.", autocompletion=_names("recipes:RECIPES"))
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", metavar="N", min=1, max=_MOST_EPOCHS, help="Epochs to train.", show_default=_RECIPES),
]
TrainBatch = Annotated[
    int | None,
    typer.Option(
        "--train-batch-size",
        metavar="N",
        min=2,
        max=_LARGEST_BATCH,
        help="Images in a training step.",
        show_default=_RECIPES,
    ),
]
RecipeBatch = Annotated[
    int | None,
    typer.Option(
        "--batch-size", metavar="N", min=2, max=_LARGEST_BATCH, help="Images in a training step.", show_default=_RECIPES
    ),
]
AllThreads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads for training.", show_default="all that are allowed"),
]
LearningRate = Annotated[
    float | None, _checked("--learning-rate", "Learning rate at its highest.", _RECIPES, check=_up_to(_HIGHEST_RATE))
]
BiasRate = Annotated[
    float | None,
    _checked(
        "--bias-rate", "Learning rate of biases, as a multiple of all others'.", _RECIPES, check=_up_to(_MOST_TIMES)
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, max=2**32 - 1, help="Seed of weights, order and crops.", show_default=_RECIPES
    ),
]
TrainThreads = Annotated[
    int | None,
    typer.Option(
        "--train-threads", metavar="N", min=1, help="Threads for training.", show_default="all that are allowed"
    ),
]
TrainDevice = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, or one of `list`: what to train on.",
        autocompletion=_names("devices:DEVICES"),
    ),
]
BatchNorm = Annotated[
    Literal["synchronised", "per-rank"],
    typer.Option("--batch-norm", help="Under torchrun: statistics of the whole batch, or of each rank's share."),
]
SaveFp16 = Annotated[
    bool, typer.Option("--save-fp16", help="Store the weights as float16, if the accuracy stays within 0.05 points.")
]
ArithmeticName = Annotated[
    Literal["float32", "bfloat16", "auto"],
    typer.Option("--arithmetic", help="Arithmetic of training steps. auto times both and takes the faster."),
]
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        metavar="FILE",
        help="Fine-tune from these weights: safetensors, or a state dict. The last layer begins fresh for other classes.",
        show_default="random weights",
    ),
]
Freeze = Annotated[bool, typer.Option("--freeze", help="Train the last layer alone; needs --init.")]
Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="NAME",
        help="Learn from this trained network of the output folder, too (distillation).",
        show_default="labels alone",
        autocompletion=_trained,
    ),
]
Temperature = Annotated[
    float | None,
    _checked(
        "--temperature",
        "Divides the logits of teacher and network; needs --teacher.",
        f"{TEMPERATURE:g}",
        check=_up_to(HIGHEST_TEMPERATURE),
    ),
]
TeacherWeight = Annotated[
    float | None,
    _checked(
        "--weight", "Share of the teacher in the loss; needs --teacher.", f"{TEACHER_WEIGHT:g}", "SHARE", check=_share
    ),
]
CheckpointEvery = Annotated[
    float,
    _with_unit(
        "--checkpoint-every",
        units.duration,
        "10m",
        "Save the state within an epoch, too, whenever so long has passed; not under torchrun.",
        show_default=f"{CHECKPOINT_EVERY_S / 60:g}m",
    ),
]
LimitTrain = Annotated[
    int | None,
    typer.Option(
        "--limit-train", metavar="N", min=2, help="Train on so many images only: a quick try.", show_default="all"
    ),
]
LimitTest = Annotated[
    int | None,
    typer.Option(
        "--limit-test", metavar="N", min=1, help="Test on so many images only: a quick try.", show_default="all"
    ),
]
Formats = Annotated[
    list[str] | None, _several("--format", of="formats:FORMATS", help="A deployment format", default="all")
]
PackImages = Annotated[
    int,
    typer.Option("--images", metavar="N", min=1, help="Test images that travel: those of `evaluate --limit-test N`."),
]
PackTo = Annotated[
    Path, typer.Option("--to", metavar="FILE", help="The file to write, to be started by a Python.", dir_okay=False)
]
ResultFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="A *.results.zip of a pack, an output folder, or a results.jsonl beside raw/."),
]
Foreign = Annotated[
    bool, typer.Option("--foreign", help="Take results of artifacts that are not in the output folder, too.")
]
Input = Annotated[
    Literal["float32", "uint8"],
    typer.Option("--input", help="uint8: artifacts that take images as files give them, (N, H, W, 3) in 0..255."),
]
Backends = Annotated[list[str] | None, _several("--backend", of="backends:BACKENDS", help="A runtime", default="all")]
Runtimes = Annotated[
    list[str] | None, _several("--backend", "--runtime", of="backends:BACKENDS", help="A runtime", default="all")
]
DevicesAmong = Annotated[list[str] | None, _several("--device", of="devices:DEVICES", help="A device", default="all")]
Devices = Annotated[list[str] | None, _several("--device", of="devices:DEVICES", help="A device", default="cpu")]
Metrics = Annotated[
    list[str] | None, _several("--metric", of="metrics:METRICS", help="What to measure", default="all but energy")
]
Threads = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Threads that each measurement may use; repeat it to compare several.",
        show_default="1",
    ),
]
Cpus = Annotated[
    str | None,
    typer.Option(
        "--cpus",
        metavar="LIST",
        help="Pin each measurement to these processors: numbers as 4-7,2, or big or little cores.",
        show_default="all that are allowed",
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Images in a call, of latency and throughput; repeat it to compare several.",
        show_default="1 and 64",
    ),
]
Seconds = Annotated[
    float, _with_unit("--seconds", units.duration, "0.5s", "Duration of each timed run.", show_default=f"{SECONDS:g}s")
]
QuickstartSeconds = Annotated[
    float,
    _with_unit(
        "--seconds",
        units.duration,
        "0.5s",
        "Duration of each timed run.",
        show_default=f"{QUICKSTART_SECONDS:g}s",
    ),
]
Rounds = Annotated[
    int,
    typer.Option("--rounds", metavar="N", min=1, help="Runs of each timed configuration; 6 or more give an interval."),
]
TargetInterval = Annotated[
    float | None,
    _with_unit(
        "--target-interval",
        units.share,
        "2%",
        "Stop measuring a configuration early once its interval is within ±this.",
    ),
]
Budget = Annotated[
    float | None, _with_unit("--budget", units.duration, "10m", "Time budget; runs as many rounds as fit.")
]
CoolTo = Annotated[
    float | None,
    typer.Option(
        "--cool-to",
        metavar="CELSIUS",
        min=0,
        max=150,
        help="Before each round, wait until the processor is this cool.",
        show_default="5 K above its temperature at the start",
    ),
]
CoolWait = Annotated[
    float,
    _with_unit(
        "--cool-wait",
        units.duration,
        "60s",
        "Wait at most so long for it, where a temperature can be read.",
        show_default=f"{COOL_WAIT_S:g}s",
    ),
]
Controls = Annotated[
    bool,
    typer.Option(
        "--controls/--no-controls",
        help="Also measure a no-op model (runtime overhead), and one configuration twice (A/A control).",
    ),
]
Timeout = Annotated[
    float,
    _with_unit(
        "--timeout",
        units.duration,
        "10m",
        "Time without progress after which a worker hangs.",
        show_default=f"{TIMEOUT_S / 60:g}m",
    ),
]
MachineName = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help=f"Name of this machine in the results, where two would look alike. {variables.MACHINE_NAME} sets it too.",
        callback=_name_machine,
    ),
]
MemoryLimit = Annotated[
    int | None,
    _with_unit(
        "--memory-limit",
        units.memory,
        "4G",
        f"Memory that each worker may take: G is 2^30 bytes, GB is 10^9. {limits.VARIABLE} sets it too.",
        show_default="90 % of what is available",
        callback=_limit_memory,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Redo existing results.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run program files (.ts, .pt, .pt2) that you did not export yourself.")
]
TrustCode = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-code",
        metavar="MODULE:OBJECT",
        callback=_trust_code,
        help="Import this code, which a record of the output folder names; may be repeated.",
        show_default=False,
    ),
]
Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="Also log the results to MLflow: a folder, sqlite:///FILE, or http://HOST:PORT of a tracking server.",
        show_default=False,
    ),
]
MlflowExperiment = Annotated[
    str | None,
    typer.Option(
        "--mlflow-experiment",
        metavar="NAME",
        help="MLflow experiment to log to.",
        show_default="cifar-deploy/ and the folder's name",
    ),
]
MachinesAmong = Annotated[
    list[str] | None,
    typer.Option(
        "--machine",
        metavar="NAME",
        help="Only this device of the results, by its name or the beginning of it; may be repeated.",
        show_default="all",
    ),
]
AllTables = Annotated[bool, typer.Option("--all", help="Print all tables, not the best few.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, however wide the screen.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_silence,
        help="Print one JSON document instead, for a script. `python -m cifar_deploy.documents FOLDER` writes its schema.",
    ),
]


VerifyMemory = Annotated[
    bool,
    typer.Option("--verify-memory", help="Run each again under a memory limit just above its peak, and below."),
]
MaxIsa = Annotated[
    list[str] | None,
    typer.Option(
        "--max-isa",
        parser=_isa,
        metavar="<sse41|avx2|avx512>",
        autocompletion=_offered(lambda context: _isa_levels()),
        help="Classify again with every INT8 artifact, its runtime limited to these instructions; may be repeated.",
        show_default=False,
    ),
]
Soak = Annotated[
    float | None,
    _with_unit("--soak", units.duration, "10m", "Keep all configurations under load for this long, in rotation."),
]
Hosts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="HOST",
        help="Devices as ssh takes them, or by their names in devices.toml.",
        show_default="all of devices.toml",
    ),
]
DevicesFile = Annotated[
    Path | None,
    typer.Option(
        "--devices",
        metavar="FILE",
        help="TOML file that names devices.",
        show_default="devices.toml, if it is in the current folder",
    ),
]
Inventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        metavar="FILE",
        help="Take the devices of an Ansible inventory: what `ansible-inventory --list` prints; - is stdin.",
        show_default=False,
    ),
]
PackNames = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Trained network, by name; may be repeated.",
        show_default="all",
        autocompletion=_trained,
    ),
]
ReadyPack = Annotated[
    Path | None,
    typer.Option(
        "--pack",
        metavar="FILE",
        help="Measure this file of `pack`, instead of making one.",
        show_default=False,
    ),
]
DevicePython = Annotated[
    str | None,
    typer.Option(
        "--python",
        metavar="PYTHON",
        help="Python on the device, by name or path.",
        show_default="the first of python3, python3.14 ... 3.10 that will do",
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Name of the device in the results.", show_default="the host"),
]
SendPackages = Annotated[
    bool, typer.Option("--send/--no-send", help="Send numpy and the runtimes to a device that lacks them.")
]
KeepThere = Annotated[
    bool, typer.Option("--keep", help="Leave on the device what was sent: the next time sends next to nothing.")
]
EnvironmentName = Annotated[
    str, typer.Argument(metavar="NAME", help="One of `env list`.", autocompletion=_names("environments:ENVIRONMENTS"))
]
Before = Annotated[
    Path, typer.Argument(metavar="A", help="An output folder or a results.jsonl: before, or one machine.")
]
After = Annotated[Path, typer.Argument(metavar="B", help="Another: after, or the other machine.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        metavar="OLD=NEW",
        help="Compare this network or file of A with that of B, though their names differ; may be repeated.",
        show_default=False,
    ),
]
FailIfSlower = Annotated[
    float | None,
    _with_unit(
        "--fail-if-slower",
        units.slowdown,
        "5%",
        "Exit with 1 if a configuration of B is slower by more than this and by more than a tie, or cannot be compared.",
    ),
]
AllowMismatch = Annotated[
    bool, typer.Option("--allow-mismatch", help="Compare even other data, threads, batch sizes or protocols.")
]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Model files; which suffixes are opened, `list` says.")
]
Shapes = Annotated[
    list[Any] | None,
    typer.Option(
        "--shape",
        parser=_shape,
        metavar="NAME=1,3,224,224",
        help="How large an input is, where its file leaves that open; :int64 behind it where its type, too. May be repeated.",
    ),
]
Values = Annotated[
    list[Any] | None,
    typer.Option(
        "--value",
        parser=_value,
        metavar="NAME=16000",
        help="Fill an input with this number, or with true or false, instead of random values. May be repeated.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="FILE",
        help="A model file that the others are compared with.",
        show_default="the first FILE",
    ),
]
ImagesOf = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="DATASET",
        help="Measure accuracy, too, on the test images of this data set.",
        show_default="with --data-dir: the record's of a file of ours, else image_folder",
        autocompletion=_names("datasets:DATASETS"),
    ),
]
ImagesIn = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="PATH", help="Measure accuracy, too, on images in this directory or .zip."),
]
Mean = Annotated[
    Any,
    typer.Option(
        "--mean",
        parser=_channel_numbers,
        metavar="M,M,M",
        help="Subtract this from pixels in 0..1, before a float or quantised input takes them: a number a channel, or one.",
        show_default="0",
    ),
]
Std = Annotated[
    Any,
    typer.Option("--std", parser=_channel_std, metavar="S,S,S", help="Divide by this after --mean.", show_default="1"),
]
Scale = Annotated[
    float | None,
    _checked("--scale", "Multiply by this after --mean and --std: 255 where a file takes pixels in 0..255.", "1", "X"),
]
ChannelOrder = Annotated[
    Literal["rgb", "bgr"] | None,
    typer.Option(
        "--channels", help="Order of the channels that files take, and of --mean and --std.", show_default="rgb"
    ),
]
InputLayout = Annotated[
    Literal["nchw", "nhwc"] | None,
    typer.Option("--layout", help="Order of an input's dimensions, where its shape does not tell.", show_default=False),
]
AnswerOutput = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="The output that is the answer, where a file has several that may be. May be repeated.",
        show_default=False,
    ),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="Keep results and report in FOLDER/bench/, too; without it they are only printed.",
    ),
]


TrainedName = Annotated[
    str, typer.Argument(metavar="NAME", help="A trained network, by name.", autocompletion=_trained)
]
OneFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format of the artifact to profile.",
        autocompletion=_names("formats:FORMATS"),
    ),
]
OneBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help="Runtime to profile it on.",
        autocompletion=_names("backends:BACKENDS"),
        show_default="the first that reads the format and can profile",
    ),
]
ArtifactToRun = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="Folder or main file of an artifact, or the name of a trained network.",
        autocompletion=_trained,
    ),
]
ImagesToLabel = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders: all images below them.")
]
FormatToRun = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format, where ARTIFACT is a name.",
        autocompletion=_names("formats:FORMATS"),
        show_default="onnx",
    ),
]
BackendToRun = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help="Runtime to run it on.",
        autocompletion=_names("backends:BACKENDS"),
        show_default="the first that reads the format and is here",
    ),
]
Top = Annotated[
    int, typer.Option("--top", metavar="K", min=1, help="Classes to show of each image, the likeliest first.")
]
OneThreads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads that the inferences may use.")]
ProfileSeconds = Annotated[
    float,
    _with_unit(
        "--seconds", units.duration, "0.5s", "Time to profile, in 5 to 200 inferences.", show_default=f"{SECONDS:g}s"
    ),
]


def _bound(name: str, parse: Callable[[str, str], float], metavar: str, help: str) -> Any:
    return _with_unit(name, parse, metavar, help, show_default=False)


MaxLatency = Annotated[float | None, _bound("--max-latency", units.latency, "5ms", "Latency of one image at most.")]
Percentile = Annotated[
    Literal["50", "90", "95", "99"],
    typer.Option("--percentile", help="Of latency, for --max-latency: 50 is the median of the rounds."),
]
MaxMemory = Annotated[
    float | None,
    _bound("--max-memory", units.size, "60MB", "Peak resident memory at most: MB is 10^6 bytes, MiB or M is 2^20."),
]
MaxSize = Annotated[
    float | None,
    _bound("--max-size", units.size, "4MB", "Size of all files of the artifact at most, in the same units."),
]
MinAccuracy = Annotated[float | None, _bound("--min-accuracy", units.accuracy, "84%", "Top-1 accuracy at least.")]
MinThroughput = Annotated[float | None, _bound("--min-throughput", units.rate, "500/s", "Images per second at least.")]
MaxEnergy = Annotated[float | None, _bound("--max-energy", units.energy, "5mJ", "Energy of one image at most.")]
Within = Annotated[
    float,
    typer.Option(
        "--within",
        metavar="POINTS",
        min=0,
        max=100,
        help="Ship the fastest within so many percentage points of the best accuracy.",
    ),
]

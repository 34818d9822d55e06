"""The options of the command line, each stated once: its name, its type, its limits and the help that a user reads.

Nothing here imports more than `--help` needs.
"""

import contextlib
import importlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from typer import TyperException
from typer.core import TyperCommand, TyperGroup

from cifar_deploy.core import limits, trust, units
from cifar_deploy.core.errors import DeployError, UsageError
from cifar_deploy.networks import DEFAULT_NETWORKS

if TYPE_CHECKING:
    from cifar_deploy.stages.bench import Shape, Value


# Former names, understood for one more version and shown nowhere.
_FORMER = {
    "--again": "--force",
    "--half": "--save-fp16",
    "--isa": "--max-isa",
    "--precision": "--target-interval",
    "--sustain": "--soak",
    "--unlike": "--allow-mismatch",
}


def today(argument: str) -> str:
    """A former name of an option as its name of today; any other argument as it is."""
    name, equals, value = argument.partition("=")
    return f"{_FORMER.get(name, name)}{equals}{value}"


def told(error: TyperException) -> str:
    """What typer refuses, as every error is told: the option, what is wrong, and where the help is."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    help = f"see {context.command_path if context else 'cifar-deploy'} --help"
    if parameter is None:
        message = error.format_message().rstrip(".?").replace("(s)", "").replace(". Did you mean", "; did you mean")
        return f"{message[:1].lower()}{message[1:]}; {help}"
    what = error.message.rstrip(".").removeprefix("Value error, ").replace("Input should be", "should be")
    what = re.sub(r", unable to parse string as .*", "", what) or "is missing"
    return f"{_named(parameter)}: {what}" if "; " in what else f"{_named(parameter)}: {what}; {help}"


class _PlainHelp:
    """Help is printed as all else is: a character that stdout's encoding lacks becomes its escape. Typer would print UTF-8."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option:
            option.callback = _print_help
        return option


def _print_help(ctx: Any, parameter: Any, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        print(ctx.get_help())
        raise typer.Exit


class Group(_PlainHelp, TyperGroup):
    """Its help shows the whole first sentence of each command. Without a command it prints its help and refuses."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise UsageError(f"{ctx.command_path}: lacks a command; give one of {', '.join(self.list_commands(ctx))}")
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, _first_sentence(command.help or "")) for name, command in commands if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    sentence, point, _ = " ".join(text.split()).partition(". ")
    return sentence + point.strip()


class Command(_PlainHelp, TyperCommand):
    """A command that refuses an empty value, a second value of an option that takes one, and a folder that is gone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = [self._today(arg) for arg in args]
        try:
            if not ctx.resilient_parsing:  # of shell completion
                self._check(*self.make_parser(ctx).parse_args(list(args))[::2])
            return super().parse_args(ctx, args)
        except TyperException as error:
            if getattr(error, "ctx", ctx) is None:  # typer's parser does not say which command it refuses
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            os.getcwd()
        except OSError as error:
            raise DeployError(f"working directory: is gone ({error.strerror}); change to another one") from error
        return super().invoke(ctx)

    def _today(self, argument: str) -> str:
        """As `today`, where the command has such an option."""
        known = {name for parameter in self.params for name in parameter.opts}
        return found if (found := today(argument)).partition("=")[0] in known else argument

    def _check(self, given: dict[str, Any], order: list[Any]) -> None:
        for parameter in self.params:
            values = given.get(parameter.name)
            if "" in (values if isinstance(values, list | tuple) else [values]):
                raise UsageError(f"{_named(parameter)}: is empty; give a value or leave it out")
        for parameter, count in Counter(order).items():
            is_flag = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            if count > 1 and not is_flag and not getattr(parameter, "multiple", False):
                raise UsageError(f"{_named(parameter)}: was given {count} times; give it once")


def _named(parameter: Any) -> str:
    return next((name for name in parameter.opts if name.startswith("--")), str(parameter.metavar or parameter.name))


def _names(registry: str) -> Callable[[], list[str]]:
    """For shell completion, of a registry as "module:NAME"."""

    def names() -> list[str]:
        module, _, name = registry.partition(":")
        return list(getattr(importlib.import_module(f"cifar_deploy.{module}"), name))

    return names


def _trained(context: typer.Context) -> list[str]:
    """For shell completion: the trained networks of the output folder that the line names so far."""
    from cifar_deploy.core.store import Store

    with contextlib.suppress(OSError):
        return Store(context.params.get("out") or ".").names()
    return []


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value:g} is not a positive number")
    return value


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


def _silence(context: typer.Context, as_json: bool) -> bool:
    """For as long as the command runs, the document alone is on stdout."""
    if as_json:
        from cifar_deploy import console

        context.with_resource(console.silence())
    return as_json


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
NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK", help="A network, or module:function.", autocompletion=_names("networks:NETWORKS")
    ),
]
NetworkOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help=f"A network, or module:function; may be repeated. [default: {', '.join(DEFAULT_NETWORKS)}]",
        autocompletion=_names("networks:NETWORKS"),
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Trained networks, by name. [default: all]",
        show_default=False,
        autocompletion=_trained,
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What to call this training. [default: the network]")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="RECIPE", help="How to train.", autocompletion=_names("recipes:RECIPES"))
]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="Instead of the recipe's.")]
TrainBatch = Annotated[
    int | None, typer.Option("--train-batch-size", metavar="N", min=2, help="Instead of the recipe's.")
]
RecipeBatch = Annotated[int | None, typer.Option("--batch-size", metavar="N", min=2, help="Instead of the recipe's.")]
AllThreads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads for training. [default: all that are allowed]"),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="NUMBER",
        help="Instead of the recipe's.",
        callback=lambda x: x if x is None else _positive(x),
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Instead of the recipe's.")]
TrainThreads = Annotated[
    int | None,
    typer.Option("--train-threads", metavar="N", min=1, help="Threads for training. [default: all that are allowed]"),
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
BFloat16 = Annotated[
    bool,
    typer.Option("--bf16", help="Compute in bfloat16: faster for some networks, on processors or GPUs that have it."),
]
CheckpointEvery = Annotated[
    float,
    typer.Option(
        "--checkpoint-every",
        parser=_parsed(units.duration, "--checkpoint-every"),
        metavar="10m",
        help="Save the state within an epoch, too, whenever so long has passed; not under torchrun. [default: 10m]",
        show_default=False,
    ),
]
LimitTrain = Annotated[
    int | None, typer.Option("--limit-train", metavar="N", min=2, help="Train on so many images only: a quick try.")
]
LimitTest = Annotated[
    int | None, typer.Option("--limit-test", metavar="N", min=1, help="Test on so many images only: a quick try.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="May be repeated. [default: all]",
        autocompletion=_names("formats:FORMATS"),
        show_default=False,
    ),
]
Input = Annotated[
    Literal["float32", "uint8"],
    typer.Option("--input", help="uint8: artifacts that take images as files give them, (N, H, W, 3) in 0..255."),
]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help="May be repeated. [default: all]",
        autocompletion=_names("backends:BACKENDS"),
        show_default=False,
    ),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "--runtime",
        metavar="BACKEND",
        help="May be repeated. [default: all]",
        autocompletion=_names("backends:BACKENDS"),
        show_default=False,
    ),
]
DevicesAmong = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="May be repeated. [default: all]",
        autocompletion=_names("devices:DEVICES"),
        show_default=False,
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="May be repeated. [default: cpu]",
        autocompletion=_names("devices:DEVICES"),
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="May be repeated. [default: all but energy]",
        autocompletion=_names("metrics:METRICS"),
        show_default=False,
    ),
]
Threads = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Threads that each measurement may use; repeat it to compare several. [default: 1]",
        show_default=False,
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Images in a call, of latency and throughput; repeat it to compare several. [default: 1 and 64]",
        show_default=False,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds", parser=_parsed(units.duration, "--seconds"), metavar="0.5s", help="Duration of each timed run."
    ),
]
Rounds = Annotated[
    int,
    typer.Option("--rounds", metavar="N", min=1, help="Runs of each timed configuration; 6 or more give an interval."),
]
TargetInterval = Annotated[
    float | None,
    typer.Option(
        "--target-interval",
        parser=_parsed(units.share, "--target-interval"),
        metavar="2%",
        help="Stop measuring a configuration early once its interval is within ±this.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        parser=_parsed(units.duration, "--budget"),
        metavar="10m",
        help="Time budget; runs as many rounds as fit.",
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
    typer.Option(
        "--timeout",
        parser=_parsed(units.duration, "--timeout"),
        metavar="10m",
        help="Time without progress after which a worker hangs. [default: 10m]",
        show_default=False,
    ),
]
MemoryLimit = Annotated[
    int | None,
    typer.Option(
        "--memory-limit",
        parser=_parsed(units.memory, "--memory-limit"),
        callback=_limit_memory,
        metavar="4G",
        help=f"Memory that each worker may take; so does {limits.VARIABLE}. [default: 90 % of what is available]",
        show_default=False,
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
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_silence,
        help="Print one JSON document instead, as docs/schemas/ describes it, for a script.",
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
        metavar="[sse41|avx2|avx512]",
        autocompletion=_isa_levels,
        help="Classify again with every INT8 artifact, its runtime limited to these instructions; may be repeated.",
        show_default=False,
    ),
]
Soak = Annotated[
    float | None,
    typer.Option(
        "--soak",
        parser=_parsed(units.duration, "--soak"),
        metavar="10m",
        help="Keep all configurations under load for this long, in rotation.",
    ),
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
    typer.Option(
        "--fail-if-slower",
        parser=_parsed(units.slowdown, "--fail-if-slower"),
        metavar="5%",
        help="Exit with 1 if a configuration of B is slower by more than this and by more than a tie, or cannot be compared.",
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
Kept = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="Keep results and report in FOLDER/bench/, too; without it they are only printed.",
    ),
]


TrainedName = Annotated[str, typer.Argument(help="A trained network, by name.")]
OneFormat = Annotated[
    str, typer.Option("--format", help="Of the artifact to profile.", autocompletion=_names("formats:FORMATS"))
]
OneBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="Where to profile it. (default: the first that reads the format and can profile)",
        autocompletion=_names("backends:BACKENDS"),
        show_default=False,
    ),
]
OneThreads = Annotated[int, typer.Option("--threads", min=1, help="Threads that the inferences may use.")]
ProfileSeconds = Annotated[
    float, typer.Option("--seconds", callback=_positive, help="Time to profile, in 5 to 200 inferences.")
]


def _limit(option: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        from cifar_deploy.choice.limits import parsed

        return parsed(option, text)

    return parse


def _bound(option: str, metavar: str, help: str) -> Any:
    return typer.Option(option, parser=_limit(option), metavar=metavar, help=help, show_default=False)


MaxLatency = Annotated[float | None, _bound("--max-latency", "5ms", "Latency of one image at most.")]
Percentile = Annotated[
    Literal["50", "90", "95", "99"],
    typer.Option("--percentile", help="Of latency, for --max-latency: 50 is the median of the rounds."),
]
MaxMemory = Annotated[float | None, _bound("--max-memory", "60MB", "Peak resident memory at most.")]
MaxSize = Annotated[float | None, _bound("--max-size", "4MB", "Size of all files of the artifact at most.")]
MinAccuracy = Annotated[float | None, _bound("--min-accuracy", "84%", "Top-1 accuracy at least.")]
MinThroughput = Annotated[float | None, _bound("--min-throughput", "500/s", "Images per second at least.")]
MaxEnergy = Annotated[float | None, _bound("--max-energy", "5mJ", "Energy of one image at most.")]
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

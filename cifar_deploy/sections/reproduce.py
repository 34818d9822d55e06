"""The commands that make the results again, as the records hold their settings. Paths are left to the reader."""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.records import (
    Addition,
    Artifact,
    Checkpoint,
    Data,
    External,
    Feed,
    Recipe,
    Result,
    Sustained,
    Trained,
    Training,
    UnderIsa,
    UnderLimit,
)
from cifar_deploy.core.store import CHECKPOINT
from cifar_deploy.datasets import LEFT_OUT, WITHOUT_IMAGES
from cifar_deploy.formats import CALIBRATION
from cifar_deploy.metrics import METRICS, RecordedMetric, default_metrics
from cifar_deploy.metrics.summary import asked_batch_size, is_timed
from cifar_deploy.recipes import RECIPES

_PROGRAM = "cifar-deploy"
_FOLDER = "FOLDER"
# A data set that lies where its user put it.
_GIVEN_DATA = "image_folder"
# The file of --classes.
_LABELS = "LABELS"

# A recipe's fields that an option replaces.
_NUMBERS = {
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "bias_rate": "--bias-rate",
    "seed": "--seed",
    "limit_train": "--limit-train",
    "batch_norm": "--batch-norm",
    "arithmetic": "--arithmetic",
}
_FLAGS = {("weights", "float16"): "--save-fp16", ("freeze", True): "--freeze"}


def commands(
    checkpoints: Mapping[str, Checkpoint], current: Sequence[Result], all_results: Sequence[Result]
) -> dict[str, str]:
    """What each command does, by the command: train, export, evaluate, report; of external models bench alone.

    Args:
        checkpoints: The trainings, by name.
        current: What the report shows.
        all_results: Those under limits and loads among them.
    """
    report = {f"{_PROGRAM} report": "makes this page again from results.jsonl, byte for byte"}
    if isinstance(current[-1].job.artifact.origin, External):
        return {_bench(current): "measures the files again (a name stands for the path of its file)", **report}
    shown = [result for result in current if isinstance(result.job.artifact.origin, Trained)]
    found = {}
    for name in sorted(checkpoints, key=lambda name: len(_teachers(name, checkpoints))):
        checkpoint = checkpoints[name]
        training = checkpoint.training
        if isinstance(training, Addition):
            found[_add(training, checkpoint)] = f"adds {name}{apart(checkpoint, checkpoints)}"
        else:
            found[training_command(training, checkpoint)] = f"trains {name}{apart(checkpoint, checkpoints)}"
    for names, options in _exports(shown):
        found[_line("export", *names, *options)] = "exports these"
    for line in _evaluations(shown, all_results):
        found[line] = "measures the artifacts (with --force anew)"
    return {**found, **report}


def _line(*words: object) -> str:
    return " ".join([_PROGRAM, *(shlex.quote(str(word)) for word in words)])


def _each(option: str, values: Iterable[object]) -> list[object]:
    return [word for value in dict.fromkeys(values) for word in (option, value)]


def _add(addition: Addition, checkpoint: Checkpoint) -> str:
    words: list[object] = ["add", addition.name]
    if addition.name != addition.network:
        words += ["--network", addition.network]
    if addition.weights:
        words += ["--weights", addition.weights.name]
        if addition.entry:
            words += ["--entry", addition.entry]
    words += _data(addition.data)
    if normalisation := addition.normalisation:
        words += ["--mean", _numbers(normalisation.mean), "--std", _numbers(normalisation.std)]
        if normalisation.channels != "rgb":
            words += ["--channels", normalisation.channels]
    if checkpoint.test_images < addition.data.test_images:
        words += ["--limit-test", checkpoint.test_images]
    return _line(*words)


def _numbers(values: Iterable[float]) -> str:
    return ",".join(map(str, values))


def _data(data: Data) -> list[object]:
    words: list[object] = ["--dataset", data.dataset]
    if data.dataset == _GIVEN_DATA:
        words += ["--data-dir", "PATH"]
    return [*words, *_prepared(data)]


def training_command(training: Training, checkpoint: Checkpoint) -> str:
    """The command that trains a network again as its record says. PATH stands for the place of its images."""
    words: list[object] = ["train", training.network]
    if training.name != training.network:
        words += ["--name", training.name]
    words += _data(training.data)
    words += ["--recipe", training.recipe.name, *_replaced(training.recipe)]
    if checkpoint.test_images < training.data.test_images:
        words += ["--limit-test", checkpoint.test_images]
    words += ["--device", checkpoint.device, "--threads", checkpoint.threads]
    line = _line(*words)
    if checkpoint.ranks > 1:
        line = line.replace(_PROGRAM, f"torchrun --nproc-per-node {checkpoint.ranks} -m cifar_deploy", 1)
    return line


def _prepared(data: Data) -> Iterator[object]:
    """The options that say how its images were prepared."""
    how = data.preprocessing
    if how:
        if len(how.resize) == 2 and not how.crop:
            yield from ("--size", _size(how.resize))
        elif len(how.resize) == 1 and how.crop == how.resize * 2:
            yield from ("--size", how.resize[0])
        else:
            yield from ("--resize", _size(how.resize)) if how.resize else ()
            yield from ("--crop", _size(how.crop)) if how.crop else ()
        if how.resize and how.interpolation != "bilinear":
            yield from ("--interpolation", how.interpolation)
    if _has_named_outputs(data):
        yield from ("--classes", _LABELS)
    if any(warning.startswith(LEFT_OUT) for warning in data.warnings or ()):
        yield "--skip-broken"


def _size(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _has_named_outputs(data: Data) -> bool:
    """Whether its classes are those of a file: their order is not the data set's, or some have no images."""
    lacks = any(warning.startswith(WITHOUT_IMAGES) for warning in data.warnings or ())
    return lacks or list(data.classes) != sorted(data.classes)


def _today(recipe: Recipe) -> Recipe | None:
    """This version's recipe of the same name, or None."""
    if recipe.name not in RECIPES:
        return None
    return RECIPES[recipe.name]


def _changed(recipe: Recipe) -> dict[str, Any]:
    """The fields in which it is not the recipe of its name."""
    today = _today(recipe)
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe) if field.name != "name"}
    return {name: value for name, value in fields.items() if not today or value != getattr(today, name)}


def _replaced(recipe: Recipe) -> Iterator[object]:
    """The options that replace settings of the recipe."""
    changed = _changed(recipe)
    for name, option in _NUMBERS.items():
        if changed.get(name) is not None:
            yield from (option, _short(changed[name]))
    if recipe.init:
        yield from ("--init", recipe.init.name)
    if teacher := recipe.teacher:
        yield from ("--teacher", teacher.name)
        yield from ("--temperature", _short(teacher.temperature), "--weight", _short(teacher.weight))
    yield from (flag for field, flag in _FLAGS.items() if field in changed.items())


def _short(value: object) -> object:
    """As people write it: 16, not 16.0."""
    return str(value).removesuffix(".0") if isinstance(value, float) else value


def _teachers(name: str, checkpoints: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """The networks that must be trained before this one, its own teacher first."""
    found: tuple[str, ...] = ()
    while (checkpoint := checkpoints.get(name)) and checkpoint.recipe and (teacher := checkpoint.recipe.teacher):
        name = teacher.name
        if name in found:
            break
        found = (*found, name)
    return found


def apart(checkpoint: Checkpoint, others: Mapping[str, Checkpoint]) -> str:
    """The conditions that no option of its command covers, in brackets. `others` are networks by name, its teacher among them."""
    training, told = checkpoint.training, []
    if training.data.dataset == _GIVEN_DATA:
        told.append("PATH: the folder or .zip of the images")
    if _has_named_outputs(training.data):
        told.append(f"{_LABELS}: a file of the classes, one a line, in the order of this page")
    if isinstance(training, Addition):
        if training.weights:
            told.append(f"the weights' sha256 is {training.weights.sha256[:16]}")
        return f" ({'; '.join(told)})" if told else ""
    recipe = training.recipe
    if not _today(recipe):
        told.append(f"the recipe {recipe.name} is not one of this version")
    else:
        optional = {*_NUMBERS, *(field for field, _ in _FLAGS), "init", "teacher"}
        told += [f"no option sets its {name.replace('_', ' ')}" for name in _changed(recipe) if name not in optional]
    if teacher := recipe.teacher:
        there = others.get(teacher.name)
        verb = "add" if there and isinstance(there.training, Addition) else "train"
        told.append(f"{verb} {teacher.name} first; its weights' sha256 is {teacher.weights.sha256[:16]}")
    if checkpoint.changes:
        told.append("its setting changed on the way")
    return f" ({'; '.join(told)})" if told else ""


def _exports(shown: Sequence[Result]) -> Iterator[tuple[tuple[str, ...], list[object]]]:
    """Names, and the options of one export: trainings with the same formats together."""
    artifacts: dict[tuple[str, bool], dict[str, list[str]]] = {}  # formats, by options and name
    for artifact in _artifacts(shown):
        if artifact.format and artifact.format != CHECKPOINT:
            options = artifact.input, CALIBRATION in artifact.choices
            formats = artifacts.setdefault(options, {}).setdefault(artifact.name, [])
            if artifact.format not in formats:
                formats.append(artifact.format)
    for (input, is_calibrated), by_name in artifacts.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, formats in by_name.items():
            alike.setdefault(tuple(sorted(formats)), []).append(name)
        for formats_, names in alike.items():
            calibration = ("--calibration-data", "IMAGES") if is_calibrated else ()
            given = ("--input", input) if input != "float32" else ()
            yield tuple(names), [*given, *calibration, *_each("--format", formats_)]


def _artifacts(shown: Iterable[Result]) -> Iterator[Artifact]:
    yield from (result.job.artifact for result in shown)


class _Conditions(NamedTuple):
    """What the results of one command share. None: the result does not depend on it."""

    device: str
    seconds: float | None
    limit_test: int | None
    cpus: str | None


def _evaluations(shown: Sequence[Result], all_results: Sequence[Result]) -> Iterator[str]:
    """A command for each device, list of CPUs, duration and choice of test images. What depends on none of these goes along."""
    measured = [result for result in shown if not isinstance(METRICS[result.job.metric], RecordedMetric)]
    groups: dict[_Conditions, list[Result]] = {}
    usual: dict[tuple[str, str | None], _Conditions] = {}
    for result in measured:
        job = result.job
        alike = job.device, job.cpus
        first = usual.get(alike, _Conditions(job.device, None, None, job.cpus))
        usual[alike] = first._replace(
            seconds=first.seconds or job.seconds, limit_test=first.limit_test or job.limit_test
        )
    for result in measured:
        job, first = result.job, usual[result.job.device, result.job.cpus]
        of_one = first._replace(seconds=job.seconds or first.seconds, limit_test=job.limit_test or first.limit_test)
        groups.setdefault(of_one, []).append(result)
    for conditions, results in groups.items():
        names = dict.fromkeys(artifact.name for artifact in _artifacts(results))
        trials = [result for result in all_results if result.job.device == conditions.device]
        yield _line("evaluate", *names, *_measuring(conditions, results, shown), *_trials(trials))


def _measuring(conditions: _Conditions, results: Sequence[Result], shown: Sequence[Result]) -> Iterator[object]:
    """What is measured, and how. What `evaluate` measures anyway is not named."""
    variants = {artifact.variant for artifact in _artifacts(results)}
    if variants != {artifact.variant for artifact in _artifacts(shown)}:  # else they are all that is exported
        yield from _each("--format", sorted(variants))
    formats, backends = (
        {artifact.format for artifact in _artifacts(results)},
        {result.job.backend for result in results},
    )
    if any(formats & {*BACKENDS[name].reads} for name in BACKENDS if name not in backends):
        yield from _each("--backend", sorted(backends))
    if conditions.device != "cpu":
        yield from ("--device", conditions.device)
    metrics = {result.job.metric for result in results}
    usual = {name for name in default_metrics() if not isinstance(METRICS[name], RecordedMetric)}
    if metrics != usual:
        yield from _each("--metric", (name for name in METRICS if name in metrics))
    yield from _timed(conditions, results)
    yield from _each("--batch-size", sorted({size for result in results if (size := asked_batch_size(result.job))}))
    if conditions.limit_test:
        yield from ("--limit-test", conditions.limit_test)


def _timed(conditions: _Conditions, results: Sequence[Result]) -> Iterator[object]:
    yield from _each("--threads", sorted({result.job.threads for result in results}))
    if conditions.cpus:
        yield from ("--cpus", conditions.cpus)
    if conditions.seconds:
        yield from ("--seconds", f"{conditions.seconds:g}s")
    if rounds := [len(result.runs) for result in results if is_timed(result.job)]:
        yield from ("--rounds", max(rounds))


def _trials(results: Sequence[Result]) -> Iterator[object]:
    """The options behind results that are not in the main table."""
    trials = [result.job.trial for result in results]
    if any(isinstance(trial, UnderLimit) for trial in trials):
        yield "--verify-memory"
    yield from _each("--max-isa", (trial.isa for trial in trials if isinstance(trial, UnderIsa)))
    if soaks := [trial.seconds for trial in trials if isinstance(trial, Sustained)]:
        yield from ("--soak", f"{max(soaks):g}s")
    if not any(result.control for result in results):
        yield "--no-controls"


def _bench(current: Sequence[Result]) -> str:
    jobs = [result.job for result in current]
    takes = {tensor.name: tensor for job in jobs for tensor in job.artifact.takes}
    words: list[object] = [PurePath(name).name for name in dict.fromkeys(job.artifact.name for job in jobs)]
    words += _each("--backend", (job.backend for job in jobs))
    for name, tensor in takes.items():
        if tensor.value is not None:
            words += ["--value", f"{name}={str(tensor.value).lower()}"]
        elif tensor.shape:
            words += ["--shape", f"{name}={','.join(map(str, tensor.shape))}"]
    words += _fed([job.artifact.feed for job in jobs if job.artifact.feed])
    seconds = next((job.seconds for job in jobs if job.seconds), None)
    words += _each("--limit-test", (job.limit_test for job in jobs if job.limit_test))
    words += _timed(_Conditions(jobs[0].device, seconds, None, jobs[0].cpus), current)
    return _line("bench", *words, "--out", _FOLDER)


def _fed(feeds: Sequence[Feed]) -> Iterator[object]:
    """The options of the images that files classified. The crop is each file's own."""
    if not feeds:
        return
    data = feeds[0].data
    how = data.preprocessing
    if how and how.resize:
        how = dataclasses.replace(how, crop=())
    yield from _data(dataclasses.replace(data, preprocessing=how))
    told = next((feed for feed in feeds if feed.normalisation), feeds[0])
    if told.normalisation and any(told.normalisation.mean):
        yield from ("--mean", _numbers(told.normalisation.mean))
    if told.normalisation and set(told.normalisation.std) != {1.0}:
        yield from ("--std", _numbers(told.normalisation.std))
    if scale := next((feed.scale for feed in feeds if feed.scale != 1), None):
        yield from ("--scale", f"{scale:g}")
    if told.channels == "bgr":
        yield from ("--channels", "bgr")
    yield from _each("--output", (feed.output for feed in feeds))

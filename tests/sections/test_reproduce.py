"""The commands of a report make its results again: they hold every setting of the records, and the command line takes them."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import cli
from cifar_deploy.core.journal import grouped, read_lines
from cifar_deploy.core.records import (
    Addition,
    Checkpoint,
    Data,
    External,
    Feed,
    File,
    Normalisation,
    Preprocessing,
    Teacher,
    Tensor,
    Trained,
    Training,
)
from cifar_deploy.sections import reproduce
from cifar_deploy.stages.prepare import preparation
from cifar_deploy.stages.report import current_of
from tests.probes import a_checkpoint, a_job, a_run, a_session
from tests.stages.test_pairing import file
from tests.stages.test_report import no_raw

WEIGHTS = File(name="weights.safetensors", bytes=1, sha256="0" * 64)
SHIPPED = Path(__file__).parents[2] / "reports" / "results.jsonl"


def parsed(line: str) -> dict[str, object]:
    """What the command line makes of it, without doing it."""
    program, command, *arguments = shlex.split(line)
    assert program == "cifar-deploy"
    group = cli.tree()
    found = group.commands[command]  # type: ignore[attr-defined]
    return dict(found.make_context(command, arguments).params)


def of_one(data: Data | None = None, **recipe: object) -> list[str]:
    job = a_job()
    checkpoint = job.artifact.checkpoint
    assert checkpoint
    changed = dataclasses.replace(checkpoint.training.recipe, **recipe)  # type: ignore[arg-type]
    training = dataclasses.replace(checkpoint.training, network="resnet8", name="small", recipe=changed)
    if data:
        training = dataclasses.replace(training, data=data)
    trained = dataclasses.replace(checkpoint, training=training)
    job = dataclasses.replace(job, artifact=dataclasses.replace(job.artifact, origin=Trained(checkpoint=trained)))
    results = grouped([a_run(job=job, session=a_session(job), round=index) for index in range(7)])
    return list(reproduce.commands({"small": trained}, results, results))


def test_every_command_of_the_shipped_results_parses_with_the_settings_of_the_records() -> None:
    results = grouped(read_lines(SHIPPED).runs)
    current = current_of(results, no_raw).results
    checkpoints: dict[str, Checkpoint] = {
        result.job.artifact.name: result.job.artifact.checkpoint for result in current if result.job.artifact.checkpoint
    }
    lines = list(reproduce.commands(checkpoints, current, results))
    found = [(line.split()[1], parsed(line)) for line in lines]
    assert [command for command, _ in found] == [
        *["train"] * len(checkpoints),
        *["export"] * (len(found) - len(checkpoints) - 2),
        "evaluate",
        "report",
    ]
    for _, settings in found[: len(checkpoints)]:
        checkpoint = checkpoints[str(settings["name"] or settings["network"])]
        shared = ("epochs", "batch_size", "learning_rate", "bias_rate", "seed", "batch_norm", "save_fp16", "arithmetic")
        given: dict[str, Any] = {name: settings[name] for name in shared}
        recipe = cli._recipe(str(settings["recipe"]), limit=settings["limit_train"], **given)
        wanted = checkpoint.training.recipe
        teacher = wanted.teacher
        taught = (teacher.name, teacher.temperature, teacher.weight) if teacher else (None, None, None)
        assert recipe == dataclasses.replace(wanted, teacher=None) and settings["threads"] == checkpoint.threads
        assert (settings["teacher"], settings["temperature"], settings["weight"]) == taught
    evaluate = found[-2][1]
    jobs = [result.job for result in current if isinstance(result.job.artifact.origin, Trained)]
    exported = {
        (format, settings["input"])
        for command, settings in found
        if command == "export"
        for format in settings["format"]
    }
    assert exported == {
        (job.artifact.format, job.artifact.input) for job in jobs if job.artifact.format != "checkpoint"
    }
    assert not evaluate["format"] and not evaluate["backend"], "all that is exported, on all that reads it"
    assert (evaluate["rounds"], evaluate["seconds"], evaluate["threads"]) == (7, 0.5, [1])
    assert evaluate["controls"] is True and not any("/" in line for line in lines)


def test_replaced_settings_are_options_and_what_no_option_sets_is_said() -> None:
    (train, *_) = of_one(
        name="original", optimizer="adam", epochs=3, bias_rate=4.0, seed=7, arithmetic="bfloat16", limit_train=100
    )
    settings = parsed(train)
    assert (settings["network"], settings["name"], settings["recipe"]) == ("resnet8", "small", "original")
    assert (settings["epochs"], settings["seed"], settings["limit_train"], settings["arithmetic"]) == (
        3,
        7,
        100,
        "bfloat16",
    )
    assert settings["learning_rate"] is None or "--learning-rate" in train
    assert settings["bias_rate"] == 4.0


def test_a_teacher_is_named_with_what_its_answers_weigh() -> None:
    teacher = Teacher(name="large", network="resnet20", weights=WEIGHTS, temperature=2.5, weight=0.75)
    (train, *_) = found = of_one(name="original", optimizer="adam", teacher=teacher)
    settings = parsed(train)
    assert (settings["teacher"], settings["temperature"], settings["weight"]) == ("large", 2.5, 0.75)
    assert "no option" not in str(found)


def test_a_teacher_is_trained_before_its_pupil() -> None:
    checkpoint = a_checkpoint()
    training = checkpoint.training
    assert isinstance(training, Training)

    def of(name: str, teacher: str | None) -> Checkpoint:
        taught = (
            Teacher(name=teacher, network="resnet20", weights=WEIGHTS, temperature=4, weight=1 / 3) if teacher else None
        )
        recipe = dataclasses.replace(training.recipe, teacher=taught)
        return dataclasses.replace(checkpoint, training=dataclasses.replace(training, name=name, recipe=recipe))

    trainings = {"a": of("a", "b"), "b": of("b", "c"), "c": of("c", None), "d": of("d", "elsewhere")}
    results = grouped([a_run()])
    found = reproduce.commands(trainings, results, results)
    lines = {line.split()[4]: line for line in found if line.startswith("cifar-deploy train")}
    order = list(lines)
    assert order.index("c") < order.index("b") < order.index("a")
    assert f"--weight {1 / 3!r}" in lines["a"] and "train elsewhere first" in found[lines["d"]]
    elsewhere = Addition(name="c", network="resnet20", data=training.data, normalisation=None, weights=WEIGHTS)
    trainings["c"] = dataclasses.replace(checkpoint, training=elsewhere, curve=())
    assert "add c first" in reproduce.commands(trainings, results, results)[lines["b"]]


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        (Preprocessing(resize=(224,), crop=(224, 224)), "--size 224 "),
        (Preprocessing(resize=(48, 64), interpolation="bicubic"), "--size 48x64 --interpolation bicubic "),
        (Preprocessing(resize=(256,), crop=(224, 224)), "--resize 256 --crop 224x224 "),
        (Preprocessing(resize=(256,), interpolation="lanczos"), "--resize 256 --interpolation lanczos "),
        (Preprocessing(crop=(24, 32)), "--crop 24x32 "),
    ],
)
def test_the_preprocessing_is_said_by_options_that_give_it_again(preprocessing: Preprocessing, words: str) -> None:
    (train, *_) = of_one(dataclasses.replace(a_checkpoint().training.data, preprocessing=preprocessing))
    assert f" {words}" in train
    names = ("size", "resize", "crop", "interpolation")
    assert preparation(*map(parsed(train).get, names)).preprocessing == preprocessing  # type: ignore[arg-type]


def test_named_outputs_and_images_left_out_are_said_by_options() -> None:
    data = a_checkpoint().training.data
    (plain, *_) = of_one()
    assert "--classes" not in plain and "--skip-broken" not in plain
    (turned, *_) = of_one(dataclasses.replace(data, classes=tuple(reversed(data.classes))))
    assert parsed(turned)["classes"] == Path("LABELS")
    warnings = ("outputs without images: 1 of 10 (emu)", "left out, as they cannot be read: 1 image (a is empty)")
    (train, *_) = of_one(dataclasses.replace(data, warnings=warnings))
    assert parsed(train)["classes"] == Path("LABELS") and parsed(train)["skip_broken"] is True


def test_a_name_with_spaces_or_quotes_stays_one_word() -> None:
    assert shlex.split(reproduce._line("train", "a 'b' $c")) == ["cifar-deploy", "train", "a 'b' $c"]


def test_the_files_of_bench_are_named_with_their_shapes_and_values() -> None:
    image = Tensor(name="x", dtype="float32", shape=(1, 3, 8, 8))
    rate = Tensor(name="rate", dtype="int64", shape=(), value=16)
    results = [file("models/v1.onnx", takes=image), file("v2.onnx", takes=rate)]
    line, report = reproduce.commands({}, results, results)
    settings = parsed(line)
    assert settings["file"] == [Path("v1.onnx"), Path("v2.onnx")] and report == "cifar-deploy report"
    assert "--shape x=1,3,8,8" in line and "--value rate=16" in line and "FOLDER" in line


def test_the_images_of_bench_are_named_with_how_files_take_them() -> None:
    image = Tensor(name="x", dtype="float32", shape=(1, 3, 8, 8))
    job = a_job()
    assert job.artifact.data
    data = dataclasses.replace(
        job.artifact.data,
        dataset="image_folder",
        preprocessing=Preprocessing(resize=(9,), crop=(8, 8), interpolation="bicubic"),
    )
    own = Normalisation(mean=(0.4, 0.45, 0.5), std=(1.0, 1.0, 1.0), channels="bgr")
    feed = Feed(
        data=data, layout="nchw", dtype="float32", scale=255.0, normalisation=own, output="y", place=0, answer="scores"
    )
    cost = file("v1.onnx", takes=image)
    origin = External(path="v1.onnx", takes=(image,), feed=feed)
    job = dataclasses.replace(cost.job, artifact=dataclasses.replace(cost.job.artifact, origin=origin))
    results = [cost, *grouped([a_run(job=job, session=None)])]
    line, _ = reproduce.commands({}, results, results)
    settings = parsed(line)
    names = ("dataset", "data_dir", "resize", "crop", "interpolation", "mean", "std", "scale", "channels", "output")
    assert [settings[name] for name in names] == [
        *("image_folder", Path("PATH"), "9", None, "bicubic", own.mean, None, 255.0, "bgr", ["y"])
    ]


def test_of_some_runtimes_those_are_named() -> None:
    job = dataclasses.replace(a_job(), backend="pytorch_compile")
    results = grouped([a_run(job=job, session=a_session(job), round=index) for index in range(3)])
    (evaluate,) = (line for line in reproduce.commands({}, results, results) if " evaluate " in line)
    settings = parsed(evaluate)
    assert (settings["backend"], settings["rounds"], settings["controls"]) == (["pytorch_compile"], 3, False)

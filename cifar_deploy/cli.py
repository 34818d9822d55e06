"""The commands: one short function each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import cifar_deploy
from cifar_deploy import config, options, process, steps
from cifar_deploy.commands import App
from cifar_deploy.core.defaults import (
    CHECKPOINT_EVERY_S,
    COOL_WAIT_S,
    DATASET,
    PACK_IMAGES,
    QUICKSTART_ROUNDS,
    QUICKSTART_SECONDS,
    RECIPE,
    ROUNDS,
    SECONDS,
    TIMEOUT_S,
)
from cifar_deploy.core.errors import Corrupt, DeployError, FailureKind, UsageError, few
from cifar_deploy.core.on_first_use import Module
from cifar_deploy.networks import DEFAULT_NETWORKS

if TYPE_CHECKING:
    from cifar_deploy import console, documents, environments, pipeline, recipes, selftest
    from cifar_deploy.choice import answer, limits
    from cifar_deploy.choice import choose as choosing
    from cifar_deploy.core import affinity, environment, files, machine, progress, ranks, untrusted
    from cifar_deploy.core.environment import Made
    from cifar_deploy.core.records import Artifact, Isa, Recipe, Result
    from cifar_deploy.core.store import Store
    from cifar_deploy.core.table import Table
    from cifar_deploy.remote import inventory as inventory_
    from cifar_deploy.stages import add as add_stage
    from cifar_deploy.stages import choose as choose_stage
    from cifar_deploy.stages import comparison
    from cifar_deploy.stages import devices as devices_stage
    from cifar_deploy.stages import evaluate as evaluate_stage
    from cifar_deploy.stages import feeding as feeding_stage
    from cifar_deploy.stages import plan as plan_stage
    from cifar_deploy.stages import predict as predict_stage
    from cifar_deploy.stages import prepare as prepare_stage
    from cifar_deploy.stages import profile as profile_stage
    from cifar_deploy.stages import quickstart as quickstart_stage
    from cifar_deploy.stages import rounds as rounds_stage
    from cifar_deploy.stages import track as track_stage
    from cifar_deploy.stages import train as train_stage
else:
    console, documents, environments, pipeline, recipes, selftest = (
        Module(f"cifar_deploy.{name}")
        for name in ("console", "documents", "environments", "pipeline", "recipes", "selftest")
    )
    answer, limits, choosing = (Module(f"cifar_deploy.choice.{name}") for name in ("answer", "limits", "choose"))
    affinity, environment, files, machine, progress, ranks, untrusted = (
        Module(f"cifar_deploy.core.{name}")
        for name in ("affinity", "environment", "files", "machine", "progress", "ranks", "untrusted")
    )
    add_stage, choose_stage, comparison, devices_stage = (
        Module(f"cifar_deploy.stages.{name}") for name in ("add", "choose", "comparison", "devices")
    )
    inventory_ = Module("cifar_deploy.remote.inventory")
    evaluate_stage, feeding_stage, plan_stage, predict_stage, prepare_stage = (
        Module(f"cifar_deploy.stages.{name}") for name in ("evaluate", "feeding", "plan", "predict", "prepare")
    )
    profile_stage, rounds_stage, track_stage, train_stage = (
        Module(f"cifar_deploy.stages.{name}") for name in ("profile", "rounds", "track", "train")
    )
    quickstart_stage = Module("cifar_deploy.stages.quickstart")

# The command that torchrun may start.
_SHARED = "train"

app = App(help="Train image classifiers, export them, measure them on this machine, and see which to ship.")


def _print_version(asked: bool) -> None:
    if asked:
        console.line(f"cifar-deploy {cifar_deploy.__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every error (anywhere on the line).")
    ] = False,
) -> None:
    if ranks.count() > 1:
        if context.invoked_subcommand != _SHARED:
            raise UsageError(
                f"{context.invoked_subcommand}: was started {ranks.count()} times over, by torchrun; only {_SHARED} "
                "shares out its work, start this alone"
            )
        ranks.end_with_parent()


@app.command()
def run(
    dataset: options.DatasetName = DATASET,
    data_dir: options.DataDir = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    network: options.NetworkOptions = None,
    recipe: options.RecipeName = RECIPE,
    epochs: options.Epochs = None,
    train_batch_size: options.TrainBatch = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = None,
    train_threads: options.TrainThreads = None,
    device: options.TrainDevice = "auto",
    arithmetic: options.ArithmeticName = "float32",
    save_fp16: options.SaveFp16 = False,
    limit_train: options.LimitTrain = None,
    limit_test: options.LimitTest = None,
    format: options.Formats = None,
    calibration_data: options.CalibrationData = None,
    backend: options.Backends = None,
    metric: options.Metrics = None,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    batch_size: options.BatchSizes = None,
    seconds: options.Seconds = SECONDS,
    rounds: options.Rounds = ROUNDS,
    target_interval: options.TargetInterval = None,
    budget: options.Budget = None,
    cool_to: options.CoolTo = None,
    cool_wait: options.CoolWait = COOL_WAIT_S,
    controls: options.Controls = True,
    timeout: options.Timeout = TIMEOUT_S,
    machine_name: options.MachineName = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust: options.Trust = False,
    trust_code: options.TrustCode = None,
    all_tables: options.AllTables = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Run the pipeline from end to end: data, train-all, export, evaluate, report. Existing results are reused."""
    view = _view(all_tables, wide, quiet)
    networks = network or list(DEFAULT_NETWORKS)
    plan_stage.check_names(networks, format, backend, [] if device == "auto" else [device], metric)
    if format:
        plan_stage.check_readers(format, backend, "add its --format")
    _check_threads(train_threads, "--train-threads")
    preparation = prepare_stage.preparation(size, resize, crop, interpolation, classes, skip_broken)
    conditions = _conditions(threads, cpus, seconds, batch_size, limit_test)
    settings = pipeline.EvaluationSettings(
        sampling=_sampling(rounds, target_interval, budget, cool_to, cool_wait),
        controls=controls,
        overhead=controls,
        trusted=trust,
        timeout_s=timeout,
        config_file=config.file(),
    )
    training = pipeline.TrainingSettings(
        recipe=_recipe(
            recipe,
            epochs,
            train_batch_size,
            learning_rate,
            seed,
            limit_train,
            save_fp16=save_fp16,
            arithmetic=arithmetic,
        ),
        choose_arithmetic=arithmetic == "auto",
        device=device,
        threads=train_threads,
        limit_test=limit_test,
    )
    tally = steps.Tally(by_name=bool(format or backend or device not in ("auto", "cpu")), metrics_by_name=bool(metric))
    artifacts: list[pipeline.Outcome[Artifact]] = []
    results: list[pipeline.Outcome[Result]] = []
    table: Table | None = None
    paths: Sequence[Path] = ()
    with steps.output_folder(out) as store:
        trainings = steps.train(store, networks, training, dataset, data_dir, preparation, tally, force=force)
        if names := [trained.value.training.name for trained in trainings.trained]:
            artifacts = steps.export(store, names, format, force, tally, calibration_data=calibration_data)
            devices = ["cpu"] if device == "auto" else [device]
            planned = pipeline.plan(
                store, names, formats=format, backends=backend, devices=devices, metrics=metric, conditions=conditions
            )
            results = steps.evaluate(store, planned, settings, force, tally)
            table, paths = steps.report(store, view)
    if as_json:
        tables = documents.Tables.of(table, paths) if table else None
        all_trained = documents.Trainings.of(store, *trainings)
        console.print_document(documents.RunDocument.of_all(store, all_trained, artifacts, results, tables))
    trainings.raise_if_none()
    tally.exit("above and in the report")


@app.command()
def quickstart(
    seconds: options.QuickstartSeconds = QUICKSTART_SECONDS,
    rounds: options.Rounds = QUICKSTART_ROUNDS,
    timeout: options.Timeout = TIMEOUT_S,
    machine_name: options.MachineName = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    all_tables: options.AllTables = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    out: options.Out = Path("cifar-deploy-quickstart"),
) -> None:
    """Measure the two shipped networks on this machine, without training: about two minutes on two cores."""
    view = _view(all_tables, wide, quiet)
    conditions = _conditions(None, None, seconds, None, None)
    settings = pipeline.EvaluationSettings(
        sampling=pipeline.Sampling(rounds=rounds), controls=False, overhead=False, timeout_s=timeout
    )
    tally = steps.Tally()
    with steps.output_folder(out) as store:
        networks = pipeline.shipped(store)
        for shipped in networks:
            console.say("network", console.checkpoint_line(shipped.value) + "  (shipped)")
        has_images = quickstart_stage.has_images(shipped.value for shipped in networks)
        if not has_images:
            console.say("", "The images that they were trained on are not here: no INT8, and of the")
            console.say("", "accuracy the number recorded in training, instead of a measured one.")
        names = [shipped.value.training.name for shipped in networks]
        formats = quickstart_stage.formats(has_images)
        artifacts = steps.export(store, names, formats, force, tally)
        planned = pipeline.plan(
            store,
            names,
            formats=formats,
            backends=quickstart_stage.BACKENDS,
            metrics=quickstart_stage.metrics(),
            conditions=conditions,
        )
        results = steps.evaluate(store, planned, settings, force, tally)
        table, paths = steps.report(store, view)
    if as_json:
        tables = documents.Tables.of(table, paths)
        console.print_document(documents.QuickstartDocument.of(store, networks, artifacts, results, tables))
    tally.exit("above and in the report")


@app.command()
def data(
    dataset: options.DatasetName = DATASET,
    data_dir: options.DataDir = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    memory_limit: options.MemoryLimit = None,
    as_json: options.AsJson = False,
) -> None:
    """Fetch or read a data set, check it, keep it decoded in the cache, and describe it."""
    prepared = steps.prepare(
        dataset, data_dir, prepare_stage.preparation(size, resize, crop, interpolation, classes, skip_broken)
    )
    if as_json:
        console.print_document(documents.DataDocument.of(prepared))


@app.command()
def train(
    network: options.NetworkArgument,
    name: options.Name = None,
    dataset: options.DatasetName = DATASET,
    data_dir: options.DataDir = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    recipe: options.RecipeName = RECIPE,
    epochs: options.Epochs = None,
    batch_size: options.RecipeBatch = None,
    learning_rate: options.LearningRate = None,
    bias_rate: options.BiasRate = None,
    seed: options.Seed = None,
    threads: options.AllThreads = None,
    device: options.TrainDevice = "auto",
    arithmetic: options.ArithmeticName = "float32",
    save_fp16: options.SaveFp16 = False,
    batch_norm: options.BatchNorm = "synchronised",
    init: options.Init = None,
    freeze: options.Freeze = False,
    teacher: options.Teacher = None,
    temperature: options.Temperature = None,
    weight: options.TeacherWeight = None,
    checkpoint_every: options.CheckpointEvery = CHECKPOINT_EVERY_S,
    limit_train: options.LimitTrain = None,
    limit_test: options.LimitTest = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Train one network; go on with it if it was interrupted. Several processes may share the work: start it by torchrun."""
    settings = pipeline.TrainingSettings(
        recipe=_recipe(
            recipe, epochs, batch_size, learning_rate, seed, limit_train, bias_rate, batch_norm, save_fp16, arithmetic
        ),
        choose_arithmetic=arithmetic == "auto",
        device=device,
        threads=threads,
        limit_test=limit_test,
        checkpoint_every_s=checkpoint_every,
    )
    if init:
        settings = train_stage.fine_tuning(settings, init, freeze=freeze)
    elif freeze:
        raise UsageError("--freeze: needs --init, or random weights would be kept; add it, or leave this out")
    if teacher:
        given = {"temperature": temperature, "weight": weight}
        teaching = pipeline.Teaching(name=teacher, **{key: value for key, value in given.items() if value is not None})
        settings = dataclasses.replace(settings, teaching=teaching)
    elif temperature is not None or weight is not None:
        option = "--weight" if temperature is None else "--temperature"
        raise UsageError(f"{option}: needs --teacher; add it, or leave this out")
    kind = documents.TrainDocument if as_json else None
    preparation = prepare_stage.preparation(size, resize, crop, interpolation, classes, skip_broken)
    steps.train_alone(out, [network], settings, dataset, data_dir, preparation, kind, name=name, force=force)


@app.command()
def train_all(
    network: options.NetworkOptions = None,
    dataset: options.DatasetName = DATASET,
    data_dir: options.DataDir = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    recipe: options.RecipeName = RECIPE,
    epochs: options.Epochs = None,
    batch_size: options.RecipeBatch = None,
    learning_rate: options.LearningRate = None,
    bias_rate: options.BiasRate = None,
    seed: options.Seed = None,
    threads: options.AllThreads = None,
    device: options.TrainDevice = "auto",
    arithmetic: options.ArithmeticName = "float32",
    save_fp16: options.SaveFp16 = False,
    batch_norm: options.BatchNorm = "synchronised",
    checkpoint_every: options.CheckpointEvery = CHECKPOINT_EVERY_S,
    limit_train: options.LimitTrain = None,
    limit_test: options.LimitTest = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Train several networks under the same recipe, one after the other."""
    settings = pipeline.TrainingSettings(
        recipe=_recipe(
            recipe, epochs, batch_size, learning_rate, seed, limit_train, bias_rate, batch_norm, save_fp16, arithmetic
        ),
        choose_arithmetic=arithmetic == "auto",
        device=device,
        threads=threads,
        limit_test=limit_test,
        checkpoint_every_s=checkpoint_every,
    )
    kind = documents.TrainAllDocument if as_json else None
    preparation = prepare_stage.preparation(size, resize, crop, interpolation, classes, skip_broken)
    networks = network or list(DEFAULT_NETWORKS)
    steps.train_alone(out, networks, settings, dataset, data_dir, preparation, kind, force=force)


@app.command()
def add(
    name: options.AddedName,
    network: options.AddedNetwork = None,
    weights: options.WeightsFile = None,
    entry: options.Entry = None,
    dataset: options.DatasetName = DATASET,
    data_dir: options.DataDir = None,
    preprocess: options.Preprocess = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    mean: options.AddedMean = None,
    std: options.AddedStd = None,
    channels: options.AddedChannels = "rgb",
    threads: options.AllThreads = None,
    limit_test: options.LimitTest = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Add a network that was trained elsewhere, to be exported, measured and compared like those trained here."""
    network = network or name
    plan_stage.check_names([network])
    _check_threads(threads, "--threads")
    usual = add_stage.usual_of(preprocess) if preprocess else None
    preparation = prepare_stage.preparation(
        size, resize, crop, interpolation, classes, skip_broken, usual=usual.preprocessing if usual else None
    )
    given = pipeline.TrainedElsewhere(
        network=network,
        weights=weights,
        entry=entry,
        mean=mean,
        std=std,
        channels=channels,
        usual=usual,
        threads=threads,
        limit_test=limit_test,
    )
    add_stage.check(name, given)
    with steps.output_folder(out) as store:
        prepared = steps.prepare(dataset, data_dir, preparation)
        with console.following("add") as on_progress:
            added = pipeline.add(store, prepared, name, given, force=force, on_progress=on_progress)
        console.say("add", console.checkpoint_line(added.value) + ("  (added before)" if added.reused else ""))
        for warning in added.value.warnings:
            console.say("", f"warning: {warning}")
    if as_json:
        console.print_document(documents.AddDocument.of(store, added))


@app.command()
def export(
    name: options.Names = None,
    format: options.Formats = None,
    input: options.Input = "float32",
    calibration_data: options.CalibrationData = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Export trained networks to deployment formats, each validated against the network on real images."""
    plan_stage.check_names(formats=format)
    tally = steps.Tally(by_name=bool(format))
    with steps.output_folder(out) as store:
        artifacts = steps.export(store, name or [], format, force, tally, input, calibration_data)
    if as_json:
        console.print_document(documents.ExportDocument.of(store, artifacts))
    tally.exit()


@app.command()
def evaluate(
    name: options.Names = None,
    format: options.Formats = None,
    backend: options.Backends = None,
    device: options.Devices = None,
    metric: options.Metrics = None,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    batch_size: options.BatchSizes = None,
    seconds: options.Seconds = SECONDS,
    rounds: options.Rounds = ROUNDS,
    target_interval: options.TargetInterval = None,
    budget: options.Budget = None,
    cool_to: options.CoolTo = None,
    cool_wait: options.CoolWait = COOL_WAIT_S,
    controls: options.Controls = True,
    verify_memory: options.VerifyMemory = False,
    max_isa: options.MaxIsa = None,
    soak: options.Soak = None,
    limit_test: options.LimitTest = None,
    timeout: options.Timeout = TIMEOUT_S,
    machine_name: options.MachineName = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust: options.Trust = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Measure exported networks on each runtime, every number in a process of its own."""
    conditions = _conditions(threads, cpus, seconds, batch_size, limit_test)
    settings = pipeline.EvaluationSettings(
        sampling=_sampling(rounds, target_interval, budget, cool_to, cool_wait),
        controls=controls,
        overhead=controls,
        verify_memory=verify_memory,
        isa=tuple(cast("list[Isa]", max_isa or [])),
        soak_s=soak,
        trusted=trust,
        timeout_s=timeout,
        config_file=config.file(),
    )
    tally = steps.Tally(by_name=bool(format or backend or device), metrics_by_name=bool(metric))
    if soak is not None:
        conditions = dataclasses.replace(conditions, seconds=max(seconds, rounds_stage.SUSTAINED_RUN_S))
    with steps.output_folder(out) as store:
        planned = pipeline.plan(
            store,
            name or [],
            formats=format,
            backends=backend,
            devices=device or ["cpu"],
            metrics=metric,
            conditions=conditions,
        )
        results = steps.evaluate(store, planned, settings, force, tally)
        steps.say_what_to_ship(store, planned)
    if as_json:
        console.print_document(documents.EvaluateDocument.of(store, results))
    tally.exit()


@app.command()
def bench(
    file: options.Files,
    reference: options.Reference = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    data_dir: options.ImagesIn = None,
    dataset: options.ImagesOf = None,
    size: options.Size = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    classes: options.Classes = None,
    skip_broken: options.SkipBroken = False,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = None,
    channels: options.ChannelOrder = None,
    layout: options.InputLayout = None,
    output: options.AnswerOutput = None,
    limit_test: options.LimitTest = None,
    backend: options.Backends = None,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    seconds: options.Seconds = SECONDS,
    rounds: options.Rounds = ROUNDS,
    target_interval: options.TargetInterval = None,
    budget: options.Budget = None,
    cool_to: options.CoolTo = None,
    cool_wait: options.CoolWait = COOL_WAIT_S,
    timeout: options.Timeout = TIMEOUT_S,
    machine_name: options.MachineName = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust: options.Trust = False,
    trust_code: options.TrustCode = None,
    all_tables: options.AllTables = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    out: options.Kept = None,
) -> None:
    """Compare external model files, side by side: latency, memory and size on random input, accuracy on your images."""
    view = _view(all_tables, wide, quiet)
    plan_stage.check_names(backends=backend)
    conditions = _conditions(threads, cpus, seconds, None, limit_test)
    images = feeding_stage.options(
        dataset=dataset,
        data_dir=data_dir,
        preparation=prepare_stage.preparation(size, resize, crop, interpolation, classes, skip_broken),
        mean=mean or (),
        std=std or (),
        scale=scale,
        channels=channels,
        layout=layout,
        outputs=tuple(output or ()),
        limit_test=limit_test,
    )
    settings = pipeline.EvaluationSettings(
        sampling=_sampling(rounds, target_interval, budget, cool_to, cool_wait),
        overhead=False,
        trusted=trust,
        timeout_s=timeout,
        config_file=config.file(),
    )
    tally = steps.Tally(by_name=bool(backend))
    with console.following("bench") as on_progress, _bench_store(out) as store:
        planned = pipeline.plan_external(
            file,
            reference=reference,
            backends=backend,
            shapes=shape or (),
            values=value or (),
            images=images,
            conditions=conditions,
            trusted=trust,
            timeout_s=timeout,
            on_progress=on_progress,
        )
        failed: dict[tuple[str, str], FailureKind] = {}
        ran = set()
        for outcome in pipeline.evaluate(store, planned, settings, force=force, on_progress=on_progress):
            job, failure = outcome.value.job, outcome.value.failure
            if failure:
                failed[job.artifact.name, job.backend] = failure.kind
            else:
                ran.add(job.artifact.name)
        for (name, _), kind in failed.items():
            tally.add(kind if name in ran else "failed")  # a file was asked for by name, whatever kept it from running
        table, paths = pipeline.report(store, planned)
    paths = paths if out else []
    steps.print_report(table, paths, view)
    if as_json:
        console.print_document(documents.BenchDocument(report=documents.Tables.of(table, paths)))
    tally.exit()


@contextlib.contextmanager
def _bench_store(out: Path | None) -> Iterator[Store]:
    """A folder below `out`, apart from what `evaluate` keeps there; without `out` one that is gone at the end."""
    if out:
        with steps.output_folder(out / "bench") as store:
            if store.names():
                raise UsageError(f"--out: {store.root} holds trained networks; give another folder")
            yield store
        return
    with files.temporary_folder() as folder, pipeline.Store(folder) as store:
        yield store


@app.command()
def pack(
    name: options.Names = None,
    format: options.Formats = None,
    backend: options.Backends = None,
    metric: options.Metrics = None,
    images: options.PackImages = PACK_IMAGES,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    batch_size: options.BatchSizes = None,
    seconds: options.Seconds = SECONDS,
    rounds: options.Rounds = ROUNDS,
    budget: options.Budget = None,
    controls: options.Controls = True,
    memory_limit: options.MemoryLimit = None,
    trust_code: options.TrustCode = None,
    to: options.PackTo = Path("bench.py"),
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Write exports, test images and the program that measures them into one file, for another device."""
    settings = _packing(backend, metric, threads, batch_size, seconds, rounds, budget, cpus, controls)
    with steps.output_folder(out) as store, console.following("pack") as show:
        packed = pipeline.pack(
            store, to, name or [], formats=format, images=images, settings=settings, on_progress=show
        )
    console.say("pack", console.pack_line(packed))
    if as_json:
        console.print_document(documents.PackDocument.of(packed))


@app.command("import")
def import_(
    file: options.ResultFiles,
    foreign: options.Foreign = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Append results of other devices to those of the output folder, each after it was verified."""
    for path in file:
        untrusted.check_named(path, "give a *.results.zip, or a folder of results")
    imported: list[pipeline.Imported] = []
    failed: dict[Path, DeployError] = {}
    with steps.output_folder(out) as store:
        for path in file:
            try:
                with console.following("import") as show:
                    imported.append(pipeline.import_results(store, path, foreign=foreign, on_progress=show))
            except Corrupt as error:
                failed[path] = error
                if len(file) > 1:
                    process.print_error(str(error))
                continue
            console.print_imported(imported[-1])
    if as_json:
        console.print_document(documents.ImportDocument.of(imported, failed))
    if len(file) == 1 and failed:
        raise failed[file[0]]
    if incomplete := [*failed, *(one.path for one in imported if not one.is_complete)]:
        raise DeployError(f"{few(incomplete)}: came in only in part, or not at all; the reasons are above")


@app.command()
def report(
    machine: options.MachinesAmong = None,
    mlflow: options.Mlflow = None,
    mlflow_experiment: options.MlflowExperiment = None,
    trust_code: options.TrustCode = None,
    all_tables: options.AllTables = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Make report.csv, report.md with report.svg, and report.html of the results, and print the tables."""
    view = _view(all_tables, wide, quiet)
    if mlflow_experiment and not mlflow:
        raise UsageError("--mlflow-experiment: needs --mlflow; add it, or leave this out")
    if mlflow:
        track_stage.check_tracking(mlflow, mlflow_experiment)
    with steps.output_folder(out) as store:
        table, paths = steps.report(store, view, machine or ())
        tracked = steps.track(store, mlflow, mlflow_experiment, view, machine or ()) if mlflow else None
    if as_json:
        console.print_document(documents.ReportDocument(report=documents.Tables.of(table, paths), mlflow=tracked))


@app.command()
def choose(
    max_latency: options.MaxLatency = None,
    percentile: options.Percentile = "50",
    max_memory: options.MaxMemory = None,
    max_size: options.MaxSize = None,
    min_accuracy: options.MinAccuracy = None,
    min_throughput: options.MinThroughput = None,
    max_energy: options.MaxEnergy = None,
    within: options.Within = 2.0,
    format: options.Formats = None,
    backend: options.Runtimes = None,
    device: options.DevicesAmong = None,
    machine: options.MachinesAmong = None,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Say which network, format and runtime to ship, under limits such as --max-latency 5ms, and how sure that is."""
    plan_stage.check_names(formats=format, backends=backend, devices=device)
    numbers = {
        "--max-latency": max_latency,
        "--max-memory": max_memory,
        "--max-size": max_size,
        "--min-accuracy": min_accuracy,
        "--min-throughput": min_throughput,
        "--max-energy": max_energy,
    }
    constraints = choosing.Constraints(
        limits=limits.limits_of(numbers, int(percentile)),
        formats=tuple(format or ()),
        backends=tuple(backend or ()),
        devices=tuple(device or ()),
        within=within / 100,
    )
    store = pipeline.Store(out)
    choices = pipeline.choices(store, constraints, machines=machine or ())
    console.print_choices(choices, {title: choose_stage.absence(store, choice) for title, choice in choices.items()})
    if as_json:
        console.print_document(documents.ChooseDocument.of_all(store, choices))
    if told := choose_stage.refusal(choices):
        raise DeployError(told)


@app.command()
def profile(
    name: options.TrainedName,
    format: options.OneFormat = "onnx",
    backend: options.OneBackend = None,
    threads: options.OneThreads = 1,
    seconds: options.ProfileSeconds = SECONDS,
    memory_limit: options.MemoryLimit = None,
    trust: options.Trust = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Show how long each operator of an artifact takes on the processor, and how many convolutions run in INT8."""
    machine.check_threads(threads)
    with steps.output_folder(out) as store, console.following("profile"):
        found = pipeline.profile(
            store, name, format=format, backend=backend, threads=threads, seconds=seconds, trusted=trust
        )
    trace = store.trace_path(found.name, found.format, found.backend)
    for line in profile_stage.lines(found):
        console.line(line)
    for section in profile_stage.sections(found):
        console.print_section(section)
    console.line()
    console.say("trace", f"{steps.from_here(trace)}  (for chrome://tracing or Perfetto)")
    if as_json:
        console.print_document(documents.ProfileDocument.of(found, trace))


@app.command()
def predict(
    artifact: options.ArtifactToRun,
    image: options.ImagesToLabel,
    format: options.FormatToRun = None,
    backend: options.BackendToRun = None,
    top: options.Top = 3,
    threads: options.OneThreads = 1,
    memory_limit: options.MemoryLimit = None,
    trust: options.Trust = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Show the most likely classes of images, by an artifact on its runtime. Images of any size are preprocessed as recorded."""
    machine.check_threads(threads)
    store = pipeline.Store(out)
    with console.following("predict") as on_progress:
        found = pipeline.predict(
            store,
            artifact,
            image,
            format=format,
            backend=backend,
            top=top,
            threads=threads,
            trusted=trust,
            on_progress=on_progress,
        )
    for line in predict_stage.lines(found):
        console.line(line)
    if section := predict_stage.section(found):
        console.print_section(section)
    if as_json:
        console.print_document(documents.PredictDocument.of(found))
    if told := predict_stage.refusal(found):
        raise DeployError(told)


@app.command()
def compare(
    a: options.Before,
    b: options.After,
    pair: options.Pairs = None,
    fail_if_slower: options.FailIfSlower = None,
    allow_mismatch: options.AllowMismatch = False,
    trust_code: options.TrustCode = None,
    all_tables: options.AllTables = False,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare the results of A and B: how many configurations are faster, slower or a tie, and the few that matter.

    Every ratio is above 1 where B is better: how many times faster or smaller it is. Between sessions a difference in speed
    below 3 % is a tie.
    """
    view = _view(all_tables, wide, quiet)
    pairs = pipeline.compare(a, b, pairs=pair or (), allow_mismatch=allow_mismatch)
    if view == "all":
        console.print_section(comparison.section(pairs))
    else:
        console.print_comparison(list(comparison.counts(pairs)), comparison.excerpt(pairs, fail_if_slower), view)
    if as_json:
        console.print_document(documents.CompareDocument.of(pairs))
    if fail_if_slower is not None and (told := comparison.refusal(pairs, fail_if_slower)):
        raise DeployError(told)


@app.command("selftest")
def selftest_(as_json: options.AsJson = False) -> None:
    """Verify the measurements on this machine against known values (about 30 s)."""
    done = []
    with console.following("selftest") as on_progress:
        for check in selftest.run(on_progress=on_progress):
            done.append(check)
            console.say(check.outcome, f"{check.name}: {check.found}  (expected: {check.expected})")
    if as_json:
        console.print_document(documents.SelftestDocument(checks=tuple(done)))
    if failed := [check for check in done if check.outcome == "failed"]:
        raise DeployError(f"selftest: {len(failed)} of {len(done)} checks failed; do not trust what is measured here")
    if any(check.outcome == "inconclusive" for check in done):
        console.say("", "Where it is inconclusive the machine was disturbed; run it again on a quieter one.")


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """List what can be chosen: data sets, networks, formats, backends ..., and why some is unavailable here."""
    entries = pipeline.catalogue()
    console.print_catalogue(entries)
    if as_json:
        console.print_document(documents.ListDocument.of(entries))


@app.command()
def doctor(as_json: options.AsJson = False, trust_code: options.TrustCode = None, out: options.Out = Path(".")) -> None:
    """Diagnose which formats, runtimes and devices are unavailable here, and how to enable them."""
    found = pipeline.diagnose(pipeline.Store(out))
    console.print_diagnosis(found)
    if as_json:
        console.print_document(documents.DoctorDocument(**vars(found)))


env = App(help="Interpreters of their own for packages that cannot live together with the others.")
app.add_typer(env, name="env")


@env.command("create")
def env_create(name: options.EnvironmentName, force: options.Force = False, as_json: options.AsJson = False) -> None:
    """Make one in the user's cache, over the packages that are here; pip installs what these lack."""
    with console.following(name) as on_progress:
        made = pipeline.create_environment(name, force=force, on_progress=on_progress)
    console.say("env", f"{name}: {_of_environment(made.value)}" + ("  (made before)" if made.reused else ""))
    if as_json:
        folder = environments.ENVIRONMENTS[name].folder
        done = documents.EnvCreateDocument(name=name, folder=folder, made=made.value, reused=made.reused)
        console.print_document(done)


@env.command("list")
def env_list(as_json: options.AsJson = False) -> None:
    """Which there are, what was installed in each, and why one cannot be used here."""
    found = [documents.ListedEnvironment.of(plugin) for plugin in environments.ENVIRONMENTS.values()]
    for one in found:
        made = f"{_of_environment(one.made)}, in {one.folder}" if one.made else ""
        console.say(one.name, one.why_unavailable or made)
    if as_json:
        console.print_document(documents.EnvListDocument(environments=tuple(found)))


@env.command("remove")
def env_remove(name: options.EnvironmentName, as_json: options.AsJson = False) -> None:
    """Delete one."""
    wanted = environments.ENVIRONMENTS[environments.ENVIRONMENTS.given(name)]
    environment.remove(wanted)
    console.say("env", f"{name}: removed")
    if as_json:
        console.print_document(documents.EnvRemoveDocument(name=name, folder=wanted.folder))


def _of_environment(made: Made) -> str:
    return f"{' '.join(made.packages)}, {len(made.versions)} packages in {made.bytes / 2**20:,.0f} MiB"


device = App(help="Measure on other devices.")
app.add_typer(device, name="device")


@device.command("ssh")
def device_ssh(
    host: options.Hosts = None,
    devices: options.DevicesFile = None,
    inventory: options.Inventory = None,
    name: options.PackNames = None,
    format: options.Formats = None,
    backend: options.Backends = None,
    metric: options.Metrics = None,
    images: options.PackImages = PACK_IMAGES,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    batch_size: options.BatchSizes = None,
    seconds: options.Seconds = SECONDS,
    rounds: options.Rounds = ROUNDS,
    budget: options.Budget = None,
    cool_to: options.CoolTo = None,
    cool_wait: options.CoolWait = COOL_WAIT_S,
    controls: options.Controls = True,
    pack: options.ReadyPack = None,
    python: options.DevicePython = None,
    device_name: options.DeviceName = None,
    send: options.SendPackages = True,
    keep: options.KeepThere = False,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    trust_code: options.TrustCode = None,
    as_json: options.AsJson = False,
    out: options.Out = Path("."),
) -> None:
    """Measure exports on devices by ssh, all at the same time, and add what they measure to the results here."""
    wanted = inventory_.chosen(host or [], devices, inventory, device_name)
    if pack:
        making = {
            "name": name,
            "format": format,
            "backend": backend,
            "metric": metric,
            "threads": threads,
            "cpus": cpus,
            "batch-size": batch_size,
            "budget": budget,
        }
        devices_stage.check_ready(pack, [f"--{option}" for option, value in making.items() if value is not None])
    if not host:
        source = inventory or devices or inventory_.FILE
        console.say("device", f"{len(wanted)} of {'stdin' if str(source) == '-' else source}")
    elif len(set(host)) < len(host):
        console.say("device", "a host is named twice, and measured once")
    settings = pipeline.DeviceSettings(
        send=send,
        keep=keep,
        force=force,
        python=python,
        arguments=devices_stage.arguments(cool_to, cool_wait),
    )
    packing = _packing(backend, metric, threads, batch_size, seconds, rounds, budget, cpus, controls)
    with steps.output_folder(out) as store, files.temporary_folder() as folder:
        if not pack:
            with console.following("pack") as show:
                packed = pipeline.pack(
                    store,
                    folder / "bench.py",
                    name or [],
                    formats=format,
                    images=images,
                    settings=packing,
                    on_progress=show,
                )
            console.say("pack", f"{packed.bytes / 1e6:.1f} MB, {', '.join(packed.manifest.networks)}")
        visits = []
        with (
            console.following_all([each.name for each in wanted]) as show_each,
            # Closed while the folder is locked: what an interrupted run has brought home belongs in it.
            contextlib.closing(
                pipeline.measure_on(store, pack or folder / "bench.py", wanted, settings, show_each)
            ) as going,
        ):
            for visited in going:
                for line in devices_stage.told(visited):
                    console.say(visited.device.name, line)
                visits.append(visited)
    for visited in visits:
        console.print_visit(visited)
    if as_json:
        console.print_document(documents.DeviceSshDocument(devices=tuple(map(documents.VisitedDevice.of, visits))))
    if failed := [visited.device.name for visited in visits if visited.failure]:
        raise DeployError(
            f"{few(failed)}: could not be measured to the end; the reasons are above, and the same command goes on"
        )


def _recipe(
    name: str,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int | None,
    limit: int | None,
    bias_rate: float | None = None,
    batch_norm: str = "synchronised",
    save_fp16: bool = False,
    arithmetic: str = "float32",
) -> Recipe:
    given = {
        "arithmetic": None if arithmetic == "auto" else arithmetic,
        "weights": "float16" if save_fp16 else None,
        "batch_norm": batch_norm,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "bias_rate": bias_rate,
        "seed": seed,
        "limit_train": limit,
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    return dataclasses.replace(recipes.RECIPES[recipes.RECIPES.given(name)], **changes)


def _check_threads(threads: int | None, option: str) -> None:
    if threads is not None:
        machine.check_threads(threads, option)


def _sampling(
    rounds: int, target_interval: float | None, budget: float | None, cool_to: float | None, cool_wait: float
) -> pipeline.Sampling:
    return pipeline.Sampling(
        rounds=rounds,
        target_interval=target_interval,
        budget_s=budget,
        cool_to_c=cool_to,
        cool_wait_s=cool_wait,
    )


def _packing(
    backends: list[str] | None,
    metrics: list[str] | None,
    threads: list[int] | None,
    batch_sizes: list[int] | None,
    seconds: float,
    rounds: int,
    budget: float | None,
    cpus: str | None,
    controls: bool,
) -> pipeline.PackSettings:
    if cpus:
        affinity.check(cpus)
    return pipeline.PackSettings(
        backends=tuple(backends) if backends else None,
        metrics=tuple(metrics) if metrics else None,
        threads=tuple(threads or (1,)),
        batch_sizes=tuple(batch_sizes or ()),
        seconds=seconds,
        rounds=rounds,
        budget_s=budget,
        cpus=cpus,
        controls=controls,
    )


def _conditions(
    threads: list[int] | None,
    cpus: str | None,
    seconds: float,
    batch_sizes: list[int] | None,
    limit_test: int | None,
) -> pipeline.Conditions:
    pinned = affinity.chosen(cpus) if cpus else None
    for count in threads or ():
        machine.check_threads(count, pinned=pinned)
    return pipeline.Conditions(
        threads=tuple(threads or (1,)),
        seconds=seconds,
        batch_sizes=tuple(batch_sizes or ()),
        limit_test=limit_test,
        cpus=pinned,
    )


def _view(all_tables: bool, wide: bool, quiet: bool) -> console.View:
    """What of a report is printed. Raises UsageError if two are asked for."""
    asked: dict[console.View, bool] = {"all": all_tables, "wide": wide, "answer": quiet}
    views = [view for view, is_asked in asked.items() if is_asked]
    if len(views) > 1:
        raise UsageError("--all, --wide, --quiet: exclude each other; give one of them")
    return views[0] if views else "summary"


@functools.cache
def tree() -> Any:
    """All commands, as click knows them: the same in each call, and 90 ms to make."""
    return typer.main.get_command(app)

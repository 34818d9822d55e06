"""What it cost to train, and the original report's comparison with our numbers beside its own."""

import dataclasses
from collections.abc import Iterator, Mapping

from cifar_deploy.core import statistics
from cifar_deploy.core.charts import Axis, Lines
from cifar_deploy.core.records import Checkpoint, Recipe
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Summary
from cifar_deploy.recipes import RECIPES
from cifar_deploy.sections.common import (
    Configurations,
    correct_of,
    filled,
    headline_columns,
    is_eager,
    is_of_training,
    row_of,
)

# The original report's test accuracies, by the network of ours that stands for each of its two.
ORIGINAL_REPORT = {"mobilenet": 0.8418, "resnet18": 0.8368}
_MOST_CURVES = 8
_REPORT_RECIPE = "original"

# What the report does not state, and no reader would call another recipe.
_UNSTATED = ("name", "seed", "batch_norm", "arithmetic", "weights")


def cost(configurations: Configurations) -> Section:
    """One row a network: what does not depend on how it is deployed."""
    columns = headline_columns(filter(is_of_training, METRICS))
    of_name: dict[str, dict[str, Summary]] = {}
    for configuration, of_one in configurations.items():
        of_name.setdefault(configuration.name, {}).update(of_one)
    rows = [row_of((name,), of_one, columns) for name, of_one in of_name.items()]
    verdicts = {name: of_one["training_time"].verdict for name, of_one in of_name.items() if "training_time" in of_one}
    notes = tuple(
        f"{name}: {'; '.join(verdict.reasons)}" for name, verdict in verdicts.items() if verdict and verdict.reasons
    )
    return filled("Training cost", ("network",), columns, rows, notes, part="training")


def curves(checkpoints: Mapping[str, Checkpoint]) -> Lines | None:
    """Test accuracy over the minutes of training, of each network; None without an epoch."""
    lines = {}
    for name, checkpoint in list(checkpoints.items())[:_MOST_CURVES]:
        spent, points = 0.0, []
        for epoch in checkpoint.curve:
            spent += epoch.seconds / 60
            points.append((spent, 100 * epoch.accuracy))
        if points:
            lines[name] = tuple(points)
    if not lines:
        return None
    return Lines(
        part="training",
        title="Test accuracy in training",
        x=Axis(title="minutes of training"),
        y=Axis(title="top-1 accuracy, %"),
        lines=lines,
    )


def claims(configurations: Configurations, checkpoints: Mapping[str, Checkpoint]) -> Section | None:
    """Each claim of the original report, our number, and whether it holds here; None if neither of its networks is here.

    Networks with a teacher are left out.
    """
    rows = [
        Row(labels=(claim,), values={}, words={"reported": reported, "ours": ours, "verdict": verdict})
        for claim, reported, ours, verdict in _claims(configurations, checkpoints)
    ]
    if not rows:
        return None
    return Section(
        title="Claims of the original report",
        label_titles=("claim",),
        columns={name: Column(title=name, unit="", stored_unit="") for name in ("reported", "ours", "verdict")},
        rows=tuple(rows),
        notes=("Verdicts by 95 % intervals. Data and recipe differ as told below the report's comparison.",),
        on_screen=False,
        part="training",
    )


def _repetitions(
    network: str, configurations: Configurations, checkpoints: Mapping[str, Checkpoint]
) -> dict[str, dict[str, Summary]]:
    """The trainings of a network of the report, by name, through PyTorch eager. Those with a teacher are left out."""
    return {
        name: eager
        for name, checkpoint in checkpoints.items()
        if checkpoint.training.network == network and not _is_taught(checkpoint)
        if (eager := _eager(name, configurations))
    }


def _compared(
    configurations: Configurations, checkpoints: Mapping[str, Checkpoint]
) -> Mapping[str, tuple[str, dict[str, Summary]]]:
    """One training of each network of the report that is here, with its name and accuracy.

    By the report's recipe, if each of them was trained so. Else the one that has the network's name, else the first.
    """
    tested = {
        network: {
            name: eager
            for name, eager in _repetitions(network, configurations, checkpoints).items()
            if "accuracy" in eager and eager["accuracy"].result.measurement
        }
        for network in ORIGINAL_REPORT
    }
    repeated = {
        network: [name for name in of if (recipe := checkpoints[name].recipe) and _is_the_reports(recipe)]
        for network, of in tested.items()
    }
    if not all(repeated[network] for network, of in tested.items() if of):
        repeated = {network: sorted(of, key=lambda name: name != network) for network, of in tested.items()}
    return {network: (names[0], tested[network][names[0]]) for network, names in repeated.items() if names}


def _is_the_reports(recipe: Recipe) -> bool:
    own = RECIPES[_REPORT_RECIPE]
    return dataclasses.replace(recipe, **{name: getattr(own, name) for name in _UNSTATED}) == own


def _eager(name: str, configurations: Configurations) -> dict[str, Summary] | None:
    """A network through PyTorch eager; None if it is not there."""
    return next((of for each, of in configurations.items() if each.name == name and is_eager(each)), None)


def _is_taught(checkpoint: Checkpoint | None) -> bool:
    return bool(checkpoint and checkpoint.recipe and checkpoint.recipe.teacher)


def _claims(
    configurations: Configurations, checkpoints: Mapping[str, Checkpoint]
) -> Iterator[tuple[str, str, str, str]]:
    counts: dict[str, tuple[int, int]] = {}
    for network, (name, eager) in _compared(configurations, checkpoints).items():
        reported = ORIGINAL_REPORT[network]
        correct, images = correct_of(eager["accuracy"].result)
        counts[name] = correct, images
        low, high = statistics.wilson(correct, images)
        verdict = "higher here" if low > reported else "lower here" if high < reported else "holds"
        yield f"accuracy of {name}", f"{reported:.2%}", f"{correct / images:.2%}", verdict
    if len(counts) == len(ORIGINAL_REPORT):
        (first, second), (of_first, of_second) = counts, ORIGINAL_REPORT.values()
        ours = counts[first][0] / counts[first][1] - counts[second][0] / counts[second][1]
        low, high = statistics.difference(*counts[first], *counts[second])
        verdict = "holds" if low > 0 else "does not hold: the reverse" if high < 0 else "cannot be told"
        yield f"{first} is more accurate than {second}", _points(of_first - of_second), _points(ours), verdict


def _points(share: float) -> str:
    return f"{100 * share:+.2f} points"


def original_report(configurations: Configurations, checkpoints: dict[str, Checkpoint]) -> Section | None:
    """The original report's table with our numbers beside its own; None if neither of its networks is here."""
    wanted = (
        ("accuracy", "accuracy"),
        ("training_time", "seconds"),
        ("training_memory", "peak"),
        ("memory", "peak"),
        ("parameters", "parameters"),
    )
    columns = {
        "reported": Column(title="report's accuracy", unit="%", stored_unit="1", scale=100),
        **{f"{metric}.{key}": METRICS[metric].columns[key] for metric, key in wanted},
    }
    rows, notes = [], []
    for network, reported in ORIGINAL_REPORT.items():
        for name, eager in _repetitions(network, configurations, checkpoints).items():
            row = row_of((name,), eager, columns)
            values = {**row.values, "reported": Value(number=reported)}
            rows.append(Row(labels=row.labels, values=values, failures=row.failures, words=row.words))
            notes += _unlike_the_report(name, checkpoints[name], eager)
    if not rows:
        return None
    notes.append(
        "The report does not state its ResNet's depth; resnet18 stands for it. "
        "Ours are measured through PyTorch eager, from the last epoch's weights."
    )
    return Section(
        title="The original report's comparison",
        label_titles=("network",),
        columns=columns,
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
        part="training",
    )


def _unlike_the_report(name: str, checkpoint: Checkpoint, eager: dict[str, Summary]) -> list[str]:
    """In what a row is no repetition of the report's."""
    training, notes = checkpoint.training, []
    if training.data.dataset != "cifar10":
        notes.append(
            f"The report's data are the original CIFAR-10; ours are {training.data.source}: "
            "the accuracies are not of the same images."
        )
    recipe = checkpoint.recipe
    if not recipe:
        return [*notes, f"{name} was trained elsewhere, by a recipe that is not known here."]
    if not _is_the_reports(recipe):
        own = RECIPES[_REPORT_RECIPE]
        notes.append(
            f"The report trained for {own.epochs} epochs with Adam at {own.learning_rate:g}; {name} was trained by {recipe}."
        )
    if training.data.preprocessing:
        notes.append(
            f"The report says nothing of resized images; those of {name} were prepared so: {training.data.preprocessing}."
        )
    if recipe.arithmetic != "float32":
        notes.append(f"{name} was trained in {recipe.arithmetic}, which the report's was hardly.")
    accuracy = eager["accuracy"].values.get("images") if "accuracy" in eager else None
    if accuracy and accuracy.number < training.data.test_images:
        notes.append(f"{name} was tested on {accuracy.number:,.0f} of {training.data.test_images:,} test images.")
    return notes

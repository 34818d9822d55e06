"""Accuracy, image by image: against the eager network or the first file, by class, and every image whose label changed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import statistics
from cifar_deploy.core.charts import Heat
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Result
from cifar_deploy.core.statistics import Agreement, Estimate
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration, Raw, agreement, classes_of, predictions
from cifar_deploy.sections.common import (
    Configurations,
    eager_of,
    filled,
    is_eager,
    label_titles,
    labels_of,
    with_metric,
)

_COUNTED = {"unit": "images", "stored_unit": "images", "digits": 0}

# Two labellings of the same images, in a row.
PAIRED = {
    "same": Column(title="top-1 agreement", unit="%", stored_unit="1", scale=100),
    "worse": Column(title="negative flips", **_COUNTED),  # type: ignore[arg-type]
    "better": Column(title="positive flips", **_COUNTED),  # type: ignore[arg-type]
    "difference": Column(title="accuracy change", unit="points", stored_unit="1", scale=100, interval=True),
    "p": Column(title="McNemar p", unit="", stored_unit="1", digits=3),
    "verdict": Column(title="", unit="", stored_unit=""),
}
HOW_PAIRED = (
    "The same test images. Negative flips were right before and are wrong now, positive flips the reverse. Exact McNemar "
    "test, Newcombe's 95 % interval."
)


_FILES = 6  # on a screen

_LOST = "predictions unreadable"
_OF_CLASS = "accuracy on the images of this class; in a confusion matrix: images with this label"


def against_reference(configurations: Configurations, raw: Raw) -> Section | None:
    """Every configuration's labels against the eager network's, or the first file's, image by image."""
    first = first_file(configurations)
    title = f"Accuracy against {f'{first.name} on {first.backend}' if first else 'the eager network'}"
    titles = label_titles(with_metric(configurations, "accuracy"))
    rows = []
    for configuration, reference, this in pairs(configurations):
        if found := agreement(reference, this, raw, raw):
            rows.append(paired_row(labels_of(configuration, titles), found))
        elif _is_lost(reference, raw) or _is_lost(this, raw):
            rows.append(Row(labels=labels_of(configuration, titles), values={}, words={"verdict": _LOST}))
    if not rows:
        return None
    if not any(row.values for row in rows):
        lost = (
            "Accuracy is not compared image by image: the predictions of "
            f"{counted(len(rows), 'configuration')} are not here ({'bench' if first else 'evaluate'} --force)."
        )
        return filled(title, titles, {}, [], (lost,), part="errors")
    return filled(title, titles, PAIRED, rows, (HOW_PAIRED,), part="errors")


def against_first_file(configurations: Configurations, raw: Raw) -> list[str]:
    """Of each of the first few files a sentence on its answers, whatever else was measured; none of networks of ours."""
    first = first_file(configurations)
    if not first:
        return []
    column = METRICS["accuracy"].columns["accuracy"]
    found = [
        (f"{this.name} on {this.backend}", configurations[this]["accuracy"].values["accuracy"], compared)
        for this, reference, result in pairs(configurations)
        if (compared := agreement(reference, result, raw, raw))
    ]
    own = configurations[first]["accuracy"].values["accuracy"]
    told = [f"Top-1 of {first.name} on {first.backend}: {own.text(column, unit=True)}."]
    for name, value, compared in found[:_FILES]:
        told.append(
            f"Top-1 of {name}: {value.text(column, unit=True)}. It agrees with the first on "
            f"{compared.same_label / compared.images:.2%} of {compared.images:,} images, with {compared.worse:,} negative "
            f"and {compared.better:,} positive flips (McNemar p {compared.p:.3g}"
            f"{'' if compared.distinguishable else ', not distinguishable'})."
        )
    if len(found) > _FILES:
        told.append(f"The report compares {len(found) - _FILES} more.")
    return told


def first_file(configurations: Configurations) -> Configuration | None:
    """The external model that the others' labels are compared with: the first that has any. None of networks of ours."""
    for configuration, of_one in configurations.items():
        if not configuration.format and "accuracy" in of_one and of_one["accuracy"].result.measurement:
            return configuration
    return None


def _is_lost(result: Result, raw: Raw) -> bool:
    """Whether there were predictions, and they cannot be read any more."""
    return result.measurement is not None and predictions(result, raw) is None


def paired_row(labels: tuple[str, ...], found: Agreement) -> Row:
    between = Estimate(value=found.difference, low=found.low, high=found.high, kind="interval")
    numbers = {"same": found.same_label / found.images, "worse": found.worse, "better": found.better, "p": found.p}
    return Row(
        labels=labels,
        values={
            **{key: Value(number=number) for key, number in numbers.items()},
            "difference": Value(number=found.difference, estimate=between),
        },
        words={"verdict": "" if found.distinguishable else "not distinguishable"},
    )


def pairs(configurations: Configurations) -> Iterator[tuple[Configuration, Result, Result]]:
    """Each configuration that has an accuracy, with its reference's and its own."""
    first = first_file(configurations)
    for configuration, of_one in configurations.items():
        if first:
            reference = configurations[first] if configuration != first else None
        else:
            reference = eager_of(configuration, configurations)
        if reference and "accuracy" in reference and "accuracy" in of_one:
            yield configuration, reference["accuracy"].result, of_one["accuracy"].result


def by_class(configurations: Configurations, raw: Raw) -> list[Section]:
    """Accuracy by class of every configuration, and for each network what its eager form takes for what."""
    title, titles = "Accuracy by class", label_titles(with_metric(configurations, "accuracy"))
    rows, confusions = [], []
    columns: dict[str, Column] = {}
    for configuration, of_one in configurations.items():
        if "accuracy" not in of_one or not (result := of_one["accuracy"].result).measurement:
            continue
        classes = classes_of(result)
        columns |= {
            name: Column(title=name, unit="%", stored_unit="1", scale=100, digits=1, meaning=_OF_CLASS)
            for name in classes
        }
        if not (found := predictions(result, raw)):
            rows.append(
                Row(labels=labels_of(configuration, titles), values={}, words=dict.fromkeys(classes[:1], _LOST))
            )
            continue
        counts = statistics.confusion(found["labels"], found["predicted"], len(classes))
        shares = {
            name: Value(number=counts[index, index] / counts[index].sum())
            for index, name in enumerate(classes)
            if counts[index].sum()
        }
        rows.append(Row(labels=labels_of(configuration, titles), values=shares))
        if is_eager(configuration):
            confusions.append(_confusion(configuration.name, classes, counts))
    if not any(row.values for row in rows):
        return []
    by_class = Section(
        title=title, label_titles=titles, columns=columns, rows=tuple(rows), on_screen=False, part="errors"
    )
    return [by_class, *confusions]


def confusion_matrices(of_classes: Sequence[Section]) -> list[Heat]:
    """Those among the sections of `by_class`, as heat maps."""
    return [
        Heat(
            part="errors",
            title=section.title,
            corner="class \\ label",
            columns=tuple(section.columns),
            rows={
                row.labels[0]: tuple(row.values[key].number if key in row.values else None for key in section.columns)
                for row in section.rows
            },
            notes=section.notes,
        )
        for section in of_classes[1:]
    ]


def _confusion(name: str, classes: tuple[str, ...], counts: NDArray[np.int64]) -> Section:
    columns = {
        other: Column(title=other, unit="", stored_unit="images", digits=0, meaning=_OF_CLASS) for other in classes
    }
    rows = tuple(
        Row(
            labels=(own,),
            values={other: Value(number=float(counts[row, column])) for column, other in enumerate(classes)},
        )
        for row, own in enumerate(classes)
    )
    return Section(
        title=f"Confusion matrix of {name}",
        label_titles=("is",),
        columns=columns,
        rows=rows,
        notes=("Test images by their class (rows) and their label by PyTorch eager (columns).",),
        on_screen=False,
        part="errors",
    )


def changed(configurations: Configurations, raw: Raw) -> Section | None:
    """Every test image whose label is not the reference's."""
    columns = {
        name: Column(title=title, unit="", stored_unit="")
        for name, title in (("image", "test image"), ("is", "is"), ("eager", "reference label"), ("this", "label"))
    }
    rows, lost, titles = [], [], label_titles(with_metric(configurations, "accuracy"))
    for configuration, reference, this in pairs(configurations):
        old, new = predictions(reference, raw), predictions(this, raw)
        compared = agreement(reference, this, raw, raw)
        if _is_lost(reference, raw) or _is_lost(this, raw):
            lost.append(str(configuration))
        if not compared or not old or not new:
            continue
        classes = classes_of(this)
        for place in compared.changed:
            words = {
                "image": str(old["chosen"][place]),
                "is": classes[old["labels"][place]],
                "eager": classes[old["predicted"][place]],
                "this": classes[new["predicted"][place]],
            }
            rows.append(Row(labels=labels_of(configuration, titles), values={}, words=words))
    if not rows:
        return None
    return Section(
        title="Images whose label changed",
        label_titles=titles,
        columns=columns,
        rows=tuple(rows),
        notes=(f"Not compared, since {_LOST}: {', '.join(lost)}.",) if lost else (),
        on_screen=False,
        part="errors",
    )

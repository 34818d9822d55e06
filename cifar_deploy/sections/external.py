"""External models, a row for each on each backend: their cost on random arrays, and their accuracy on images."""

from collections.abc import Mapping, Sequence

from cifar_deploy.core.errors import few
from cifar_deploy.core.records import Failure, Result
from cifar_deploy.core.table import Column, Row, Section
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.sections.common import (
    Configurations,
    filled,
    headline_columns,
    label_titles,
    labels_of,
    metrics_of,
    row_of,
)
from cifar_deploy.sections.latencies import RANK, SPEED_UP, how_measured, ranks, speed_up, timed_of, where_measured

# With the labels file and backend, what a page shows at first.
_MAIN = ("accuracy.accuracy", "latency.p50", "rank", "speed_up", "latency.load", "memory.peak", "file_size.bytes")


def files(configurations: Configurations, controls: Sequence[Result]) -> Section:
    """Their speed-ups are over the first of them that ran, round by round."""
    columns: dict[str, Column] = {}
    for key, column in headline_columns(metrics_of(configurations)).items():
        columns[key] = column
        if key == "latency.p50":
            columns |= {"rank": RANK, "speed_up": SPEED_UP}
    titles = label_titles(configurations)
    places, control = ranks(configurations, controls)
    first = next(iter(timed_of(configurations)), None)
    rows = []
    for configuration, of_one in configurations.items():
        row = row_of(labels_of(configuration, titles), of_one, columns)
        ratio = speed_up(of_one, configurations[first]) if first and configuration != first else None
        rows.append(
            Row(
                labels=row.labels,
                values={**row.values, **({"speed_up": ratio} if ratio else {})},
                failures=_once(row.failures),
                words={**row.words, **({"rank": places[configuration]} if configuration in places else {})},
            )
        )
    notes = (*_conditions(configurations, first), *how_measured(configurations, control))
    return filled("Files side by side", titles, columns, rows, notes, main=_MAIN)


def _once(failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """Each in its first column alone: a file that cannot be loaded fails in all of them."""
    first: dict[Failure, str] = {}
    for key, failure in failures.items():
        first.setdefault(failure, key)
    return {key: failure for failure, key in first.items()}


def _feeds(configurations: Configurations) -> list[str]:
    """How the images of the accuracy reached the files, and which output was the answer."""
    those: dict[str, list[str]] = {}
    for configuration, of_one in configurations.items():
        for summary in of_one.values():
            if feed := summary.result.job.artifact.feed:
                images = summary.result.job.limit_test or feed.data.test_images
                by = f", {feed.data.preprocessing}" if feed.data.preprocessing else ""
                told = f"{images:,} test images of {feed.data.source}{by}, as {feed}; {feed.answer} from {feed.output}"
                those.setdefault(told, []).append(f"{configuration.name} on {configuration.backend}")
    return [f"Accuracy{f' of {few(names)}' if len(those) > 1 else ''}: {told}." for told, names in those.items()]


def _conditions(configurations: Configurations, first: Configuration | None) -> list[str]:
    notes = [where_measured(configurations)]
    files_of: dict[str, list[str]] = {}
    for configuration, of_one in configurations.items():
        if takes := next(iter(of_one.values())).result.job.artifact.takes:
            files_of.setdefault(", ".join(map(str, takes)), []).append(configuration.name)
    for inputs, those in files_of.items():
        whose = f" of {' and '.join(dict.fromkeys(those))}" if len(files_of) > 1 else ""
        notes.append(f"Input{whose}: {inputs}.")
    tensors = [
        tensor
        for of_one in configurations.values()
        for tensor in next(iter(of_one.values())).result.job.artifact.takes
        if tensor.value is None
    ]
    feeds = _feeds(configurations)
    cost = "Of latency and memory the inputs" if feeds else "Inputs"
    if tensors:
        notes.append(f"{cost} are random: floats in [0, 1), integers and booleans 0 or 1.")
    notes += feeds
    integers = [tensor.name for tensor in tensors if not tensor.dtype.startswith("float") and not feeds]
    if chosen := list(dict.fromkeys(integers)):
        notes.append(
            f"No value was given for {', '.join(chosen)}. If one of them is a setting, say its value, "
            f"as in --value {chosen[0]}=16."
        )
    notes += [
        f"{configuration.name} on {configuration.backend} {sentence}."
        for configuration, of_one in configurations.items()
        for sentence in next(iter(of_one.values())).result.job.artifact.training_mode.told
    ]
    notes += [
        f"{configuration.name} on {configuration.backend} writes into its input; "
        "each call got it anew, outside of the timed part."
        for configuration, of_one in configurations.items()
        if any(each.restored for summary in of_one.values() for each in summary.result.measurements.values())
    ]
    if first and len(configurations) > 1:
        notes.append(
            f"First is {first.name} on {first.backend}; a speed-up is the median over the rounds that both have."
        )
    return notes

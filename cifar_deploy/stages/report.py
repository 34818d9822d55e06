"""Results -> Table. It reads results and what lies behind them, nothing else: whatever it shows can be made again."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cifar_deploy.core import statistics
from cifar_deploy.core.errors import DeployError
from cifar_deploy.core.limits import BELOW
from cifar_deploy.core.records import Checkpoint, Failure, Reading, Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.store import CHECKPOINT, is_floor
from cifar_deploy.core.table import Column, Record, Row, Section, Table, Value
from cifar_deploy.metrics import METRICS, Copied
from cifar_deploy.metrics.summary import Cell, Raw, Summary, against_itself, agreement, first_column, predictions

# The original report's test accuracies, by the network of ours that stands for each of its two.
ORIGINAL_REPORT = {"mobilenet": 0.8418, "resnet18": 0.8368}
_REPORT_EPOCHS = 20
_REPORT_RECIPE = "paper"

_MINUTE_S = 60.0

_EAGER = (CHECKPOINT, "pytorch")

_RANK = Column(title="rank", unit="", stored_unit="")
_FLOOR = Column(title="floor", unit="ms", stored_unit="s", scale=1000, digits=3)
_SPEED_UP = Column(title="eager / this", unit="×", stored_unit="1", interval=True)


Cells = dict[Cell, dict[str, Summary]]


def build(results: Sequence[Result], raw: Raw) -> Table:
    """The report of the newest results: those of each training's latest weights, on the machine measured last.

    Raises DeployError if there is nothing to report.
    """
    if not any(
        not is_floor(result.job.artifact.name) and not result.control and not result.job.special for result in results
    ):
        raise DeployError("report: there are no results yet; run `cifar-deploy evaluate` first")
    current = _current(results)
    summaries = [Summary(result, raw) for result in current if not result.control]
    cells: Cells = {}
    floors: Cells = {}
    for summary in summaries:
        cell = Cell.of(summary.result)
        (floors if is_floor(cell.name) else cells).setdefault(cell, {})[summary.result.job.metric] = summary
    controls = [result for result in current if result.control]
    checkpoints = {cell.name: next(iter(of.values())).result.job.artifact.checkpoint for cell, of in cells.items()}
    sections = [
        _deployment(cells, floors, controls),
        _agreement(cells, raw),
        *_classes(cells, raw),
        _changed(cells, raw),
        _memory(cells),
        _under_limits(results, cells),
        _sustained(results, cells),
        _training(cells),
        _comparison(cells, checkpoints),
    ]
    return Table(
        title="cifar-deploy: " + ", ".join(checkpoints),
        facts=_facts(current, checkpoints),
        sections=tuple(section for section in sections if section),
        failures=_failures(cells),
        doubts=_doubts({**cells, **floors}),
        definitions={name: METRICS[name].summary for name in METRICS},
        records=tuple(record for summary in summaries for record in _records(summary)),
    )


def _current(results: Sequence[Result]) -> list[Result]:
    """The newest result of each cell and metric, without those that no longer belong together.

    Left out are other machines than the last, weights that were replaced, and, within a cell, artifacts and versions
    other than the newest: a row never mixes two of them. Floors and controls stay with the session that they belong to.
    """
    machine = results[-1].job.machine
    here = [result for result in results if result.job.machine == machine]
    weights = {result.job.artifact.name: result.job.artifact.checkpoint.weights.sha256 for result in here}
    made_of = {Cell.of(result): (result.job.artifact.files, result.job.versions) for result in here}
    newest: dict[tuple[Cell, str, bool], Result] = {}
    for result in here:
        if result.job.special:
            continue
        cell, artifact = Cell.of(result), result.job.artifact
        if (
            artifact.checkpoint.weights.sha256 == weights[cell.name]
            and (artifact.files, result.job.versions) == made_of[cell]
        ):
            newest[cell, result.job.metric, result.control] = result
    # As they were planned, not by whichever visit came last.
    order = {cell: index for index, cell in enumerate(dict.fromkeys(map(Cell.of, sorted(here, key=_place))))}
    metrics = list(METRICS)
    return sorted(
        newest.values(),
        key=lambda result: (
            order[Cell.of(result)],
            metrics.index(result.job.metric) if result.job.metric in metrics else 99,
        ),
    )


def _place(result: Result) -> int:
    """In the plan of the session. What is not of one comes first, as it was measured: in the order of the plan, too."""
    return 1 + result.session.cells.index(result.job.key) if result.session else 0


def _deployment(cells: Cells, floors: Cells, controls: Sequence[Result]) -> Section:
    """One row a cell: what runs, and what it costs there."""
    varying = [field for field in ("device", "threads") if len({getattr(cell, field) for cell in cells}) > 1]
    columns: dict[str, Column] = {}
    for key, column in _columns(name for name in METRICS if not _is_of_training(name)).items():
        columns[key] = column
        if key == "latency.p50":
            columns |= {"rank": _RANK, "speed_up": _SPEED_UP, "floor": _FLOOR}
    ranks, noise = _ranks(cells, controls)
    rows = []
    for cell, of_cell in cells.items():
        fields = ("name", "format", "backend", *varying)
        row = _row(tuple(str(getattr(cell, field)) for field in fields), of_cell, columns)
        beside = {"floor": _floor(of_cell, floors), "speed_up": _speed_up(of_cell, _eager(cell, cells))}
        rows.append(
            Row(
                labels=row.labels,
                values={**row.values, **{key: value for key, value in beside.items() if value}},
                failures=row.failures,
                words={**row.words, **({"rank": ranks[cell]} if cell in ranks else {})},
            )
        )
    return _section(
        "What to ship", ("network", "format", "backend", *varying), columns, rows, _conditions(cells, noise)
    )


def _ranks(cells: Cells, controls: Sequence[Result]) -> tuple[dict[Cell, str], list[float]]:
    """Places by latency among the cells of the newest session, and how far its control lies from its cell."""
    timed = {cell: of["latency"].result for cell, of in cells.items() if "latency" in of and of["latency"].values}
    sessions = [result.session for result in timed.values() if result.session]
    if not sessions:
        return {}, []
    session = max(sessions, key=lambda session: session.started)
    together = {cell: result for cell, result in timed.items() if result.session == session}
    control = against_itself([*together.values(), *(c for c in controls if c.session == session)], "latency")
    noise = statistics.noise(control) if control else statistics.NOISE_BETWEEN_SESSIONS
    first = first_column("latency")
    places = statistics.ranks([result.rounds(first) for result in together.values()], noise)
    return dict(zip(together, places, strict=True)), control


def _floor(of_cell: dict[str, Summary], floors: Cells) -> Value | None:
    """The latency of the network that does next to nothing, on the same runtime in the same session."""
    latency = of_cell.get("latency")
    for cell, of_floor in floors.items():
        floor = of_floor.get("latency")
        if (
            latency
            and floor
            and cell[1:] == Cell.of(latency.result)[1:]
            and floor.result.session == latency.result.session
        ):
            return floor.values.get(first_column("latency"))
    return None


def _eager(cell: Cell, cells: Cells) -> dict[str, Summary] | None:
    """The same network through PyTorch eager, on the same device and threads; None for itself, or if it is not there."""
    if (cell.format, cell.backend) == _EAGER:
        return None
    return cells.get(cell._replace(format=_EAGER[0], backend=_EAGER[1]))


def _speed_up(of_cell: dict[str, Summary], eager: dict[str, Summary] | None) -> Value | None:
    """How many times faster a cell is than the eager network: the median of the ratios in the rounds that both have."""
    if not eager or "latency" not in eager or "latency" not in of_cell:
        return None
    ours, theirs = of_cell["latency"], eager["latency"]
    if ours.failure or theirs.failure or ours.result.session != theirs.result.session:
        return None
    column = first_column("latency")
    ratio = statistics.paired_ratio(theirs.result.rounds(column), ours.result.rounds(column))
    return Value(number=ratio.value, estimate=ratio, verdict=ours.verdict) if ratio else None


def _agreement(cells: Cells, raw: Raw) -> Section | None:
    """Every cell's labels against the eager network's, image by image."""
    share = Column(title="agreement", unit="%", stored_unit="1", scale=100)
    counted = {"unit": "images", "stored_unit": "images", "digits": 0}
    columns = {
        "same": share,
        "worse": Column(title="worse", **counted),  # type: ignore[arg-type]
        "better": Column(title="better", **counted),  # type: ignore[arg-type]
        "difference": Column(title="difference", unit="points", stored_unit="1", scale=100, interval=True),
        "p": Column(title="McNemar p", unit="", stored_unit="1", digits=3),
        "verdict": Column(title="", unit="", stored_unit=""),
    }
    rows = []
    for cell, of_cell in cells.items():
        eager = _eager(cell, cells)
        if not eager or "accuracy" not in of_cell or "accuracy" not in eager:
            continue
        if found := agreement(eager["accuracy"].result, of_cell["accuracy"].result, raw, raw):
            between = Estimate(
                value=found.difference, low=found.low, high=found.high, rounds=statistics.ROUNDS_FOR_AN_INTERVAL
            )
            numbers = {
                "same": found.same_label / found.images,
                "worse": found.worse,
                "better": found.better,
                "p": found.p,
            }
            rows.append(
                Row(
                    labels=(cell.name, cell.format, cell.backend),
                    values={
                        **{key: Value(number=number) for key, number in numbers.items()},
                        "difference": Value(number=found.difference, estimate=between),
                    },
                    words={"verdict": "" if found.distinguishable else "not distinguishable"},
                )
            )
    if not rows:
        return None
    return _section(
        "Accuracy against the eager network",
        ("network", "format", "backend"),
        columns,
        rows,
        (
            "The same test images: worse were right before and are wrong now, better the reverse; exact McNemar test, "
            "Newcombe's 95 % interval.",
        ),
    )


def _classes(cells: Cells, raw: Raw) -> list[Section]:
    """Accuracy by class of every cell, and for each network what its eager form takes for what."""
    title = "Accuracy by class"
    rows, confusions = [], []
    columns: dict[str, Column] = {}
    for cell, of_cell in cells.items():
        if "accuracy" not in of_cell or not (found := predictions(of_cell["accuracy"].result, raw)):
            continue
        classes = of_cell["accuracy"].result.job.artifact.checkpoint.training.data.classes
        columns |= {name: Column(title=name, unit="%", stored_unit="1", scale=100, digits=1) for name in classes}
        counts = statistics.confusion(found["labels"], found["predicted"], len(classes))
        shares = {
            name: Value(number=counts[index, index] / counts[index].sum())
            for index, name in enumerate(classes)
            if counts[index].sum()
        }
        rows.append(Row(labels=(cell.name, cell.format, cell.backend), values=shares))
        if (cell.format, cell.backend) == _EAGER:
            confusions.append(_confusion(cell.name, classes, counts))
    if not rows:
        return []
    labels = ("network", "format", "backend")
    by_class = Section(title=title, label_titles=labels, columns=columns, rows=tuple(rows), on_screen=False)
    return [by_class, *confusions]


def _confusion(name: str, classes: tuple[str, ...], counts: NDArray[np.int64]) -> Section:
    columns = {other: Column(title=other, unit="", stored_unit="images", digits=0) for other in classes}
    rows = tuple(
        Row(
            labels=(own,),
            values={other: Value(number=float(counts[row, column])) for column, other in enumerate(classes)},
        )
        for row, own in enumerate(classes)
    )
    return Section(
        title=f"What {name} takes for what",
        label_titles=("is",),
        columns=columns,
        rows=rows,
        notes=("Test images by their class (rows) and their label by PyTorch eager (columns).",),
        on_screen=False,
    )


def _changed(cells: Cells, raw: Raw) -> Section | None:
    """Every test image whose label is not the eager network's."""
    columns = {
        name: Column(title=title, unit="", stored_unit="")
        for name, title in (("image", "test image"), ("is", "is"), ("eager", "eager says"), ("this", "this says"))
    }
    rows = []
    for cell, of_cell in cells.items():
        eager = _eager(cell, cells)
        if not eager or "accuracy" not in of_cell or "accuracy" not in eager:
            continue
        old, new = (predictions(of["accuracy"].result, raw) for of in (eager, of_cell))
        compared = agreement(eager["accuracy"].result, of_cell["accuracy"].result, raw, raw)
        if not compared or not old or not new:
            continue
        classes = of_cell["accuracy"].result.job.artifact.checkpoint.training.data.classes
        for place in compared.changed:
            words = {
                "image": str(old["chosen"][place]),
                "is": classes[old["labels"][place]],
                "eager": classes[old["predicted"][place]],
                "this": classes[new["predicted"][place]],
            }
            rows.append(Row(labels=(cell.name, cell.format, cell.backend), values={}, words=words))
    if not rows:
        return None
    return Section(
        title="Images whose label changed",
        label_titles=("network", "format", "backend"),
        columns=columns,
        rows=tuple(rows),
        on_screen=False,
    )


def _memory(cells: Cells) -> Section | None:
    """What the peak is made of."""
    columns = {
        f"memory.{key}": dataclasses.replace(column, title=column.title.removeprefix("memory: "), digits=1)
        for key, column in METRICS["memory"].columns.items()
    }
    rows = [
        _row((cell.name, cell.format, cell.backend), of_cell, columns)
        for cell, of_cell in cells.items()
        if "memory" in of_cell
    ]
    if not rows:
        return None
    return _section(
        "Memory, part by part",
        ("network", "format", "backend"),
        columns,
        rows,
        (
            "Resident memory of a process that does nothing else. Python + harness + runtime + model + first call is what "
            "is resident then; the peaks are the most that ever was, at batch 1 and at the larger one.",
        ),
    )


def _under_limits(results: Sequence[Result], cells: Cells) -> Section | None:
    """Under how much memory each cell ran, and under how much it did not."""
    bytes_ = {"unit": "MiB", "stored_unit": "bytes", "scale": 1 / 2**20, "digits": 1}
    columns = {
        "peak": Column(title="claimed peak", **bytes_),  # type: ignore[arg-type]
        "ran": Column(title="ran under", **bytes_),  # type: ignore[arg-type]
        "counted": Column(title="counted", **bytes_),  # type: ignore[arg-type]
        "failed": Column(title="not under", **bytes_),  # type: ignore[arg-type]
        "also": Column(title="yet ran under", **bytes_),  # type: ignore[arg-type]
        "kind": Column(title="limited by", unit="", stored_unit=""),
    }
    found: dict[Cell, dict[str, float]] = {}
    words: dict[Cell, dict[str, str]] = {}
    for result in results:
        cell, options = Cell.of(result), result.job.options
        if "limit_bytes" not in options or not _is_current(result, cells):
            continue
        limit = float(options["limit_bytes"] or 0)
        of_cell, memory = found.setdefault(cell, {}), cells[cell].get("memory")
        if memory and memory.values:
            of_cell["peak"] = max(memory.values[key].number for key in ("peak", "batch"))
        above = limit > of_cell.get("peak", 0.0)
        words[cell] = {"kind": str(options["limit_kind"])}
        if result.reading:
            of_cell["ran" if above else "also"] = limit
            of_cell |= (
                {"counted": result.reading.values["counted"]} if above and "counted" in result.reading.values else {}
            )
        elif result.failure:
            of_cell["failed"] = limit
            if result.failure.kind != "out of memory":
                words[cell]["kind"] += f" ({result.failure.kind})"
    rows = [
        Row(
            labels=(cell.name, cell.format, cell.backend),
            values={key: Value(number=number) for key, number in of_cell.items()},
            words=words[cell],
        )
        for cell, of_cell in found.items()
    ]
    if not rows:
        return None
    return _section(
        "Memory under a limit",
        ("network", "format", "backend"),
        columns,
        rows,
        (
            "The claimed peak is resident memory (VmHWM), at batch 1 or at the larger batch. Counted is what the kernel "
            "charged to the process alone: pages of libraries that were in the system's cache before are not in it. The "
            f"lower limit is {BELOW:.0%} of that.",
        ),
    )


def _sustained(results: Sequence[Result], cells: Cells) -> Section | None:
    """The first minute under load against the last."""
    newest = {
        (Cell.of(result), result.job.metric): result
        for result in results
        if "sustain_s" in result.job.options and result.readings and _is_current(result, cells)
    }
    columns = {
        "first": Column(title="first minute", unit="", stored_unit=""),
        "last": Column(title="last minute", unit="", stored_unit=""),
        "ratio": Column(title="last / first", unit="", stored_unit="1", digits=3),
        "frequency": Column(title="frequency", unit="GHz", stored_unit=""),
        "temperature": Column(title="temperature", unit="°C", stored_unit=""),
        "minutes": Column(title="under load", unit="min", stored_unit="s", scale=1 / 60, digits=1),
    }
    rows = []
    for (cell, metric), result in newest.items():
        key = first_column(metric)
        column = METRICS[metric].columns[key]
        begin, end = (_parse(result.blocks[index].started) for index in (0, -1))
        first = [b.reading for b in result.blocks if b.reading and _parse(b.started) < begin + _MINUTE_S]
        last = [b.reading for b in result.blocks if b.reading and _parse(b.started) > end - _MINUTE_S]
        medians = [statistics.estimate([reading.values[key] for reading in part]).value for part in (first, last)]
        rows.append(
            Row(
                labels=(cell.name, cell.format, cell.backend, metric),
                values={
                    "ratio": Value(number=medians[1] / medians[0]),
                    "minutes": Value(number=end - begin + result.blocks[-1].seconds),
                },
                words={
                    "first": f"{column.text(medians[0])} {column.unit}",
                    "last": f"{column.text(medians[1])} {column.unit}",
                    "frequency": _gauge(first, last, "frequency_hz", 1e-9, 2),
                    "temperature": _gauge(first, last, "temperature_c", 1, 0),
                },
            )
        )
    if not rows:
        return None
    return _section(
        "Under sustained load",
        ("network", "format", "backend", "metric"),
        columns,
        rows,
        ("The median of the blocks that began in the first and in the last minute, the cells taking turns.",),
    )


def _parse(started: str) -> float:
    return datetime.fromisoformat(started).timestamp()


def _gauge(first: Sequence[Reading], last: Sequence[Reading], name: str, scale: float, digits: int) -> str:
    """From the first minute to the last, or that the system does not say."""
    shown = []
    for part in (first, last):
        found = [value for r in part if r.disturbance and (value := getattr(r.disturbance, name)) is not None]
        if not found:
            return "unavailable"
        shown.append(f"{statistics.estimate(found).value * scale:.{digits}f}")
    return " → ".join(shown)


def _is_current(result: Result, cells: Cells) -> bool:
    """Whether a result is of the same artifact, versions and machine as the cell of the table."""
    of_cell = cells.get(Cell.of(result))
    if not of_cell:
        return False
    job = next(iter(of_cell.values())).result.job
    return (job.artifact.files, job.versions, job.machine) == (
        result.job.artifact.files,
        result.job.versions,
        result.job.machine,
    )


def _training(cells: Cells) -> Section:
    """One row a network: what does not depend on how it is deployed."""
    columns = _columns(filter(_is_of_training, METRICS))
    of_name: dict[str, dict[str, Summary]] = {}
    for cell, of_cell in cells.items():
        of_name.setdefault(cell.name, {}).update(of_cell)
    rows = [_row((name,), of_cell, columns) for name, of_cell in of_name.items()]
    return _section("What it cost to train", ("network",), columns, rows)


def _comparison(cells: Cells, checkpoints: dict[str, Checkpoint]) -> Section | None:
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
        for name, checkpoint in checkpoints.items():
            eager = next((of for cell, of in cells.items() if cell[:3] == (name, *_EAGER)), None)
            if checkpoint.training.network == network and eager:
                row = _row((name,), eager, columns)
                values = {**row.values, "reported": Value(number=reported)}
                rows.append(Row(labels=row.labels, values=values, failures=row.failures, words=row.words))
                notes += _unlike_the_report(name, checkpoint, eager)
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
    )


def _unlike_the_report(name: str, checkpoint: Checkpoint, eager: dict[str, Summary]) -> list[str]:
    """In what a row is no repetition of the report's."""
    training, notes = checkpoint.training, []
    if training.data.dataset != "cifar10":
        notes.append(
            f"The report's data are the original CIFAR-10; ours are {training.data.source}: "
            "the accuracies are not of the same images."
        )
    recipe = training.recipe
    if (recipe.name, recipe.epochs, recipe.learning_rate, recipe.limit_train) != (
        _REPORT_RECIPE,
        _REPORT_EPOCHS,
        0.001,
        None,
    ):
        notes.append(
            f"The report trained for {_REPORT_EPOCHS} epochs with Adam at 0.001; {name} was trained by {recipe}."
        )
    accuracy = eager["accuracy"].values.get("images") if "accuracy" in eager else None
    if accuracy and accuracy.number < training.data.test_images:
        notes.append(f"{name} was tested on {accuracy.number:,.0f} of {training.data.test_images:,} test images.")
    return notes


def _is_of_training(metric: str) -> bool:
    plugin = METRICS[metric]
    return isinstance(plugin, Copied) and plugin.stage == "train"


def _columns(metrics: Iterable[str]) -> dict[str, Column]:
    return {
        f"{metric}.{key}": column
        for metric in metrics
        for key, column in METRICS[metric].columns.items()
        if column.headline
    }


def _section(
    title: str,
    label_titles: tuple[str, ...],
    columns: dict[str, Column],
    rows: Sequence[Row],
    notes: tuple[str, ...] = (),
) -> Section:
    """A section without the columns in which no row has anything."""
    shown = {
        key: column
        for key, column in columns.items()
        if any(key in row.values or key in row.failures or key in row.words for row in rows)
    }
    return Section(title=title, label_titles=label_titles, columns=shown, rows=tuple(rows), notes=notes)


def _row(labels: tuple[str, ...], of_cell: dict[str, Summary], columns: dict[str, Column]) -> Row:
    values: dict[str, Value] = {}
    failures: dict[str, Failure] = {}
    words: dict[str, str] = {}
    for column in columns:
        metric, _, key = column.partition(".")
        summary = of_cell.get(metric)
        if summary and summary.failure:
            failures[column] = summary.failure
        elif summary and key in summary.values:
            values[column] = summary.values[key]
        elif summary and key in summary.words:
            words[column] = summary.words[key]
    return Row(labels=labels, values=values, failures=failures, words=words)


def _conditions(cells: Cells, control: Sequence[float]) -> tuple[str, ...]:
    """Under what the rows were measured, as far as the labels do not say it, and how to read the numbers."""
    devices = sorted({cell.device for cell in cells})
    threads = sorted({cell.threads for cell in cells})
    notes = [f"On {', '.join(devices)}, {' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."]
    every = [summary.result for of_cell in cells.values() for summary in of_cell.values()]
    if batches := sorted({result.job.batch_size for result in every if result.job.metric == "throughput"}):
        notes.append(f"Latency at batch 1, throughput at batch {' and '.join(map(str, batches))}.")
    if limits := sorted({str(limit) for result in every if (limit := result.job.options.get("limit_test"))}):
        notes.append(f"Accuracy over only {' and '.join(limits)} test images (--limit-test).")
    latencies = [of["latency"].result for of in cells.values() if "latency" in of and of["latency"].values]
    if latencies:
        notes += _how_measured(latencies)
    if control:
        notes.append(
            f"The same cell against itself: {statistics.estimate(control).value - 1:+.1%} (A/A); what lies inside {statistics.noise(control):.1%} "
            "or inside its own interval is a tie (=)."
        )
    return tuple(notes)


def _how_measured(latencies: Sequence[Result]) -> list[str]:
    notes = []
    rounds = sorted({len(result.readings) for result in latencies})
    if rounds[0] >= statistics.ROUNDS_FOR_AN_INTERVAL:
        meaning = "[ ] is the 95 % interval of their median"
    else:
        meaning = (
            f"( ) is their range: {statistics.ROUNDS_FOR_AN_INTERVAL} rounds or more would give an interval (--rounds)"
        )
    notes.append(
        f"Latency is the median of {' to '.join(dict.fromkeys((str(rounds[0]), str(rounds[-1]))))} rounds, "
        f"a process each; {meaning}."
    )
    if len(rounds) > 1:
        few = [f"{Cell.of(r)}: {len(r.readings)}" for r in latencies if len(r.readings) < rounds[-1]]
        notes.append(f"Fewer rounds, for their precision or for a failure: {', '.join(few)}.")
    if len({result.session for result in latencies}) > 1:
        notes.append("Not interleaved: these latencies are of several sessions, and only the newest one's are ranked.")
    return notes


def _facts(results: Sequence[Result], checkpoints: dict[str, Checkpoint]) -> dict[str, tuple[str, ...]]:
    def each(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(texts))

    return {
        "data": each(
            f"{c.training.data} (fingerprint {c.training.data.fingerprint[:16]})" for c in checkpoints.values()
        ),
        "recipe": each(str(c.training.recipe) for c in checkpoints.values()),
        "trained on": each(f"{c.device} ({c.device_name}), {c.threads} threads" for c in checkpoints.values()),
        "machine": each(str(result.job.machine) for result in results),
        "versions": each(
            f"{package} {version}" for result in results for package, version in result.job.versions.items()
        ),
        "commit": each(block.commit or "not from a checkout" for result in results for block in result.blocks),
        "measured": (
            f"{min(b.started for r in results for b in r.blocks)} to {max(b.started for r in results for b in r.blocks)}",
        ),
    }


def _failures(cells: Cells) -> tuple[str, ...]:
    """A line a reason; the metrics that share it stand together."""
    lines: dict[tuple[Cell, str, str], list[str]] = {}
    for cell, of_cell in cells.items():
        for metric, summary in of_cell.items():
            if summary.failure:
                lines.setdefault((cell, summary.failure.kind, summary.failure.reason), []).append(metric)
    return tuple(f"{cell}, {', '.join(metrics)}: {kind}: {reason}" for (cell, kind, reason), metrics in lines.items())


def _doubts(cells: Cells) -> tuple[str, ...]:
    """Every number that is not stable, and why."""
    return tuple(
        f"{cell}, {metric}: {summary.verdict.word}: {'; '.join(summary.verdict.reasons)}"
        for cell, of_cell in cells.items()
        for metric, summary in of_cell.items()
        if summary.verdict and summary.verdict.word != "stable"
    )


def _records(summary: Summary) -> Iterable[Record]:
    result = summary.result
    job, checkpoint = result.job, result.job.artifact.checkpoint
    data = checkpoint.training.data
    common: dict[str, str | int | float | None] = {
        "name": job.artifact.name,
        "network": checkpoint.training.network,
        "format": job.artifact.format,
        "backend": job.backend,
        "device": job.device,
        "threads": job.threads,
        "batch_size": job.batch_size,
        "metric": job.metric,
    }
    trace: dict[str, str | int | float | None] = {
        "options": json.dumps(dict(job.options)),
        "session": result.session.started if result.session else None,
        "recipe": str(checkpoint.training.recipe),
        "dataset": data.dataset,
        "source": data.source,
        "data_fingerprint": data.fingerprint,
        "weights_sha256": checkpoint.weights.sha256,
        "artifact_sha256": " ".join(file.sha256 for file in job.artifact.files),
        "machine": str(job.machine),
        "versions": " ".join(f"{package}={version}" for package, version in job.versions.items()),
        "protocol": job.protocol,
        "commit": result.blocks[-1].commit,
        "started": result.blocks[0].started,
        "raw": " ".join(reading.raw for reading in result.readings.values() if reading.raw) or None,
    }

    def record(key: str | None, value: Value | None, status: str, reason: str | None) -> Record:
        estimate = value.estimate if value else None
        return Record(
            fields={
                **common,
                "value_name": key,
                "value": value.number if value else None,
                "low": estimate.low if estimate else None,
                "high": estimate.high if estimate else None,
                "interval_kind": estimate.kind if estimate else None,
                "rounds": estimate.rounds if estimate else None,
                "unit": METRICS[job.metric].columns[key].stored_unit if key else None,
                "verdict": summary.verdict.word if summary.verdict else None,
                "status": status,
                "reason": reason,
                **trace,
            }
        )

    if summary.failure:
        yield record(None, None, summary.failure.kind, summary.failure.reason)
    doubt = "; ".join(summary.verdict.reasons) if summary.verdict else ""
    for key, value in summary.values.items():
        yield record(key, value, "ok", doubt or None)

"""What a configuration needs before it answers, and how many images it takes a second, by runtime."""

from cifar_deploy.core.charts import Heat
from cifar_deploy.metrics import METRICS
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.sections.common import Configurations, by_settings, fastest_by_runtime, runtime_title, with_metric

_START = (("file_size", "bytes"), ("latency", "import"), ("latency", "load"), ("latency", "first"))
_MOST = 16


def size_and_load(configurations: Configurations, name: str | None) -> Heat | None:
    """Of one network, the winner's, on each runtime: file size, import, load and first inference; None if it was not timed."""
    rows = {each: of for each, of in by_settings(configurations).items() if "latency" in of}
    by_name = fastest_by_runtime(rows)
    name = name if name in by_name else next(iter(by_name), None)
    if name is None:
        return None
    columns = [METRICS[metric].columns[key] for metric, key in _START]
    found = {}
    for configuration in by_name[name][:_MOST]:
        values = [
            rows[configuration][metric].values.get(key) if metric in rows[configuration] else None
            for metric, key in _START
        ]
        if any(values):
            found[_label(configuration)] = tuple(
                value.number * column.scale if value else None for value, column in zip(values, columns, strict=True)
            )
    if not found:
        return None
    return Heat(
        part="start",
        title=f"Size, load and first inference of {name}",
        corner="runtime",
        columns=tuple(column.heading for column in columns),
        rows=found,
        digits=1,
        by_column=True,
        log=True,
        notes=(
            "The fastest configuration on each runtime. Darker is more. The other networks stand under All numbers.",
        ),
    )


def throughput(configurations: Configurations) -> Heat | None:
    """The best of each runtime by network, batch size and threads; None if it was not measured."""
    found: dict[str, dict[str, float]] = {}
    measured = with_metric(by_settings(configurations), "throughput")
    jobs = {each: of["throughput"].result.job for each, of in measured.items()}
    threads = {job.threads for job in jobs.values()}
    for configuration, of_one in measured.items():
        value = of_one["throughput"].values.get("images_per_second")
        if not value:
            continue
        job = jobs[configuration]
        column = f"{configuration.name}, batch {job.batch_size}" + (
            f", {job.threads} threads" if len(threads) > 1 else ""
        )
        of_runtime = found.setdefault(runtime_title(configuration), {})
        of_runtime[column] = max(value.number, of_runtime.get(column, 0.0))
    columns = tuple(dict.fromkeys(column for of_runtime in found.values() for column in of_runtime))[:_MOST]
    if not columns:
        return None
    order = sorted(found, key=lambda runtime: -max(found[runtime].get(column, 0.0) for column in columns))
    return Heat(
        part="batches",
        title="Throughput, images per second",
        corner="runtime",
        columns=columns,
        rows={runtime: tuple(found[runtime].get(column) for column in columns) for runtime in order[:_MOST]},
        by_column=True,
        log=True,
        notes=(f"The best format of each runtime. {_with_threads(threads)}. Darker is more.",),
    )


def _with_threads(threads: set[int]) -> str:
    return "With 1 thread" if threads == {1} else f"With {' and '.join(map(str, sorted(threads)))} threads"


def _label(configuration: Configuration) -> str:
    return (
        f"{runtime_title(configuration)}, {configuration.variant}"
        if configuration.format
        else runtime_title(configuration)
    )

"""How far the measurements may be believed, in one line, and every doubt by its cause."""

from collections.abc import Sequence

from cifar_deploy.core import statistics
from cifar_deploy.core.table import Health
from cifar_deploy.core.verdict import cause
from cifar_deploy.metrics.summary import is_timed
from cifar_deploy.sections.common import Configurations, is_of_training, metrics_of

_PLURALS = {"latency": "latencies", "throughput": "throughputs"}


def health(configurations: Configurations, overheads: Configurations, control: Sequence[float]) -> Health | None:
    """None if nothing was judged. `control` is what the same configuration differed by from itself."""
    unstable, judged_values, causes = [], 0, _causes(configurations | overheads)
    for metric in metrics_of(configurations):
        judged = [
            of[metric].verdict for of in configurations.values() if metric in of and is_timed(of[metric].result.job)
        ]
        verdicts = [verdict for verdict in judged if verdict]
        judged_values += len(verdicts)
        count = sum(verdict.word != "stable" for verdict in verdicts)
        if count:
            unstable.append(f"{count} of {len(verdicts)} {_PLURALS.get(metric, metric)}")
    if not judged_values:
        return None
    noise = statistics.noise(control) if control else statistics.NOISE_BETWEEN_SESSIONS
    claimed = f"Differences below {noise:.1%} are not claimed."
    if not unstable:
        return Health(line=f"Every timed value is stable. {claimed}", causes=causes)
    main = max(causes, key=lambda each: len(causes[each]))
    return Health(line=f"Unstable: {' and '.join(unstable)}. Main cause: {main}. {claimed}", causes=causes)


def _causes(configurations: Configurations) -> dict[str, tuple[str, ...]]:
    """Every doubt as a line, by its cause; the most frequent cause first."""
    found: dict[str, dict[str, None]] = {}
    for configuration, of_one in configurations.items():
        for metric, summary in of_one.items():
            if summary.verdict and summary.verdict.word != "stable":
                whose = configuration.name if is_of_training(metric) else configuration
                for reason in summary.verdict.reasons:
                    line = f"{whose}, {metric}: {summary.verdict.word}: {reason}"
                    found.setdefault(cause(reason), {})[line] = None
    return {each: tuple(found[each]) for each in sorted(found, key=lambda each: -len(found[each]))}

"""How far the measurements may be believed, in one line, and every doubt by its cause."""

from collections import Counter
from collections.abc import Sequence

from cifar_deploy.core import statistics
from cifar_deploy.core.table import Health
from cifar_deploy.core.verdict import cause
from cifar_deploy.metrics.summary import Summary, is_timed
from cifar_deploy.sections.common import Configurations, doubted, is_of_training, metrics_of

_PLURALS = {"latency": "latencies", "throughput": "throughputs"}


def health(configurations: Configurations, overheads: Configurations, control: Sequence[float]) -> Health | None:
    """None if nothing was judged. `control` is what the same configuration differed by from itself."""
    unstable, judged_values, why, causes = [], 0, Counter[str](), _causes(configurations | overheads)
    at_chance = [each for each, of in configurations.items() if any(map(_is_doubted_share, of.values()))]
    shares = (
        f"Accuracy not above chance, or over too few images: {len(at_chance)} of {len(configurations)}."
        if at_chance
        else ""
    )
    for metric in metrics_of(configurations):
        judged = [
            of[metric].verdict for of in configurations.values() if metric in of and is_timed(of[metric].result.job)
        ]
        verdicts = [verdict for verdict in judged if verdict]
        judged_values += len(verdicts)
        doubtful = [verdict for verdict in verdicts if verdict.word != "stable"]
        why.update(each for verdict in doubtful for each in dict.fromkeys(map(cause, verdict.reasons)))
        if doubtful:
            unstable.append(f"{len(doubtful)} of {len(verdicts)} {_PLURALS.get(metric, metric)}")
    if not judged_values:
        return Health(line=shares, causes=causes) if shares else None
    noise = statistics.noise(control) if control else statistics.NOISE_BETWEEN_SESSIONS
    stability = "Every timed value is stable."
    if unstable:
        counted = ", ".join(f"{each} ({count})" for each, count in why.most_common())
        stability = f"Unstable: {' and '.join(unstable)}. Causes: {counted}."
    line = " ".join(filter(None, (shares, stability, f"Differences below {noise:.1%} are not claimed.")))
    return Health(line=line, causes=causes)


def _is_doubted_share(summary: Summary) -> bool:
    return bool(summary.verdict) and not is_timed(summary.result.job) and not is_of_training(summary.result.job.metric)


def _causes(configurations: Configurations) -> dict[str, tuple[str, ...]]:
    """Every doubt as a line, by its cause; the most frequent cause first."""
    found: dict[str, dict[str, None]] = {}
    for whose, verdict in doubted(configurations):
        for reason in verdict.reasons:
            found.setdefault(cause(reason), {})[f"{whose}: {verdict.word}: {reason}"] = None
    return {each: tuple(found[each]) for each in sorted(found, key=lambda each: -len(found[each]))}

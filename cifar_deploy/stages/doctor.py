"""What can be chosen here, and what is in the way of the rest."""

from cifar_deploy.core import untrusted
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.store import Store
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.metrics.summary import Configuration
from cifar_deploy.stages import results as results_stage
from cifar_deploy.workers import catalogue as worker
from cifar_deploy.workers.catalogue import Entry


def catalogue() -> list[Entry]:
    """Every plugin there is, and what it lacks here."""
    return Worker().call(worker.catalogue)


def diagnose(store: Store) -> dict[str, list[str]]:
    """What stands in the way, by its reason: of the plugins that lack something here, and of the store's exports and configurations.

    Raises UsageError if the store's folder does not exist.
    """
    untrusted.check_named(store.root, "give another, or leave it out", "--out")
    found: dict[str, list[str]] = {}

    def add(reason: str, what: str) -> None:
        those = found.setdefault(reason, [])
        if what not in those:
            those.append(what)

    for entry in catalogue():
        # An environment is in nobody's way but that of the plugins that need it, and they say so.
        if entry.why_unavailable and entry.kind != ENVIRONMENTS.kind:
            add(entry.why_unavailable, f"{entry.kind} {entry.name}")
    for name in store.names():
        for artifact in store.artifacts(name):
            if artifact.failure:
                add(f"{artifact.failure.kind}: {artifact.failure.reason}", f"export of {name} to {artifact.variant}")
    lines = store.lines(results_stage.fault)
    for told in lines.told():
        add(told, f"results in {store.results_path}")
    newest = {(Configuration.of(r), r.job.metric): r for r in grouped(lines.runs) if r.job.is_ordinary}
    for (configuration, metric), result in newest.items():
        if result.failure:
            add(f"{result.failure.kind}: {result.failure.reason}", f"{metric} of {configuration}")
    return found

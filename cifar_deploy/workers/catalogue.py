"""What can be chosen, and what each choice lacks here. Runs in a worker, since asking for a GPU takes a runtime."""

from dataclasses import dataclass
from typing import Any

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.environment import Environment
from cifar_deploy.core.errors import Unavailable
from cifar_deploy.core.registry import why_unavailable
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS
from cifar_deploy.networks import NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS


@dataclass(frozen=True, kw_only=True)
class Entry:
    kind: str
    name: str
    summary: str
    why_unavailable: str | None  # what is missing here and how to mend it; None if nothing


def catalogue() -> list[Entry]:
    """Every plugin of every kind, in the order of the pipeline."""
    kinds = (DATASETS, NETWORKS, RECIPES, FORMATS, BACKENDS, ENVIRONMENTS, DEVICES, METRICS, REPORTS)
    return [
        Entry(
            kind=plugins.kind,
            name=name,
            summary=_summary(plugins[name]),
            why_unavailable=_why_unavailable(plugins[name]),
        )
        for plugins in kinds
        for name in plugins
    ]


def _summary(plugin: Any) -> str:
    summary = plugin.summary if hasattr(plugin, "summary") else str(plugin)
    opens = getattr(plugin, "opens", None)
    return f"{summary}; bench: {', '.join(opens.suffixes)}" if opens else summary


def _why_unavailable(plugin: Any) -> str | None:
    if isinstance(plugin, Environment):
        return plugin.why_unavailable()
    if lacking := why_unavailable(
        getattr(plugin, "requires", ()), getattr(plugin, "programs", ()), getattr(plugin, "environment", None)
    ):
        return lacking
    try:
        if hasattr(plugin, "probe"):
            plugin.probe()
    except Unavailable as error:
        return str(error)
    return None

"""What can be chosen, and what each choice lacks here. Runs in a worker, since asking for a GPU takes a runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core.defaults import DATASET, DEVICE, RECIPE
from cifar_deploy.core.environment import Environment
from cifar_deploy.core.errors import Lack, Unavailable
from cifar_deploy.core.registry import Registry, Requirements, lack_of
from cifar_deploy.datasets import DATASETS
from cifar_deploy.devices import DEVICES
from cifar_deploy.environments import ENVIRONMENTS
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics import METRICS, default_metrics
from cifar_deploy.networks import DEFAULT_NETWORKS, NETWORKS
from cifar_deploy.recipes import RECIPES
from cifar_deploy.reports import REPORTS


@dataclass(frozen=True, kw_only=True)
class Entry:
    kind: str
    name: str
    summary: str
    is_default: bool  # taken where none of its kind is named
    why_unavailable: str | None  # what is missing here; None if nothing
    command: str | None  # that mends it, if one can


# What is taken where none is named. All are, of kinds that are not here; an environment is never taken unasked.
_DEFAULTS: Mapping[str, Callable[[], tuple[str, ...]]] = {
    DATASETS.kind: lambda: (DATASET,),
    NETWORKS.kind: lambda: tuple(DEFAULT_NETWORKS),
    RECIPES.kind: lambda: (RECIPE,),
    ENVIRONMENTS.kind: tuple,
    DEVICES.kind: lambda: (DEVICE,),
    METRICS.kind: lambda: tuple(default_metrics()),
}


def catalogue() -> list[Entry]:
    """Every plugin of every kind, in the order of the pipeline."""
    kinds = (DATASETS, NETWORKS, RECIPES, FORMATS, BACKENDS, ENVIRONMENTS, DEVICES, METRICS, REPORTS)
    return [entry for plugins in kinds for entry in _entries(plugins)]


def _entries(plugins: Registry[Any]) -> list[Entry]:
    defaults = _DEFAULTS.get(plugins.kind, lambda: tuple(plugins))()
    found = []
    for name, plugin in plugins.items():
        lack = _lack(plugins.kind, name, plugin)
        found.append(
            Entry(
                kind=plugins.kind,
                name=name,
                summary=_summary(plugin),
                is_default=name in defaults,
                why_unavailable=lack.reason if lack else None,
                command=lack.command if lack else None,
            )
        )
    return found


def _summary(plugin: Any) -> str:
    summary = str(plugin.summary)
    opens = getattr(plugin, "opens", None)
    return f"{summary}; bench: {', '.join(opens.suffixes)}" if opens else summary


def _lack(kind: str, name: str, plugin: Any) -> Lack | None:
    if isinstance(plugin, Environment):
        return plugin.lack()
    if isinstance(plugin, Requirements) and (lack := lack_of(plugin)):
        return lack
    try:
        if hasattr(plugin, "probe"):
            plugin.probe()
    except Unavailable as error:
        return Lack(reason=str(error).removeprefix(f"{kind} {name}: "), command=None)
    return None

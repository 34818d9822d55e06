"""Results by the machine that they were measured on. A machine without a name comes first: it is home."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from cifar_deploy.core.errors import UnknownName, UsageError
from cifar_deploy.core.records import Baseline, Machine, Result

# As Machine.unit: what stays the same of one device.
Unit: TypeAlias = tuple[str, ...]


class OfMachine(NamedTuple):
    """All results of one device. `title` is its own among the others'."""

    title: str
    machine: Machine  # as the newest of the results describe it
    results: Sequence[Result]


def by_machine(results: Sequence[Result]) -> list[OfMachine]:
    """The results of each device: those without a name first, emulated ones last, else as they come first among the results."""
    units = _units(dict.fromkeys(result.job.machine for result in results))
    found: dict[Unit, list[Result]] = {}
    for result in results:
        found.setdefault(units[result.job.machine], []).append(result)
    # Of a device that was measured before and after an upgrade, the newest record counts.
    newest = {unit: _newest(those) for unit, those in found.items()}
    titles = _titles(newest)
    order = sorted(found, key=lambda unit: (newest[unit].emulated, newest[unit].name is not None))
    return [OfMachine(titles[unit], newest[unit], found[unit]) for unit in order]


def measured(results: Sequence[Result]) -> list[OfMachine]:
    """The devices that have results for a report. Raises UsageError if no device has any."""
    found = [each for each in by_machine(results) if any(map(_is_reported, each.results))]
    if not found:
        only = "only loads and limits were measured" if results else "there are no results yet"
        raise UsageError(f"report: {only}; run `cifar-deploy evaluate` first")
    return found


def _is_reported(result: Result) -> bool:
    return not result.control and result.job.is_ordinary and not isinstance(result.job.artifact.origin, Baseline)


def restricted(found: Sequence[OfMachine], names: Iterable[str]) -> list[OfMachine]:
    """Those of these names, in their order; all if there is no name. A name is a title, or a beginning that only one has.

    Raises UsageError for a name that is of none, or of several.
    """
    asked = {_of_name(name, found).title for name in names}
    return [each for each in found if not asked or each.title in asked]


def _of_name(name: str, found: Sequence[OfMachine]) -> OfMachine:
    titles = [each.title for each in found]
    exact = [each for each in found if each.title == name] or [each for each in found if each.machine.title == name]
    alike = exact or [each for each in found if each.title.startswith(name)]
    if not alike:
        raise UnknownName.among("machine (--machine)", name, titles)
    if len(alike) > 1:
        raise UsageError(
            f"--machine: {name} is of {' and of '.join(each.title for each in alike)}; give the whole name"
        )
    return alike[0]


def _newest(results: Sequence[Result]) -> Machine:
    ordinary = [result for result in results if result.job.is_ordinary]
    return (ordinary or results)[-1].job.machine


def _units(machines: Iterable[Machine]) -> dict[Machine, Unit]:
    """A record of before the id was kept is of the device with an id that is like it otherwise, if there is just one."""
    machines = list(machines)
    found = {}
    for machine in machines:
        alike = {other.unit for other in machines if other.id and _without_id(other) == _without_id(machine)}
        found[machine] = alike.pop() if machine.id is None and len(alike) == 1 else machine.unit
    return found


def _without_id(machine: Machine) -> tuple[object, ...]:
    return machine.name, machine.host, machine.processor, machine.architecture, machine.emulated


def _titles(machines: Mapping[Unit, Machine]) -> dict[Unit, str]:
    """What people call each; where several are called the same, with the first thing that tells all of these apart."""
    titles: dict[Unit, str] = {}
    for title in dict.fromkeys(machine.title for machine in machines.values()):
        alike = {unit: machine for unit, machine in machines.items() if machine.title == title}
        places = {unit: f"#{place}" for place, unit in enumerate(alike, start=1)}
        told = next(
            (told for apart in _APART if len(set((told := _each(alike, apart)).values())) == len(alike)), places
        )
        titles |= {unit: f"{title} ({told[unit]})" if len(alike) > 1 and told[unit] else title for unit in alike}
    return titles


def _each(machines: Mapping[Unit, Machine], told: Callable[[Machine], str]) -> dict[Unit, str]:
    return {unit: told(machine) for unit, machine in machines.items()}


_APART: Sequence[Callable[[Machine], str]] = (
    lambda machine: f"emulated {machine.architecture}" if machine.emulated else "",
    lambda machine: machine.architecture,
    lambda machine: machine.host,
    lambda machine: machine.board or machine.processor,
    lambda machine: machine.id or "",
)

"""Which results are of one device, and what each device is called."""

from dataclasses import replace

import pytest

from cifar_deploy.core.errors import UnknownName, UsageError
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import Machine, Result
from cifar_deploy.stages.machines import OfMachine, by_machine, restricted
from tests.probes import a_job, a_run, a_session

HOME = replace(a_job().machine, host="home", id=None)
PI = replace(HOME, host="raspberrypi", processor="Cortex-A76", architecture="aarch64", name="pi5", id="a" * 12)


def on(*machines: Machine) -> list[Result]:
    """A result on each."""
    jobs = [replace(a_job(), machine=machine) for machine in machines]
    return [grouped([a_run(job=job, session=a_session(job))])[0] for job in jobs]


def found(*machines: Machine) -> list[OfMachine]:
    return by_machine(on(*machines))


def titles(*machines: Machine) -> list[str]:
    return [each.title for each in found(*machines)]


def test_home_comes_first_then_each_as_it_comes_first() -> None:
    other = replace(PI, name="hall", id="b" * 12)
    assert titles(PI, other, HOME, PI) == ["home", "pi5", "hall"]
    assert titles(HOME, other, PI) == ["home", "hall", "pi5"]


def test_a_new_kernel_or_python_is_the_same_device_and_the_newest_describes_it() -> None:
    newer = replace(PI, system="Linux 99", python="3.14.0")
    (only,) = found(PI, newer)
    assert only.machine == newer and len(only.results) == 2


def test_a_record_of_before_ids_is_of_the_machine_that_is_like_it() -> None:
    with_id = replace(HOME, id="c" * 12, libc="glibc 2.36")
    assert titles(HOME, with_id) == ["home"]
    twin = replace(with_id, id="d" * 12)
    assert len(titles(HOME, with_id, twin)) == 3, "which of the two it was is not known"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"emulated": True, "architecture": "aarch64"}, ["home", "home (emulated aarch64)"]),
        ({"architecture": "aarch64"}, ["home (x86_64)", "home (aarch64)"]),
        ({"id": "b" * 12, "board": "Model B"}, ["home (Model A)", "home (Model B)"]),
        ({"id": "b" * 12}, ["home (aaaaaaaaaaaa)", "home (bbbbbbbbbbbb)"]),
    ],
)
def test_two_of_one_name_are_told_apart_by_what_differs(changes: dict[str, object], expected: list[str]) -> None:
    first = replace(HOME, id="a" * 12, architecture="x86_64", board="Model A")
    assert titles(first, replace(first, **changes)) == expected  # type: ignore[arg-type]


def test_a_machine_is_named_by_its_title_or_by_a_beginning_that_no_other_has() -> None:
    machines = found(HOME, PI, replace(PI, name="pi4", id="b" * 12))

    def named(*names: str) -> list[str]:
        return [each.title for each in restricted(machines, names)]

    assert named() == ["home", "pi5", "pi4"]
    assert named("pi4", "home") == ["home", "pi4"] and named("h") == ["home"]
    with pytest.raises(UnknownName, match=r"pie5: no machine \(--machine\) has this name; did you mean 'pi5'\?"):
        named("pie5")
    with pytest.raises(UsageError, match="--machine: pi is of pi5 and of pi4; give the whole name"):
        named("pi")

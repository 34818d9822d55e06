"""The choice for each device: the same limits, a way to name one, and when the command fails."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.choice.limits import Limit
from cifar_deploy.core.records import Artifact
from cifar_deploy.core.store import Store
from cifar_deploy.metrics.summary import Summary
from cifar_deploy.stages.choose import absence, choices, choose, refusal
from tests.fleet import ARM, HOME, INT8, ONNX, PI5, Fleet
from tests.in_process import run_here
from tests.schemas import document_of

EMULATED = "home (emulated aarch64)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """INT8 is twice as fast as float32; pi5 takes four times as long as home, and arm is emulated."""
    fleet = Fleet()
    for machine, factor in ((HOME, 1.0), (PI5, 4.0), (ARM, 50.0)):
        fleet.time(machine, (ONNX, 0.002 * factor), (INT8, 0.001 * factor))
        for job in (ONNX, INT8):
            fleet.label(machine, job, range(300), wrong=range(5))
    with Store(tmp_path_factory.mktemp("three")) as store:
        for run in fleet.runs:
            store.append(run)
    return store


def fastest(ms: float) -> Constraints:
    return Constraints(limits=(Limit(option="--max-latency", number=ms / 1e3),))


def test_every_device_has_its_answer_under_the_same_limits(store: Store) -> None:
    found = choices(store, fastest(3))
    assert [*found] == ["home", "pi5", EMULATED]
    assert [bool(choice.winner) for choice in found.values()] == [True, False, False]
    assert found[EMULATED].is_emulated and not found["pi5"].is_emulated
    assert (refusal(found) or "").startswith("pi5: Nothing qualifies: none of 2 configurations keeps --max-latency 3ms")


def test_an_emulated_device_is_no_failure_unless_it_is_alone(store: Store) -> None:
    assert refusal(choices(store)) is None
    assert (refusal(choices(store, machines=[EMULATED])) or "").startswith(
        "Nothing is picked: the processor is emulated"
    )


def test_files_that_are_not_here_are_named_with_the_command_that_makes_them(store: Store, tmp_path: Path) -> None:
    here = Store(shutil.copytree(store.root, tmp_path / "here"))
    found = choices(here, fastest(3))
    winner = found["home"].winner
    assert winner and winner.artifact.files and absence(here, found["pi5"]) is None
    told = f"Its files are not here: `cifar-deploy export {winner.artifact.name} --format onnx_int8` makes them."
    assert absence(here, found["home"]) == told
    command = ["choose", "--machine", "home", "--out", here.root]
    assert told in " ".join(run_here(*command).stdout.split())
    assert not document_of(run_here(*command, "--json"), "choose")["winner"]["is_here"]
    pixels = replace(winner.artifact, input="uint8")
    assert "--format onnx_int8 --input uint8`" in (absence(here, _of(found["home"], pixels)) or "")
    weights = replace(winner.artifact, format="checkpoint")
    assert "Its weights are not here: bring " in (absence(here, _of(found["home"], weights)) or "")
    for file in winner.artifact.files:
        path = here.folder_of(winner.artifact) / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert absence(here, found["home"]) is None
    assert document_of(run_here(*command, "--json"), "choose")["winner"]["is_here"]


def _of(choice: Choice, artifact: Artifact) -> Choice:
    """The choice with another artifact as its winner."""
    assert choice.winner
    of_one = {
        metric: Summary(replace(summary.result, job=replace(summary.result.job, artifact=artifact)))
        for metric, summary in choice.winner.of_one.items()
    }
    return replace(choice, winner=replace(choice.winner, of_one=of_one))


def test_nobody_is_told_to_time_an_emulated_processor(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.time(HOME, (ONNX, 0.002))
    for machine in (HOME, ARM):
        fleet.label(machine, ONNX, range(300))
    with Store(tmp_path) as store:
        for run in fleet.runs:
            store.append(run)
    assert choices(store)[EMULATED].is_emulated
    assert run_here("choose", "--out", tmp_path).stdout.count("--metric latency") == 0


def test_one_device_may_be_named(store: Store) -> None:
    for machine, seconds in ((None, 0.001), ("pi5", 0.004)):
        winner = choose(store, machine=machine).winner
        assert winner and winner.latency_s == pytest.approx(seconds)


def test_the_commands_name_each_device_or_those_that_are_asked_for(store: Store) -> None:
    out = ("--out", store.root)
    done = run_here("choose", *out)
    assert done.returncode == 0 and "\npi5: Ship small as INT8" in done.stdout
    alone = run_here("choose", "--machine", "pi", *out)
    assert alone.returncode == 0 and "\nShip small as INT8" in alone.stdout and "pi5" not in alone.stdout
    for command in ("choose", "report"):
        wrong = run_here(command, "--machine", "pie5", *out)
        assert wrong.returncode == 2 and "did you mean 'pi5'?" in wrong.stderr
    some = run_here("report", "--machine", "pi5", "--machine", "home", "-q", *out)
    assert [line.partition(":")[0] for line in some.stdout.splitlines() if "Ship" in line] == ["home", "pi5"]


def test_the_documents_have_each_device_beside_the_first_one(store: Store) -> None:
    chosen = document_of(run_here("choose", "--json", "--out", store.root), "choose")
    told = document_of(run_here("report", "--json", "--out", store.root), "report")
    assert [each["machine"] for each in chosen["machines"]] == ["home", "pi5", EMULATED]
    assert chosen["winner"] == chosen["machines"][0]["winner"] and chosen["machines"][2]["winner"] is None
    report = told["report"]
    assert [each["machine"] for each in report["machines"]] == ["home", "pi5", EMULATED]
    row = report["overview"]["rows"][0]
    assert row["values"]["ratio.1"]["number"] == pytest.approx(0.25) and row["words"]["latency.2"] == "emulated"


def test_the_screen_shows_the_overview_and_then_each_device(store: Store) -> None:
    done = run_here("report", "--out", store.root)
    screen = done.stdout
    places = [
        screen.index(text)
        for text in ("home: Ship", "pi5 / home", "pi5: Ship", f"{EMULATED}: Nothing", "home: a processor")
    ]
    assert places == sorted(places) and "× not interleaved" in screen
    everything = run_here("report", "--all", "--out", store.root).stdout
    assert "pi5 against home, not interleaved" in everything and everything.count("What to ship") == 3

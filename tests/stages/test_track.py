"""Results in MLflow, read back from a real file store: what a run holds, and that it is logged once and whole."""

import base64
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cifar_deploy import pipeline
from cifar_deploy.core.errors import DeployError, Unavailable, UsageError
from cifar_deploy.core.records import External, Failure, Run, Tensor
from cifar_deploy.core.store import Store
from cifar_deploy.stages import track as stage
from cifar_deploy.workers import track as worker
from cifar_deploy.workers.track import NETWORK, Point, TrackedNetwork, TrackedRun
from tests.conftest import need_package
from tests.fleet import HOME, PI5, Fleet
from tests.in_process import run_here
from tests.probes import a_job, a_run, a_session
from tests.schemas import document_of

pytestmark = pytest.mark.usefixtures("workers_here")

EAGER = a_job()
ONNX = replace(a_job(format="onnx"), backend="onnxruntime")
CRASHED = a_run(job=replace(ONNX, metric="memory"), failure=Failure(kind="crashed", reason="died of [red]SIGSEGV\x1b"))


@pytest.fixture(autouse=True)
def mlflow_here(monkeypatch: pytest.MonkeyPatch) -> None:
    need_package("mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def timed(middle_s: float = 0.001) -> list[Run]:
    """Seven rounds of two configurations of one network; PyTorch eager takes four times as long."""
    session = a_session(EAGER, ONNX)
    return [
        a_run(job=job, session=session, round=index, value=value)
        for index in range(7)
        for job, value in ((EAGER, 4 * middle_s), (ONNX, middle_s))
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A network in two configurations, of which one crashed where its memory was to be measured."""
    with Store(tmp_path / "digits") as store:
        for run in (*timed(), CRASHED):
            store.append(run)
        pipeline.report(store)
    return store


def client(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(folder.as_uri())


def runs(folder: Path, experiment: str = "cifar-deploy/digits", filter: str = "") -> list[Any]:
    reader = client(folder)
    found = reader.get_experiment_by_name(experiment)
    return list(reader.search_runs([found.experiment_id], filter))


def named(folder: Path, name: str) -> Any:
    (found,) = (run for run in runs(folder) if run.info.run_name == name)
    return found


def test_a_network_is_a_run_with_its_recipe_and_its_curve(store: Store, tmp_path: Path) -> None:
    tracked = pipeline.track(store, str(tmp_path / "mlruns"))
    assert (tracked.experiment, tracked.logged, tracked.reused) == ("cifar-deploy/digits", 3, 0)
    network = named(tmp_path / "mlruns", "small")
    assert network.info.status == "FINISHED" and "mlflow.parentRunId" not in network.data.tags
    params = network.data.params
    assert (params["recipe"], params["optimizer"], params["seed"], params["learning_rate"]) == (
        "adam",
        "adam",
        "0",
        "0.001",
    )
    assert params["data_fingerprint"] == "f" * 64 and params["version.torch"] == "2.9"
    assert network.data.metrics["macs"] == 20 and network.data.metrics["parameters"] == 10
    for name, values in {"training_loss": [2.5, 2.0], "test_accuracy": [0.5, 1.0], "epoch_seconds": [1.0, 1.0]}.items():
        history = client(tmp_path / "mlruns").get_metric_history(network.info.run_id, name)
        assert [(point.step, point.value) for point in history] == [(1, values[0]), (2, values[1])], name
        assert [point.timestamp - network.info.start_time for point in history] == [1500, 3000]
    assert network.info.end_time - network.info.start_time == 3000


def test_each_device_has_its_configurations_below_the_one_network(tmp_path: Path) -> None:
    fleet = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008))
    with Store(tmp_path / "digits") as store:
        for run in fleet.runs:
            store.append(run)
        assert pipeline.track(store, str(tmp_path / "mlruns")).logged == 3
        again = pipeline.track(store, str(tmp_path / "mlruns"), machines=["pi5"])
    assert (again.logged, again.reused) == (0, 2)
    board = named(tmp_path / "mlruns", "pi5: small onnx on onnxruntime (cpu)")
    assert board.data.params["machine_name"] == "pi5" and board.data.metrics["latency_p50_s"] == pytest.approx(0.008)
    assert "machine_name" not in named(tmp_path / "mlruns", "small onnx on onnxruntime (cpu)").data.params


def test_a_configuration_is_a_nested_run_with_its_intervals_speed_up_and_verdict(store: Store, tmp_path: Path) -> None:
    pipeline.track(store, str(tmp_path / "mlruns"))
    eager, onnx = (
        named(tmp_path / "mlruns", f"small {each} (cpu)") for each in ("checkpoint on pytorch", "onnx on onnxruntime")
    )
    network = named(tmp_path / "mlruns", "small")
    assert {run.data.tags["mlflow.parentRunId"] for run in (eager, onnx)} == {network.info.run_id}
    params = {"format": "onnx", "backend": "onnxruntime", "device": "cpu", "threads": "1", "latency_batch_size": "1"}
    assert params.items() <= onnx.data.params.items()
    metrics = onnx.data.metrics
    assert metrics["latency_p50_low_s"] <= metrics["latency_p50_s"] == 0.001 <= metrics["latency_p50_high_s"]
    assert metrics["speed_up"] == pytest.approx(4) and "speed_up_low" in metrics
    assert "speed_up" not in eager.data.metrics
    assert eager.data.tags["latency_verdict"] == "stable"
    assert (eager.info.status, onnx.info.status) == ("FINISHED", "FAILED")
    assert onnx.data.tags["memory_failure"] == "crashed: died of [red]SIGSEGV\\x1b"


def test_no_tag_names_a_user_a_host_or_a_file_of_this_machine(store: Store, tmp_path: Path) -> None:
    pipeline.track(store, str(tmp_path / "mlruns"))
    for run in runs(tmp_path / "mlruns"):
        texts = " ".join([*run.data.tags.values(), *run.data.params.values(), run.info.user_id])
        assert str(tmp_path) not in texts and EAGER.machine.host not in texts.split() and run.info.user_id == "unknown"


def test_what_was_logged_is_not_logged_again_and_what_was_measured_again_is_a_new_run(
    store: Store, tmp_path: Path
) -> None:
    place = tmp_path / "mlruns"
    pipeline.track(store, str(place))
    first = {run.info.run_id for run in runs(place)}
    again = pipeline.track(store, str(place))
    assert (again.logged, again.reused) == (0, 3) and {run.info.run_id for run in runs(place)} == first
    with store:
        store.append(replace(CRASHED, started="2026-01-02T00:00:00+00:00"))
    measured = pipeline.track(store, str(place))
    assert (measured.logged, measured.reused) == (1, 2) and len(runs(place)) == 4


def test_the_reports_are_artifacts_of_the_network_and_stay_the_newest(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "mlruns"

    def kept() -> str:
        network = named(place, "small")
        names = {file.path for file in client(place).list_artifacts(network.info.run_id, "report")}
        assert names == {
            f"report/{name}" for name in ("report.csv", "report-wide.csv", "report.md", "report.svg", "report.html")
        }
        return Path(client(place).download_artifacts(network.info.run_id, "report/report.csv")).read_text()

    pipeline.track(store, str(place))
    assert kept() == (store.reports / "report.csv").read_text()
    with store:
        store.append(a_run(job=replace(EAGER, metric="memory"), failure=Failure(kind="crashed", reason="again")))
        pipeline.report(store)
    pipeline.track(store, str(place))
    assert kept() == (store.reports / "report.csv").read_text() and "again" in kept()


def test_an_external_model_is_logged_without_a_training(tmp_path: Path) -> None:
    origin = External(
        path=f"models/{'x' * 4000}\x1b.onnx", takes=(Tensor(name="image", dtype="float32", shape=(1, 3, 8, 8)),)
    )
    job = replace(ONNX, artifact=replace(ONNX.artifact, origin=origin, format=None))
    with Store(tmp_path / "bench") as store:
        for index in range(7):
            store.append(a_run(job=job, session=a_session(job), round=index))
    assert pipeline.track(store, str(tmp_path / "mlruns"), experiment="<b>files</b>/x").logged == 2
    for run in runs(tmp_path / "mlruns", "<b>files</b>/x"):
        assert len(run.info.run_name) <= 250 and "\x1b" not in run.data.params["name"]
    with store:
        store.append(a_run(job=replace(job, metric="memory"), failure=Failure(kind="crashed", reason="of its own")))
    again = pipeline.track(store, str(tmp_path / "mlruns"), experiment="<b>files</b>/x")
    assert (again.logged, again.reused) == (1, 1), "the file is the same"


def a_tracked_run(name: str = "run", **changes: Any) -> TrackedRun:
    run = TrackedRun(
        key=f"{name:_<32}"[:32], name=name, params={"a": "1"}, tags={}, points=(), started_ms=1000, ended_ms=2000
    )
    return replace(run, **changes)


def log(folder: Path, *configurations: TrackedRun, run: TrackedRun | None = None) -> worker.Tracked:
    network = TrackedNetwork(run=run or a_tracked_run("network"), configurations=configurations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", folder.as_uri())
        return worker.track((network,), "tried", (), "0")


def test_hostile_and_many_names_and_long_values_are_within_mlflows_limits(tmp_path: Path) -> None:
    params = {f"p{index}": "v" for index in range(500)}
    hostile = [
        "../../up",
        "a/b",
        "a\\b",
        "a_b",
        "[red]x[/red]",
        "\x1b[0m",
        "ä" * 300,
        "n" * 300,
        "n" * 299,
        ".",
        "",
        " ",
    ]
    params |= {name: f"{number}" + "w" * 10_000 for number, name in enumerate(hostile)}
    points = tuple(Point(name="loss/<i>", value=step / 7, step=step, at_ms=step) for step in range(2500))
    log(tmp_path / "runs", run=a_tracked_run("n" * 4000, params=params, tags={"t/\x00": "y" * 10_000}, points=points))
    (run,) = runs(tmp_path / "runs", "tried")
    assert len(run.data.params) == len(params)
    long = [text for text in run.data.params.values() if text != "v"]
    assert sorted(text.split("w")[0] for text in long) == sorted(map(str, range(len(hostile))))
    assert max(map(len, long)) <= 6000 and len(run.data.tags["t__"]) <= 5000
    history = client(tmp_path / "runs").get_metric_history(run.info.run_id, "loss__i_")
    assert sorted((point.step, point.value) for point in history) == [(point.step, point.value) for point in points]
    assert not (tmp_path / "up").exists()


def test_a_run_that_fails_in_the_middle_is_deleted_and_the_others_stay(tmp_path: Path) -> None:
    refused = a_tracked_run("refused", points=(Point(name="a", value=1.0, at_ms=-1),))
    with pytest.raises(DeployError, match="timestamp"):
        log(tmp_path, a_tracked_run("first"), refused)
    assert {run.info.run_name for run in runs(tmp_path, "tried")} == {"network", "first"}
    assert log(tmp_path, a_tracked_run("first"), a_tracked_run("refused")).logged == 1


def test_a_run_that_was_interrupted_is_deleted_and_logged_anew(tmp_path: Path) -> None:
    tracked = log(tmp_path)
    key = a_tracked_run("network").key
    half = {"cifar_deploy.key": "half", NETWORK: key}
    client(tmp_path).create_run(tracked.experiment_id, tags=half)
    assert log(tmp_path, a_tracked_run("half", key="half")).logged == 1
    assert {run.info.status for run in runs(tmp_path, "tried")} == {"FINISHED"}
    client(tmp_path).create_run(tracked.experiment_id, tags=half)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
        worker.discard_unfinished((key,), "tried")
    assert len(runs(tmp_path, "tried")) == 2


def test_a_deleted_experiment_is_told(tmp_path: Path) -> None:
    client(tmp_path).delete_experiment(log(tmp_path).experiment_id)
    with pytest.raises(DeployError, match="tried was deleted there; restore it"):
        log(tmp_path)


def test_the_command_says_what_it_logged_where(store: Store, tmp_path: Path) -> None:
    done = run_here("report", "--mlflow", "runs of mine", "--out", store.root, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.splitlines()[-1] == "mlflow    cifar-deploy/digits at runs of mine: 3 runs logged"
    done = run_here("report", "--mlflow", "runs of mine", "--json", "--out", store.root, cwd=tmp_path)
    assert document_of(done, "report")["mlflow"] == {
        "experiment": "cifar-deploy/digits",
        "experiment_id": runs(tmp_path / "runs of mine")[0].info.experiment_id,
        "logged": 0,
        "reused": 3,
    }


class _Refuses(BaseHTTPRequestHandler):
    """Of a server that wants other credentials."""

    authorization: list[str | None]

    def do_GET(self) -> None:
        self.authorization.append(self.headers["Authorization"])
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "no entry"}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def a_refusing_server() -> Iterator[tuple[int, list[str | None]]]:
    seen: list[str | None] = []
    server = HTTPServer(("127.0.0.1", 0), type("Refuses", (_Refuses,), {"authorization": seen}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()


def test_credentials_reach_the_server_and_nothing_else(store: Store) -> None:
    with a_refusing_server() as (port, seen):
        done = run_here("report", "--mlflow", f"http://me:hunt%20er22@127.0.0.1:{port}", "--out", store.root)
    assert seen == ["Basic " + base64.b64encode(b"me:hunt er22").decode()]
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"cifar-deploy: error: --mlflow http://***@127.0.0.1:{port}: ")
    assert line.endswith(
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and run it again"
    )
    assert "er22" not in done.stdout + done.stderr + store.log.read_text()


def test_a_server_that_is_not_there_is_one_line(store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run_here("report", "--quiet", "--mlflow", uri, "--out", store.root)
    assert done.stderr == (
        f"cifar-deploy: error: --mlflow {uri}: Connection refused; check the server and its address, and run it again\n"
    )
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("runs/mine", "runs/mine"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("http://me:secret@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("https://host/x?token=secret#y", "https://host/x?***"),
        ("postgresql+psycopg2://me:secret@host/db?password=secret", "postgresql+psycopg2://***@host/db?***"),
    ],
)
def test_credentials_of_a_uri_are_never_shown(uri: str, shown: str) -> None:
    assert stage.shown(uri) == shown
    told = stage._masked(f"cannot reach {uri} as {uri.partition('://')[2]}", uri)
    assert "secret" not in told and "token" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mlflow", "http://"], "names no server"),
        (["--mlflow", "http://[::1"], "is no URI"),
        (["--mlflow", "http://host:port"], "is no URI"),
        (["--mlflow", "x", "--mlflow-experiment", "n" * 501], "--mlflow-experiment: is longer than MLflow takes"),
        (["--mlflow-experiment", "x"], "--mlflow-experiment: needs --mlflow"),
    ],
)
def test_a_wrong_command_line_is_refused_before_any_work(options: list[str], words: str, tmp_path: Path) -> None:
    done = run_here("report", *options, "--out", tmp_path / "none")
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "none").exists()


def test_what_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    stage.check_tracking("runs")
    with pytest.raises(Unavailable, match=r"a database needs sqlalchemy.*; pip install sqlalchemy.*, or give a folder"):
        stage.check_tracking("sqlite:///x.db")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(Unavailable, match=r"needs mlflow; pip install 'cifar-deploy\[mlflow\]'"):
        stage.check_tracking("runs")


def test_without_results_there_is_nothing_to_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results yet"):
        pipeline.track(Store(tmp_path), str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()

"""The results as a DataFrame: what report.csv says, with types."""

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cifar_deploy import pipeline
from cifar_deploy.core.records import Failure
from cifar_deploy.core.store import Store
from tests.probes import a_job, a_run, a_session

FORMULA = replace(a_job(format="onnx"), backend="onnxruntime", metric="memory")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three rounds of a latency of 1 ms, and a memory that crashed in words that a spreadsheet takes for a formula."""
    with Store(tmp_path) as store:
        session = a_session(a_job())
        for index in range(3):
            store.append(a_run(job=a_job(), session=session, round=index, value=0.001))
        store.append(a_run(job=FORMULA, failure=Failure(kind="crashed", reason="=died()\x1b")))
    return store


def test_a_row_is_a_value_or_the_reason_why_there_is_none(store: Store) -> None:
    found = pipeline.frame(store)
    (latency,) = found[found["value_name"] == "p50"].to_dict("records")
    assert (latency["value"], latency["unit"], latency["rounds"]) == (0.001, "s", 3)
    assert (latency["backend"], latency["threads"], latency["verdict"]) == ("pytorch", 1, "stable")
    (failed,) = found[found["status"] != "ok"].to_dict("records")
    assert (failed["metric"], failed["status"], failed["reason"]) == ("memory", "crashed", "=died()\\x1b")
    assert all(pd.isna(failed[name]) for name in ("value_name", "value", "low", "rounds", "unit"))


def test_counts_are_whole_numbers_measurements_floats_and_the_rest_text(store: Store) -> None:
    types = {name: str(dtype) for name, dtype in pipeline.frame(store).dtypes.items()}
    assert {name for name, dtype in types.items() if dtype == "Int64"} == {
        *("threads", "batch_size", "limit_test", "rounds", "protocol"),
    }
    assert {name for name, dtype in types.items() if dtype == "float64"} == {"seconds", "value", "low", "high"}
    assert set(types.values()) == {"Int64", "float64", "string"}


def test_the_csv_is_the_frame_but_for_formulas(store: Store) -> None:
    found = pipeline.frame(store)
    assert not list(store.reports.glob("report.*")), "no file is written"
    pipeline.report(store)
    with open(store.reports / "report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [list(line) for line in lines] == [list(found.columns)] * len(found)
    for line, row in zip(lines, found.to_dict("records"), strict=True):
        expected = {name: "" if pd.isna(value) else str(value) for name, value in row.items()}
        assert line == expected | {"reason": expected["reason"].replace("=died", "'=died")}
    assert any(line["reason"].startswith("'=died") for line in lines)

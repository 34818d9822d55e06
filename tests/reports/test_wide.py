"""The wide CSV: a row a configuration, a column a value with its unit in the name."""

import csv
import io
from typing import Any

import pandas as pd
import pytest

from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Record, Table
from cifar_deploy.reports import REPORTS
from cifar_deploy.reports.frame import frame, wide


def record(name: str, metric: str, key: str | None, value: float | None, unit: str = "1", **more: Any) -> Record:
    common = {"name": name, "network": name, "format": "onnx", "backend": "onnxruntime", "device": "cpu", "threads": 1}
    fields = {"batch_size": 1, "metric": metric, "value_name": key, "value": value, "unit": unit, "status": "ok"}
    return Record(fields={**common, **fields, **more})


def rows_of(*records: Record) -> list[dict[str, str]]:
    table = Table(title="", facts={}, sections=(), failures=(), warnings=(), records=records)
    return list(csv.DictReader(io.StringIO(REPORTS["csv_wide"].render(table))))


def test_each_configuration_is_a_row_and_each_value_a_column() -> None:
    found = rows_of(
        record("a", "accuracy", "accuracy", 0.5, low=0.4, high=0.6),
        record("a", "latency", "p50", 0.001, "s", low=0.0009, high=0.0011, verdict="noisy"),
        record("a", "file_size", "bytes", 1234567, "bytes"),
        record("b", "latency", None, None, status="crashed", reason="SIGSEGV"),
        record("b", "throughput", "images_per_second", 100.5, "images/s", batch_size=64),
    )
    settings = {"format": "onnx", "backend": "onnxruntime", "device": "cpu", "threads": "1"}
    assert list(found[0]) == [
        *("name", "network", "format", "backend", "device", "threads", "accuracy", "accuracy_low", "accuracy_high"),
        *("latency_p50_s", "latency_p50_low_s", "latency_p50_high_s", "latency_verdict", "latency_failure"),
        *("file_size_bytes", "throughput_images_per_second", "throughput_batch_size"),
    ]
    assert [{name: value for name, value in row.items() if value} for row in found] == [
        {
            **{
                "name": "a",
                "network": "a",
                **settings,
                "accuracy": "0.5",
                "accuracy_low": "0.4",
                "accuracy_high": "0.6",
            },
            **{"latency_p50_s": "0.001", "latency_p50_low_s": "0.0009", "latency_p50_high_s": "0.0011"},
            **{"latency_verdict": "noisy", "file_size_bytes": "1234567.0"},
        },
        {
            **{"name": "b", "network": "b", **settings, "latency_failure": "crashed: SIGSEGV"},
            **{"throughput_images_per_second": "100.5", "throughput_batch_size": "64"},
        },
    ]


def test_each_of_several_batch_sizes_is_a_row_that_has_all_else() -> None:
    found = wide(
        [
            record("a", "accuracy", "accuracy", 0.5, batch_size=250),
            *(record("a", "latency", "p50", 0.001 * size, "s", batch_size=size) for size in (1, 8)),
            *(record("a", "throughput", "images_per_second", size, "images/s", batch_size=size) for size in (8, 64)),
            record("b", "latency", "p50", 0.5, "s"),
        ]
    )
    shown = ["name", "latency_batch_size", "latency_p50_s", "throughput_batch_size", "accuracy"]
    assert found[shown].astype(object).where(found[shown].notna(), None).to_numpy().tolist() == [
        ["a", 1, 0.001, None, 0.5],
        ["a", 8, 0.008, 8, 0.5],
        ["a", None, None, 64, 0.5],
        ["b", 1, 0.5, None, None],
    ]


@pytest.mark.parametrize("evil", ["=1+1", '"quoted", one', "größe\x1b[2J\u202e", "two\r\nlines", "＝1"])
def test_a_hostile_name_is_text_in_one_field(evil: str) -> None:
    (row,) = rows_of(record(evil, "latency", "p50", -1.5, "s"))
    assert row["name"] in (printable(evil), f"'{evil}") and row["name"][0] not in "=＝"
    assert row["latency_p50_s"] == "-1.5"


def test_both_hold_the_same_values(road: Any) -> None:
    reports = road / "reports"
    tidy, broad = (pd.read_csv(reports / f"report{name}.csv") for name in ("", "-wide"))
    settings = ["name", "format", "backend", "device", "threads"]
    assert not broad.duplicated(settings).any()
    assert len(broad) == len(tidy.drop_duplicates(settings))
    latency = tidy[(tidy["metric"] == "latency") & (tidy["value_name"] == "p50")].set_index(settings)["value"]
    assert broad.set_index(settings)["latency_p50_s"].to_dict() == latency.to_dict()


def test_without_a_record_both_are_empty() -> None:
    assert frame([]).empty and wide([]).empty

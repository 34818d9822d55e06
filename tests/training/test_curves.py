import json
import sys
from pathlib import Path

import pytest

from cifar_deploy.core.records import Epoch
from cifar_deploy.training import curves
from tests.conftest import need_package

CURVE = [
    Epoch(loss=2.0, accuracy=0.25, seconds=3.0, wall_seconds=4.0),
    Epoch(loss=1.0, accuracy=0.5, seconds=5.0, wall_seconds=6.0),
]


def test_each_epoch_has_a_line(tmp_path: Path) -> None:
    for epochs in (1, 2):
        curves.write(tmp_path, CURVE[:epochs])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["loss"], line["accuracy"], line["seconds"]) for line in lines] == [
        (1, 2.0, 0.25, 3.0),
        (2, 1.0, 0.5, 5.0),
    ]


def test_tensorboard_reads_each_epoch_once(tmp_path: Path) -> None:
    need_package("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (1, 2):
        curves.write_events(tmp_path, CURVE[:epochs])
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("accuracy/test")] == [(1, 0.25), (2, 0.5)]
    assert [event.value for event in events.Scalars("loss/training")] == [2.0, 1.0]
    assert [event.value for event in events.Scalars("seconds/all")] == [3.0, 8.0]


def test_a_broken_tensorboard_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    curves.write_events(tmp_path, CURVE)
    assert not list(tmp_path.iterdir())

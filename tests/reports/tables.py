"""Tables to render: a small one with every kind of value, one of three devices, and one with a text wherever it can stand."""

from dataclasses import replace

from cifar_deploy.core.charts import Axis, Bar, Bars, Forest, Heat, Lines, Panel, Point, Scatter, Span
from cifar_deploy.core.records import Failure
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import (
    Answer,
    Column,
    Example,
    Excerpt,
    Health,
    Overview,
    Pick,
    Record,
    Row,
    Section,
    Table,
    Value,
)
from cifar_deploy.core.verdict import Verdict

_LATENCY = Column(title="latency", unit="ms", stored_unit="s", scale=1000, digits=3, interval=True, judged=True)
_NOISY = Verdict(
    word="noisy", reasons=("3 of 7 rounds disturbed: CPU contention: waited 30% of the time (run-queue delay)",)
)
_AT_CHANCE = Verdict(
    word="at chance", reasons=("100 of 1,000 right is not above 10.0%, the share of the commonest class",)
)
_NO_OPERATOR = Failure(kind="load error", reason="model.onnx: no such operator: Erf")

_SHIP = Section(
    title="What to ship",
    label_titles=("network", "format", "backend"),
    columns={
        "rank": Column(title="rank", unit="", stored_unit=""),
        "accuracy": Column(title="accuracy", unit="%", stored_unit="1", scale=100, interval=True),
        "latency": _LATENCY,
        "p99": Column(title="p99", unit="ms", stored_unit="s", scale=1000, digits=3, interval=True),
        "overhead": Column(title="overhead", unit="ms", stored_unit="s", scale=1000, digits=3),
        "difference": Column(title="max abs logit difference", unit="", stored_unit="1", is_power=True),
        "bytes": Column(title="size", unit="MiB", stored_unit="bytes", scale=2**-20),
    },
    rows=(
        Row(
            labels=("small", "checkpoint", "pytorch"),
            values={
                "accuracy": Value(number=0.915, estimate=Estimate(value=0.915, low=0.9, high=0.93, kind="interval")),
                "latency": Value(
                    number=0.004,
                    estimate=Estimate(value=0.004, low=0.0039876, high=0.0040123, kind="interval", rounds=7),
                    verdict=Verdict(word="stable"),
                ),
                "bytes": Value(number=1234567),
            },
            words={"rank": "2", "p99": "n/a (needs 662)"},
        ),
        Row(
            labels=("small", "onnx", "onnxruntime"),
            values={
                "accuracy": Value(
                    number=0.1,
                    estimate=Estimate(value=0.1, low=0.08, high=0.12, kind="interval"),
                    verdict=_AT_CHANCE,
                ),
                "latency": Value(
                    number=0.00123456,
                    estimate=Estimate(value=0.00123456, low=0.0012, high=0.0019, kind="range", rounds=3),
                    verdict=_NOISY,
                ),
                "overhead": Value(number=0.00001),
                "difference": Value(number=2.9e-5),
                "bytes": Value(number=1234567890),
            },
            words={"rank": "1", "p99": "n/a (needs 6 rounds)"},
            mark="best trade-off",
        ),
        Row(
            labels=("small", "onnx", "openvino"),
            values={"difference": Value(number=0.5)},
            failures={"latency": _NO_OPERATOR, "p99": _NO_OPERATOR, "accuracy": _NO_OPERATOR},
        ),
    ),
    notes=("[ ] is the 95 % interval, ( ) the range.", "A note with | and *stars* and <b>tags</b>."),
    main=("accuracy", "latency", "bytes"),
)

_CHANGED = Section(
    title="Images whose label changed",
    label_titles=("network", "format"),
    columns={"image": Column(title="test image", unit="", stored_unit="", digits=0)},
    rows=(Row(labels=("small", "onnx"), values={"image": Value(number=1234)}),),
    on_screen=False,
    part="errors",
)

_ANSWER = Answer(
    headline="Ship small as float32 (onnx) on ONNX Runtime",
    reasons=("91.50 %, 1.235 ms.", "It is the fastest of 2 configurations."),
    columns={key: _SHIP.columns[key] for key in ("accuracy", "latency")},
    picks=(
        Pick(
            role="best trade-off",
            title="small onnx on ONNX Runtime",
            row=_SHIP.rows[1],
            paths=("exported/small/onnx/model.onnx",),
            example=Example(path="exported/small/onnx/example.py", runtime=None),
            is_winner=True,
        ),
    ),
    best=Excerpt(
        title="The best few",
        label_titles=("pick", "network"),
        columns={"latency": _LATENCY},
        rows=(Row(labels=("best trade-off", "small"), values=_SHIP.rows[1].values),),
        intervals=("latency",),
        marks={"*": "is the one to ship", "+": "is another pick"},
        more=2,
    ),
    remarks={"Near misses": ("small on PyTorch eager would qualify with --max-latency 4ms",)},
)

_CHARTS = (
    Scatter(
        part="trade-off",
        title="Accuracy against latency",
        x=Axis(title="latency, ms", log=True),
        y=Axis(title="top-1 accuracy, %"),
        points=(
            Point(label="eager", x=4.0, y=91.5, x_between=(3.9, 4.1), series="small", shape="PyTorch eager"),
            Point(
                label="onnx",
                x=1.2,
                y=91.4,
                y_between=(90, 93),
                series="small",
                shape="ONNX Runtime",
                filled=True,
                name="small onnx on ONNX Runtime",
            ),
        ),
        front=((1.2, 91.4), (4.0, 91.5)),
        notes=("Filled: INT8.",),
    ),
    Forest(
        part="speed",
        title="Latency of each network",
        panels=(
            Panel(
                title="small",
                x=Axis(title="ms", log=True),
                rows=(
                    Span(label="of the small"),
                    Span(label="onnx", text="1.2", value=1.2, between=(1.1, 1.4), dots=(1.1, 1.4), tick=1.3, group="1"),
                    Span(label="checkpoint", text="4.0", value=4.0, group="2", filled=True),
                ),
                reference=4.0,
            ),
        ),
    ),
    Bars(
        part="resident",
        title="Peak resident memory, MiB",
        parts=("python", "model"),
        texts=("peak", "no Python"),
        panels={"small": (Bar(label="onnx", parts=(18.5, 3.2), texts=("22", "3.2")),)},
    ),
    Heat(
        part="start",
        title="Size and load",
        corner="runtime",
        columns=("size [MiB]", "load [ms]"),
        rows={"ONNX Runtime": (1.2, 30.0), "PyTorch eager": (1.2, None)},
        by_column=True,
        log=True,
    ),
    Lines(
        part="training",
        title="Test accuracy in training",
        x=Axis(title="minutes"),
        y=Axis(title="%"),
        lines={"small": ((1.0, 50.0), (2.0, 91.5))},
    ),
)

_FIELDS = {"name": "small", "format": "onnx", "backend": "onnxruntime", "metric": "latency", "value_name": "p50"}

# One of each: an interval and a range, a percentile without enough samples, a failure, a noisy verdict, a overhead, a power.
SMALL = Table(
    title="A report",
    about=("AMD EPYC", "handwritten digits", "2026-11-25"),
    answer=_ANSWER,
    health=Health(line="Unstable: 1 of 2 latencies.", causes={"CPU contention (run-queue delay)": _NOISY.reasons}),
    charts=_CHARTS,
    facts={"data": ("handwritten digits (ffffffffffff)",), "versions": ("numpy 2.0", "torch 2.9")},
    sections=(_SHIP, _CHANGED),
    failures=("small onnx on openvino (cpu), latency: load error: model.onnx: no such operator: Erf",),
    failures_by_reason={
        "load error: model.onnx: no such operator: Erf": ("small onnx on openvino (cpu), latency",),
    },
    lost=("results.jsonl: 2 lines left out",),
    warnings=(
        f"small onnx on onnxruntime (cpu), latency: noisy: {_NOISY.reasons[0]}",
        f"small onnx on onnxruntime (cpu), accuracy: at chance: {_AT_CHANCE.reasons[0]}",
    ),
    glossary={"latency": "Host array in to logits out, batch 1.", "network": "the name under which it was trained"},
    records=(
        Record(fields={**_FIELDS, "value": 0.00123456, "unit": "s", "rounds": 3, "status": "ok", "reason": None}),
        Record(
            fields={**_FIELDS, "value": None, "unit": "s", "rounds": None, "status": "load error", "reason": "=Erf"}
        ),
        Record(fields={**_FIELDS, "value": -2, "unit": "", "rounds": 1, "status": "ok", "reason": 'a "quoted", one'}),
    ),
)


def table_of(evil: str) -> Table:
    """A table with this text wherever a name or a message can be."""
    column = Column(title=evil, unit=evil, stored_unit="s", scale=1000)
    section = Section(
        title=evil,
        label_titles=(evil,),
        columns={
            "a": column,
            "b": column,
            "c": column,
        },
        rows=(
            Row(
                labels=(evil,),
                values={"a": Value(number=0.00123, verdict=Verdict(word="noisy", reasons=(evil,)))},
                failures={"b": Failure(kind="failed", reason=evil)},
                words={"c": evil},
            ),
        ),
        notes=(evil,),
        main=("a", "b", "c"),
    )
    row = section.rows[0]
    charts = (
        Scatter(
            part="trade-off",
            title=evil,
            x=Axis(title=evil, log=True),
            y=Axis(title=evil),
            points=(Point(label=evil, x=1, y=1, series=evil, shape=evil, name=evil),),
            notes=(evil,),
        ),
        Forest(
            part="speed",
            title=evil,
            panels=(Panel(title=evil, x=Axis(title=evil), rows=(Span(label=evil, text=evil, value=1, group=evil),)),),
        ),
        Bars(
            part="resident",
            title=evil,
            parts=(evil,),
            texts=(evil,),
            panels={evil: (Bar(label=evil, parts=(1,), texts=(evil,)),)},
        ),
        Heat(part="start", title=evil, corner=evil, columns=(evil,), rows={evil: (1,)}, notes=(evil,)),
        Lines(part="training", title=evil, x=Axis(title=evil), y=Axis(title=evil), lines={evil: ((1, 1),)}),
    )
    best = Excerpt(**vars(section), marks={evil: evil}, more=1)
    pick = Pick(role=evil, title=evil, row=row, paths=(evil,), example=Example(path=evil, runtime=evil), is_winner=True)
    answer = Answer(
        headline=evil, reasons=(evil,), columns={"a": column}, picks=(pick,), best=best, remarks={evil: (evil,)}
    )
    table = Table(
        title=evil,
        about=(evil,),
        answer=answer,
        health=Health(line=evil, causes={evil: (evil,)}),
        charts=charts,
        failures_by_reason={evil: (evil,)},
        lost=(evil,),
        glossary={evil: evil},
        facts={evil: (evil,)},
        sections=(section,),
        failures=(evil,),
        warnings=(evil,),
        records=(Record(fields={"name": evil, "value": -0.00123}),),
    )
    further = replace(table, device=evil, machine=evil, records=())
    return replace(table, device=evil, machine=evil, overview=Overview(section=section, few=best), others=(further,))


def _of_device(device: str, machine: str, headline: str) -> Table:
    answer = replace(_ANSWER, headline=f"{device}: {headline}", picks=(), best=None, remarks={})
    return replace(
        SMALL,
        device=device,
        machine=machine,
        answer=answer,
        charts=_CHARTS[1:2],
        sections=(replace(_SHIP, rows=_SHIP.rows[1:]),),
        facts={"machine": (machine,)},
        lost=(),
        glossary={},
        records=(),
    )


_OVERVIEW = Section(
    title="Devices",
    label_titles=("network", "format"),
    columns={
        "accuracy": _SHIP.columns["accuracy"],
        "labels": Column(title="labels", unit="", stored_unit=""),
        "latency.0": replace(_LATENCY, title="latency on home"),
        "latency.1": replace(_LATENCY, title="latency on pi5"),
        "ratio.1": Column(title="pi5 against home, not interleaved", unit="×", stored_unit="1", interval=True),
        "latency.2": replace(_LATENCY, title="latency on arm"),
    },
    rows=(
        Row(
            labels=("small", "onnx"),
            values={
                "latency.0": _SHIP.rows[1].values["latency"],
                "latency.1": Value(
                    number=0.004, estimate=Estimate(value=0.004, low=0.0039, high=0.0041, kind="interval")
                ),
                "ratio.1": Value(number=0.31, estimate=Estimate(value=0.31, low=0.3, high=0.32, kind="interval")),
            },
            words={"labels": "3 of 1,000 differ on pi5", "latency.2": "emulated"},
            mark="ship on home, pi5",
            name="small onnx",
        ),
        Row(labels=("small", "checkpoint"), values={}, failures={"latency.1": _NO_OPERATOR}, name="small checkpoint"),
    ),
    notes=("Not interleaved: the devices share no round.",),
)

# Of a first device, a board, and an emulated one.
THREE = replace(
    SMALL,
    device="home",
    machine="AMD EPYC, 2 cores",
    answer=replace(_ANSWER, headline=f"home: {_ANSWER.headline}"),
    overview=Overview(
        section=_OVERVIEW,
        few=Excerpt(
            **{**vars(_OVERVIEW), "rows": _OVERVIEW.rows[:1]}, marks={"*": "is the one to ship on a device"}, more=1
        ),
    ),
    others=(
        _of_device("pi5", "Raspberry Pi 5, 4 cores", "Ship small as INT8 (onnx_int8) on ONNX Runtime"),
        _of_device("arm", "Cortex-A72, emulated", "Nothing is picked: the processor is emulated."),
    ),
    records=tuple(Record(fields={"machine_name": "home", **record.fields}) for record in SMALL.records),
)

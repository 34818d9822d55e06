"""Several devices side by side: what is compared between them, what is not, and what is said of the difference."""

from dataclasses import replace

import pytest

from cifar_deploy.core.records import Failure, File
from cifar_deploy.core.table import Overview, Row, Section, Table
from cifar_deploy.reports.frame import wide
from cifar_deploy.stages import report
from tests.fleet import ARM, EAGER, HOME, INT8, ONNX, PI5, Fleet, three
from tests.probes import calm


def built(fleet: Fleet, *machines: str) -> Table:
    return report.build(fleet.results, fleet.raw, machines=machines)


def overview(fleet: Fleet) -> Overview:
    found = built(fleet).overview
    assert found
    return found


def cells(section: Section, row: Row) -> dict[str, str]:
    return {column.title: row.text(key, column) for key, column in section.columns.items()}


def shown(fleet: Fleet, *labels: str) -> dict[str, str]:
    """The cells of the row that has all of these labels."""
    section = overview(fleet).section
    (row,) = [row for row in section.rows if {*labels} <= {*row.labels}]
    return cells(section, row)


AGAINST = "pi5 against home, not interleaved"


def test_a_device_alone_has_no_overview() -> None:
    alone = built(Fleet().time(HOME, (EAGER, 0.004)))
    assert not alone.overview and not alone.others and not alone.device


def test_home_stands_first_and_each_device_has_its_own_sections() -> None:
    table = built(three())
    assert [each.device for each in table.devices] == ["home", "pi5", "home (emulated aarch64)"]
    assert all(each.sections[0].title == "What to ship" for each in table.devices)
    assert "Cortex-A76" in table.others[0].machine


def test_each_device_has_its_latency_its_ratio_to_the_first_and_its_memory() -> None:
    fleet = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008)).weigh(HOME, ONNX, 60).weigh(PI5, ONNX, 90)
    row = shown(fleet, "onnx")
    assert row["latency on home"].startswith("2.000 [") and row["latency on pi5"].startswith("8.000 [")
    assert row[AGAINST].startswith("0.25 [") and row["memory on home"] == "60" and row["memory on pi5"] == "90"


def test_a_ratio_is_marked_as_not_interleaved_where_it_stands_and_where_it_is_explained() -> None:
    table = built(Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (ONNX, 0.008)))
    assert table.overview and "Not interleaved" in table.overview.section.notes[0]
    assert "share no round" in table.glossary[AGAINST]


def test_a_doubt_about_either_number_is_one_about_the_ratio() -> None:
    busy = calm(run_delay=0.3)
    for slow in (HOME, PI5):
        fleet = Fleet()
        for machine, seconds in ((HOME, 0.002), (PI5, 0.008)):
            fleet.time(machine, (ONNX, seconds), gauge=busy if machine is slow else None)
        row = shown(fleet, "onnx")
        assert row[AGAINST].endswith(" noisy")
        assert row["latency on home"].endswith("noisy") == (slow is HOME)


def test_what_answers_another_question_has_no_ratio() -> None:
    older = replace(ONNX, protocol=0)
    assert shown(Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (older, 0.008)), "onnx")[AGAINST] == "other protocol"


def test_an_emulated_time_is_not_shown_ranked_picked_or_compared() -> None:
    fleet = three()
    row = shown(fleet, "onnx_int8")
    emulated = "home (emulated aarch64)"
    assert row[f"latency on {emulated}"] == "emulated"
    assert f"{emulated} against home, not interleaved" not in row
    assert row[f"memory on {emulated}"] == "548"
    own = built(fleet).others[1]
    assert own.answer and own.answer.headline.startswith(f"{emulated}: Nothing is picked: the processor is emulated")
    ship = own.sections[0]
    assert {cells(ship, row)["latency"] for row in ship.rows} == {"emulated"}
    assert not {"rank", "speed_up"} & {*ship.columns}
    assert not any(record.fields["value"] for record in own.records if record.fields["metric"] == "latency")


def test_the_ratio_is_to_the_first_device_that_is_real() -> None:
    fleet = Fleet().time(ARM, (ONNX, 0.1)).time(PI5, (ONNX, 0.008)).time(replace(PI5, name="hall"), (ONNX, 0.004))
    row = shown(fleet, "onnx")
    assert row["hall against pi5, not interleaved"].startswith("2.00 [") and row["latency on home"] == "emulated"


def test_only_emulated_devices_have_no_ratio_at_all() -> None:
    fleet = Fleet().time(ARM, (ONNX, 0.1)).time(replace(ARM, name="other"), (ONNX, 0.1))
    assert [*shown(fleet, "onnx")] == ["latency on home", "latency on other"]
    assert "ratio" not in " ".join(overview(fleet).section.notes)


def test_labels_are_compared_on_the_images_that_both_classified() -> None:
    fleet = three()
    assert shown(fleet, "onnx")["labels"] == "same on 150"
    assert shown(fleet, "onnx_int8")["labels"] == "2 of 150 differ on pi5"
    assert shown(fleet, "onnx_int8")["accuracy"].startswith("99.67"), "of the device that classified the most"
    notes = " ".join(overview(fleet).section.notes)
    assert "classified different numbers of images" in notes
    assert "Labels of 1 configuration differ between home and pi5." in notes
    assert "home has instructions for INT8 dot products and pi5 has none: that may explain" in notes


@pytest.mark.parametrize(
    ("instructions", "told"),
    [
        (("asimd", "asimddp"), "Both have instructions for INT8 dot products, so these do not explain it."),
        ((), "Whether pi5 has instructions for INT8 dot products is not known."),
    ],
)
def test_instructions_explain_labels_only_where_they_differ(instructions: tuple[str, ...], told: str) -> None:
    board = replace(PI5, instructions=instructions)
    fleet = Fleet().time(HOME, (INT8, 0.001)).time(board, (INT8, 0.004))
    fleet.label(HOME, INT8, range(100)).label(board, INT8, range(100), wrong=[3])
    assert told in " ".join(overview(fleet).section.notes)


def test_labels_of_a_float_format_are_not_explained_by_int8_instructions() -> None:
    fleet = Fleet().time(HOME, (ONNX, 0.001)).time(PI5, (ONNX, 0.004))
    fleet.label(HOME, ONNX, range(100)).label(PI5, ONNX, range(100), wrong=[3])
    notes = " ".join(overview(fleet).section.notes)
    assert "Labels of 1 configuration differ between home and pi5" in notes and "INT8" not in notes


def test_labels_that_are_lost_or_of_no_common_image_are_said_not_to_be_compared() -> None:
    fleet = Fleet().time(HOME, (ONNX, 0.001)).time(PI5, (ONNX, 0.004))
    fleet.label(HOME, ONNX, range(100)).label(PI5, ONNX, range(100, 150))
    found = overview(fleet).section
    assert "labels" not in found.columns and "Labels are not compared for 1 configuration" in " ".join(found.notes)


def test_other_files_are_another_row() -> None:
    artifact = replace(ONNX.artifact, files=(File(name="model.onnx", bytes=3, sha256="1" * 64),))
    other = replace(ONNX, artifact=artifact)
    fleet = Fleet().time(HOME, (ONNX, 0.002)).time(PI5, (other, 0.008))
    found = overview(fleet).section
    assert [row.labels[-1] for row in found.rows] == ["00000000", "11111111"] and found.label_titles[-1] == "sha256"
    assert AGAINST not in [column.title for column in found.columns.values()]
    assert "Of 1 configuration the devices measured different files" in " ".join(found.notes)


def test_what_failed_on_a_device_says_so_in_its_column() -> None:
    fleet = Fleet().time(HOME, (EAGER, 0.004), (ONNX, 0.002)).time(PI5, (EAGER, 0.016))
    fleet.fail(PI5, ONNX, Failure(kind="crashed", reason="SIGILL"))
    row = shown(fleet, "onnx")
    assert row["latency on pi5"] == "crashed" and row[AGAINST] == "–"
    table = built(fleet)
    assert not table.failures and "SIGILL" in table.others[0].failures[0]


def test_what_was_measured_on_one_device_alone_has_a_row_too() -> None:
    fleet = Fleet().time(HOME, (EAGER, 0.004)).time(PI5, (EAGER, 0.016), (ONNX, 0.008))
    row = shown(fleet, "onnx")
    assert row["latency on home"] == "–" and row["latency on pi5"].startswith("8.000")


def test_every_device_with_an_answer_is_in_its_headline_and_its_pick_is_marked() -> None:
    table = built(three())
    headlines = [each.answer.headline for each in table.devices if each.answer]
    assert headlines[1] == "pi5: Ship small as INT8 (onnx_int8) on ONNX Runtime"
    marks = {row.labels[1]: row.mark for row in overview(three()).section.rows}
    assert marks == {"onnx_int8": "ship on home, pi5", "onnx": "", "checkpoint": ""}


def test_a_screen_has_what_the_answers_name_in_short_columns() -> None:
    few = overview(three()).few
    assert [row.name for row in few.rows] == ["small onnx_int8", "small onnx", "small checkpoint"] and few.more == 0
    assert [column.title for column in few.columns.values()][:4] == ["accuracy", "labels", "home", "pi5"]
    assert [row.mark for row in few.rows] == ["*", "", ""]


def test_machines_may_be_named() -> None:
    assert built(three(), "pi5").device == "pi5" and not built(three(), "pi5").overview
    both = built(three(), "pi5", "home")
    assert [each.device for each in both.devices] == ["home", "pi5"]
    assert "emulated" in both.facts["left out"][0]


def test_the_csvs_name_the_device_of_each_row() -> None:
    records = built(three()).records
    assert [*dict.fromkeys(record.fields["machine_name"] for record in records)] == [
        *("home", "pi5", "home (emulated aarch64)")
    ]
    alone = built(Fleet().time(HOME, (EAGER, 0.004))).records
    assert all("machine_name" not in record.fields for record in alone)


def test_speed_ups_are_never_across_devices() -> None:
    fleet = Fleet().time(HOME, (EAGER, 0.004)).time(PI5, (ONNX, 0.002))
    assert "speed_up" not in built(fleet).others[0].sections[0].columns


def test_a_wide_csv_has_a_row_for_each_configuration_and_device() -> None:
    made = wide(built(three()).records)
    assert [*made.columns][:3] == ["machine_name", "name", "network"] and len(made) == 9
    emulated = made[made["machine_name"] == "home (emulated aarch64)"]
    assert emulated["latency_p50_s"].isna().all() and emulated["latency_failure"].str.startswith("emulated: ").all()

"""Charts are drawn where their numbers are, whatever these are, and the same chart is the same bytes."""

import math
import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element

import pytest

from cifar_deploy.core.charts import Axis, Bar, Forest, Lines, Panel, Point, Scatter, Span
from cifar_deploy.reports import charts
from tests.reports.tables import SMALL


def scatter(places: Iterable[tuple[float, float]]) -> Scatter:
    return scatter_of(Point(label=f"{x} {y}", x=x, y=y, series="one", shape="a runtime") for x, y in places)


def scatter_of(points: Iterable[Point]) -> Scatter:
    return Scatter(part="p", title="t", x=Axis(title="ms", log=True), y=Axis(title="%"), points=tuple(points))


def places(svg: Element) -> dict[str, tuple[float, float]]:
    """Where each point of a scatter chart is, by its label."""
    found = {}
    for group in svg.iter("g"):
        title, path = group.find("title"), group.find("path")
        if title is not None and path is not None:
            x, y = re.findall(r"translate\((\S+) (\S+)\)", path.attrib["transform"])[0]
            found[str(title.text)] = (float(x), float(y))
    return found


def numbers_of(svg: Element) -> dict[str, list[float]]:
    """Every number of every attribute, by the attribute's name."""
    found: dict[str, list[float]] = {}
    for element in svg.iter():
        for name in element.attrib.keys() - {"class", "aria-label", "role", "text-anchor"}:
            assert "nan" not in element.attrib[name] and "inf" not in element.attrib[name]
            found.setdefault(name, []).extend(map(float, re.findall(r"-?[\d.]+", element.attrib[name])))
    return found


def test_equal_ratios_are_equal_distances_on_a_log_axis_and_up_is_more() -> None:
    found = places(charts.scatter(scatter([(0.1, 80), (1, 90), (10, 85)]), 800, 400))
    (x1, y1), (x2, y2), (x3, y3) = found.values()
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2) and x1 < x2
    assert y2 < y3 < y1


def test_a_linear_axis_has_round_ticks_and_a_log_axis_powers_and_their_halves() -> None:
    svg = charts.scatter(scatter([(0.05, 81), (20, 89.7)]), 800, 400)
    (x_axis, y_axis) = (axis for axis in svg.iter("g") if axis.get("class") == "axis")
    assert [text.text for text in x_axis.iter("text")][:-1] == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
    assert [text.text for text in y_axis.iter("text")][:-1] == ["82", "84", "86", "88", "90"]


def test_names_lie_inside_the_frame_and_on_no_other_name_or_ring() -> None:
    points = tuple(
        Point(label=str(x), x=x, y=y, series="one", shape="a", name=f"a network of number {x} on a runtime")
        for x, y in ((1, 90), (1.05, 90.05), (1.1, 80), (40, 90))
    )
    for width in (900, 358):
        svg = charts.scatter(scatter_of(points), width, 300)
        boxes = []
        for name in svg.iter("text"):
            if name.get("class") == "name":
                x, y = float(name.attrib["x"]), float(name.attrib["y"])
                boxes.append((x, y - 10, x + len(str(name.text)) * 6, y + 2))
        assert len(boxes) == 4
        for box in boxes:
            assert box[0] >= 0 and box[2] <= width and box[1] >= 0 and box[3] <= 300
        for index, one in enumerate(boxes):
            for other in boxes[:index]:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                assert apart, (one, other)


def test_only_what_is_named_is_ringed_and_only_int8_is_filled() -> None:
    points = (
        Point(label="float", x=1, y=1, series="one", shape="a"),
        Point(label="int8", x=2, y=2, series="one", shape="a", filled=True, name="picked"),
    )
    svg = charts.scatter(scatter_of(points), 800, 400)
    classes = {g.findtext("title"): g.attrib["class"] for g in svg.iter("g") if g.find("title") is not None}
    assert classes == {"float": "mark c0", "int8": "mark c0 filled"}
    ringed = [g.findtext("title") for g in svg.iter("g") for c in g.findall("circle") if c.get("class") == "ring"]
    assert ringed == ["int8"]


def test_networks_beyond_the_colours_share_one_and_what_is_named_has_its_own() -> None:
    points = tuple(
        Point(label=str(n), x=n + 1, y=1, series=f"net{n}", shape="a", name="picked" if n == 40 else None)
        for n in range(50)
    )
    svg = charts.scatter(scatter_of(points), 800, 400)
    (key,) = (g for g in svg.iter("g") if g.get("class") == "key")
    names = [text.text for text in key.iter("text")]
    assert len(names) == charts.COLOURS and names[0] == "net40" and names[-1] == "others"
    assert float(svg.attrib["height"]) == 400


def test_rows_of_one_group_have_one_background() -> None:
    groups = ["1", "T-2", "T-2", "4", "T-5", "T-5"]
    rows = tuple(Span(label=str(n), text="1", value=n + 1.0, group=group) for n, group in enumerate(groups))
    svg = charts.forest(Panel(title="t", x=Axis(title="ms", log=True), rows=rows), 320)
    bands = [(float(r.attrib["y"]), float(r.attrib["height"])) for r in svg.iter("rect")]
    row = bands[0][1] / 2
    assert [(round(y / row), round(height / row)) for y, height in bands] == [(1, 2), (4, 2)]


_EXTREME = [
    [1.0],
    [1.0, 1.0],
    [0.0, 0.0],
    [-1e-9, 1e-9],
    [1e-300, 1e300],
    [5e-324],
    [-5.0, 0.0, 5.0],
    [0.0, 1e-12],
    [1e15, 1e15 + 1],
]


@pytest.mark.parametrize("numbers", _EXTREME, ids=str)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [320, 40])
def test_any_numbers_are_drawn_inside_the_chart(numbers: list[float], log: bool, width: float) -> None:
    axis = Axis(title="x", log=log)
    points = tuple(Point(label="p", x=n, y=n, x_between=(n, n), series="s", shape="a", name="name") for n in numbers)
    rows = tuple(Span(label="l" * 50, text="t" * 50, value=n, between=(n, n), dots=(n,), tick=n) for n in numbers)
    bar_rows = [Bar(label="l" * 50, parts=(max(n, 0.0), 0.0), texts=("t" * 50,)) for n in numbers]
    drawn = [
        charts.scatter(Scatter(part="p", title="t", x=axis, y=Axis(title="y"), points=points), 320, 200),
        charts.forest(Panel(title="t", x=axis, rows=rows, reference=numbers[0]), width),
        charts.bars("t", bar_rows, ("a", "b"), ("t",), width),
        charts.lines(Lines(part="p", title="t", x=axis, y=axis, lines={"l": tuple((n, n) for n in numbers)}), 320, 200),
    ]
    for svg in drawn:
        found = numbers_of(svg)
        assert all(map(math.isfinite, (n for those in found.values() for n in those)))
        assert min(found.get("width", [0]) + found.get("height", [0]) + found.get("r", [0])) >= 0
        assert len(list(svg.iter())) < 400, "not a tick for every number"


def test_shades_are_by_place_or_by_size_where_signs_differ() -> None:
    assert charts.shades([1, 10, 100, None], log=True) == [0, 4, 9, None]
    assert charts.shades([0, 5, 10], log=False) == [0, 4, 9]
    assert charts.shades([-2, 1, 0], log=False) == [9, 4, 0]
    assert charts.shades([3, 3], log=False) == [0, 0] and charts.shades([], log=True) == []


def test_the_same_chart_is_the_same_bytes() -> None:
    for chart in SMALL.charts:
        if isinstance(chart, Scatter):
            assert charts.text_of(charts.scatter(chart, 900, 400)) == charts.text_of(charts.scatter(chart, 900, 400))
        if isinstance(chart, Forest):
            first, second = (charts.alone(charts.forest(chart.panels[0], 320)) for _ in range(2))
            assert first == second and first.startswith("<svg") and 'xmlns="http://www.w3.org/2000/svg"' in first

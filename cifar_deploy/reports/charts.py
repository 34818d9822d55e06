"""Charts as SVG: static, in the colours of charts.css, as wide as they are asked to be.

An element that a pointer may rest on has its numbers as its `<title>`. Widths of text are estimated, so that the same
chart is the same bytes wherever it is drawn.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from importlib.resources import files
from xml.etree.ElementTree import Element, SubElement, tostring

from cifar_deploy.core.charts import Axis, Bar, Bars, Between, Forest, Lines, Panel, Point, Scatter, Span
from cifar_deploy.core.errors import printable
from cifar_deploy.core.table import Table

COLOURS = 8  # series beyond share them
_FONT = 11  # pixels; as in charts.css
_LETTER = 0.61 * _FONT  # the mean width of one
_CAPITAL = 0.74 * _FONT
_LEAST_DECADES = 0.4  # of a log axis, a factor of 2.5
_SMALL = 10 / 11  # of labels beside rows
_ROW = 15
_RADIUS = 4.5

# About the origin, each of about the area of a circle of radius 1.
_SHAPES = (
    "M-1,0A1,1 0 1 0 1,0A1,1 0 1 0 -1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,-1.2L1.15,.9H-1.15Z",
    "M0,1.2L1.15,-.9H-1.15Z",
    "M-1.2,0L.9,-1.15V1.15Z",
    "M1.2,0L-.9,-1.15V1.15Z",
    "M-.4,-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "M-1.1,-.6L-.6,-1.1L0,-.5L.6,-1.1L1.1,-.6L.5,0L1.1,.6L.6,1.1L0,.5L-.6,1.1L-1.1,.6L-.5,0Z",
    "M-1.2,-.5H1.2V.5H-1.2Z",
    "M-.5,-1.2H.5V1.2H-.5Z",
)


def style() -> str:
    """The style sheet of all charts."""
    return (files(__package__) / "charts.css").read_text(encoding="utf-8")


def main_of(table: Table) -> Scatter | Forest | None:
    """The chart that stands for the whole report."""
    return next((chart for chart in table.charts if isinstance(chart, Scatter | Forest)), None)


def alone(svg: Element) -> str:
    """A chart as a file of its own."""
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    sheet = Element("style")
    sheet.text = f"{style()}svg{{background:var(--paper);font-family:system-ui,sans-serif}}"
    svg.insert(0, sheet)
    return f"{text_of(svg)}\n"


def text_of(svg: Element) -> str:
    return tostring(svg, encoding="unicode")


def said(text: str, width: float) -> Element:
    """A sentence in the place of a chart."""
    svg = _svg(text, width, 24)
    _add(svg, "text", text, x=4, y=16)
    return svg


class _Scale:
    """From an axis' numbers to pixels."""

    def __init__(self, axis: Axis, numbers: Iterable[float], start: float, end: float) -> None:
        self._log = axis.log
        found = [number for number in numbers if math.isfinite(number) and (number > 0 or not axis.log)]
        low, high = self._of(min(found, default=1.0)), self._of(max(found, default=10.0))
        if axis.log:
            margin = max(0.05, (_LEAST_DECADES - (high - low)) / 2)
        else:
            margin = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
        self._low, self._high, self._start, self._end = low - margin, high + margin, start, end
        self.ticks = (_log_ticks if axis.log else _ticks)(self._low, self._high)

    def _of(self, number: float) -> float:
        return math.log10(max(number, sys.float_info.min)) if self._log else number

    def __call__(self, number: float) -> float:
        share = (self._of(number) - self._low) / (self._high - self._low)
        return self._start + min(max(share, 0.0), 1.0) * (self._end - self._start)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Between two powers of ten: 1, 2 and 5 of each power, what lies between too if these are few, some powers if many."""
    first, last = math.floor(low), math.ceil(high)
    if last - first > 6:
        step = math.ceil((last - first) / 6)
        return [10.0**power for power in range(first, last, step) if low <= power <= high and power < 308]
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = (factor * 10.0**power for power in range(first, last + 1) for factor in factors)
        found = [tick for tick in ticks if tick and low <= math.log10(tick) <= high]
        if len(found) >= 3:
            break
    return found


def _number(value: float) -> str:
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e6 or not value else f"{value:.0e}"


def _pixels(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _add(parent: Element, tag: str, text: str = "", **attributes: float | str) -> Element:
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    shown = {key: value if isinstance(value, str) else _pixels(value) for key, value in named.items()}
    element = SubElement(parent, tag, shown)
    if text:
        element.text = printable(text)
    return element


def _titled(parent: Element, title: str, class_: str) -> Element:
    group = _add(parent, "g", class_=class_)
    _add(group, "title", title)
    return group


def _svg(title: str, width: float, height: float) -> Element:
    size = {"width": _pixels(width), "height": _pixels(height), "viewBox": f"0 0 {_pixels(width)} {_pixels(height)}"}
    return Element("svg", {"class": "chart", "role": "img", "aria-label": printable(title), **size})


def _wide(text: str) -> float:
    """About the width of a text, and rather too much."""
    return sum(_CAPITAL if letter.isupper() else _LETTER for letter in text)


def _shortened(text: str, width: float) -> str:
    """`text`, without its middle if it is wider than so many pixels."""
    longest = max(4, int(width / _LETTER))
    if _wide(text) <= width:
        return text
    return f"{text[: longest // 2]}…{text[len(text) - (longest - 1 - longest // 2) :]}"


def _x_axis(svg: Element, scale: _Scale, top: float, bottom: float, title: str, right: float) -> None:
    axis, last = _add(svg, "g", class_="axis"), -math.inf
    for tick in scale.ticks:
        x, text = scale(tick), _number(tick)
        _add(axis, "line", x1=x, x2=x, y1=top, y2=bottom)
        half = _wide(text) / 2
        if x - half > last:
            _add(axis, "text", text, x=x, y=bottom + 13, text_anchor="middle")
            last = x + half + 4
    _add(axis, "text", title, x=right, y=bottom + 27, text_anchor="end")


def _y_axis(svg: Element, scale: _Scale, left: float, right: float, title: str, top: float) -> None:
    axis = _add(svg, "g", class_="axis")
    for tick in scale.ticks:
        y = scale(tick)
        _add(axis, "line", x1=left, x2=right, y1=y, y2=y)
        _add(axis, "text", _number(tick), x=left - 5, y=y + 4, text_anchor="end")
    _add(axis, "text", title, x=2, y=top - 6)


def _key(svg: Element, entries: Sequence[tuple[str, str, str]], width: float, top: float) -> float:
    """The legend: (name, class of the colour, path of the shape); the height that it took."""
    legend, x, y = _add(svg, "g", class_="key"), 4.0, top + 8
    for name, class_, path in entries:
        name = _shortened(name, width - 30)
        needs = 23 + _wide(name)
        if x + needs > width and x > 4:
            x, y = 4.0, y + 16
        _add(legend, "path", d=path, transform=f"translate({_pixels(x + 6)} {_pixels(y)}) scale(4.5)", class_=class_)
        _add(legend, "text", name, x=x + 15, y=y + 4)
        x += needs
    return y + 12 - top


_OTHERS = "others"


def _given(
    names: Iterable[str], signs: Sequence[str], first: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """A sign for each name, and the key to them. Where there are too few, `first` have their own, and the last is all others'."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) <= len(signs):
        found = dict(zip(distinct, signs, strict=False))
        return found, found
    distinct = list(dict.fromkeys([*first, *distinct]))
    own = dict(zip(distinct, signs[:-1], strict=False))
    return {name: own.get(name, signs[-1]) for name in distinct}, {**own, _OTHERS: signs[-1]}


_COLOURS = [f"c{index}" for index in range(COLOURS)]


def scatter(chart: Scatter, width: float, height: float, *, key_below: bool = False) -> Element:
    """With its key above, or below it where little else fits on the first screen."""
    named = [point for point in chart.points if point.name]
    colours, colour_key = _given((p.series for p in chart.points), _COLOURS, [p.series for p in named])
    shapes, shape_key = _given((p.shape for p in chart.points), _SHAPES, [p.shape for p in named])
    svg = _svg(chart.title, width, height)
    entries = [(name, f"mark filled {colour}", _SHAPES[0]) for name, colour in colour_key.items()]
    entries += [(name, "mark", path) for name, path in shape_key.items()] if len(shapes) > 1 else []
    key = _key(svg, entries, width, height if key_below else 0)
    if key_below:
        svg.set("height", _pixels(height + key))
        svg.set("viewBox", f"0 0 {_pixels(width)} {_pixels(height + key)}")
    top = 20 + (0 if key_below else key)
    left, right, bottom = 34.0, width - 8, height - 34
    x = _Scale(chart.x, _all(chart.points, lambda point: (point.x, *(point.x_between or ()))), left + 8, right - 8)
    y = _Scale(chart.y, _all(chart.points, lambda point: (point.y, *(point.y_between or ()))), bottom - 4, top + 4)
    _x_axis(svg, x, top, bottom, chart.x.title, right)
    _y_axis(svg, y, left, right, chart.y.title, top)
    if chart.front:
        _add(svg, "path", class_="front", d=_steps([(x(a), y(b)) for a, b in chart.front]))
    for point in chart.points:
        group = _titled(svg, point.label, f"mark {colours[point.series]}{' filled' if point.filled else ''}")
        px, py = x(point.x), y(point.y)
        if point.x_between:
            _add(group, "line", x1=x(point.x_between[0]), x2=x(point.x_between[1]), y1=py, y2=py, class_="between")
        if point.y_between:
            _add(group, "line", x1=px, x2=px, y1=y(point.y_between[0]), y2=y(point.y_between[1]), class_="between")
        if point.name:
            _add(group, "circle", cx=px, cy=py, r=_RADIUS + 5, class_="ring")
        place = f"translate({_pixels(px)} {_pixels(py)}) scale({_RADIUS})"
        _add(group, "path", d=shapes[point.shape], transform=place)
    _names(svg, [(str(p.name), x(p.x), y(p.y)) for p in named], (left, top, right, bottom))
    return svg


def _all(points: Iterable[Point], of: object) -> list[float]:
    return [number for point in points for number in of(point)]  # type: ignore[operator]


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """To the right, then up: up to the next point of the front nothing faster is more accurate."""
    (x, y), *others = places
    return f"M{_pixels(x)},{_pixels(y)}" + "".join(f"H{_pixels(a)}V{_pixels(b)}" for a, b in others)


def _names(svg: Element, named: Sequence[tuple[str, float, float]], within: tuple[float, float, float, float]) -> None:
    """Beside each ring, where neither another name nor the frame is in the way, as far as there is such a place."""
    left, top, right, bottom = within
    taken: list[tuple[float, float, float, float]] = [(x - 10, y - 10, x + 10, y + 10) for _, x, y in named]
    for name, x, y in named:
        name = _shortened(name, (right - left) * 0.8)
        length = _wide(name) * 1.04
        places = [
            (min(max(x - length / 2, left), right - length), y + dy, length) for dy in (-15, 23, -29, 37, -43, 51)
        ]
        free = [
            place
            for place in places
            if place[1] - 10 > top
            and place[1] < bottom
            and not any(_overlap((place[0], place[1] - 10, place[0] + length, place[1] + 2), other) for other in taken)
        ]
        at, baseline, _ = (free or places)[0]
        taken.append((at, baseline - 10, at + length, baseline + 2))
        _add(svg, "text", name, x=at, y=baseline, class_="name")


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def forest(panel: Panel, width: float) -> Element:
    """One panel of a forest chart."""
    texts = min(max(_wide(span.text) for span in panel.rows) + 4, width * 0.3)
    left = min(max(_wide(span.label) * _SMALL for span in panel.rows) + 4, width * 0.55)
    right, top = width - texts, 4.0
    bottom = top + len(panel.rows) * _ROW
    svg = _svg(panel.title, width, bottom + 32)
    _bands(svg, panel.rows, top, width)
    numbers = [number for span in panel.rows for number in _numbers(span)]
    x = _Scale(panel.x, [*numbers, *([panel.reference] if panel.reference is not None else [])], left + 6, right - 6)
    _x_axis(svg, x, top, bottom, panel.x.title, right)
    if panel.reference is not None:
        _add(svg, "line", x1=x(panel.reference), x2=x(panel.reference), y1=top, y2=bottom, class_="reference")
    for index, span in enumerate(panel.rows):
        y = top + (index + 0.5) * _ROW
        if span.value is None:
            _add(svg, "text", span.label, x=2, y=y + 4, class_="heading")
            continue
        group = _titled(svg, _said(span), f"mark c0{' filled' if span.filled else ''}")
        label = _shortened(span.label, (left - 3) / _SMALL)
        _add(group, "text", label, x=left - 2, y=y + 4, text_anchor="end", class_="small")
        for dot in span.dots:
            _add(group, "circle", cx=x(dot), cy=y, r=1.8, class_="dot")
        if span.between:
            _add(group, "line", x1=x(span.between[0]), x2=x(span.between[1]), y1=y, y2=y, class_="between strong")
        if span.tick is not None:
            _add(group, "line", x1=x(span.tick), x2=x(span.tick), y1=y - 4, y2=y + 4, class_="tick")
        _add(group, "circle", cx=x(span.value), cy=y, r=3.4)
        _add(group, "text", _shortened(span.text, texts), x=width - 1, y=y + 4, text_anchor="end")
    return svg


def _bands(svg: Element, rows: Sequence[Span], top: float, width: float) -> None:
    """A background behind every second group."""
    start, shaded = 0, False
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end].group == rows[start].group:
            continue
        if shaded:
            _add(svg, "rect", x=0, y=top + start * _ROW, width=width, height=(end - start) * _ROW, class_="band")
        start, shaded = end, not shaded


def _numbers(span: Span) -> list[float]:
    return [number for number in (span.value, *(span.between or ()), *span.dots, span.tick) if number is not None]


def _said(span: Span) -> str:
    between = f" [{span.between[0]:.3g}, {span.between[1]:.3g}]" if span.between else ""
    return f"{span.label}: {span.text}{between}{f', rank {span.group}' if span.group else ''}"


def bars(title: str, rows: Sequence[Bar], parts: Sequence[str], texts: Sequence[str], width: float) -> Element:
    """One panel of stacked bars, with a column of texts for each of `texts`."""
    most = width * 0.4 / max(len(texts), 1)
    widths = [min(max(_wide(texts[i]), *(_wide(row.texts[i]) for row in rows)) + 8, most) for i in range(len(texts))]
    left = min(max(_wide(row.label) for row in rows) + 6, width * 0.42)
    right, top = width - sum(widths) - 4, 18.0
    svg = _svg(title, width, top + len(rows) * (_ROW + 3) + 4)
    longest = max((sum(row.parts) for row in rows), default=0) or 1.0
    ends = [width - 2 - sum(widths[i + 1 :]) for i in range(len(texts))]
    for end, text, wide in zip(ends, texts, widths, strict=True):
        _add(svg, "text", _shortened(text, wide), x=end, y=12, text_anchor="end", class_="soft")
    for index, row in enumerate(rows):
        y, x = top + index * (_ROW + 3), left
        said = ", ".join(f"{part} {number:,.1f}" for part, number in zip(parts, row.parts, strict=True))
        group = _titled(svg, f"{row.label}: {said}", "bar")
        _add(group, "text", _shortened(row.label, left - 6), x=left - 4, y=y + 11, text_anchor="end")
        for number, part in enumerate(row.parts):
            length = part / longest * (right - left)
            _add(group, "rect", x=x, y=y, width=length, height=_ROW - 1.0, class_=f"c{number % COLOURS}")
            x += length
        for end, text, wide in zip(ends, row.texts, widths, strict=True):
            _add(group, "text", _shortened(text, wide), x=end, y=y + 11, text_anchor="end")
    return svg


def bars_key(chart: Bars, width: float) -> Element:
    entries = [(name, f"bar c{index % COLOURS}", _SHAPES[1]) for index, name in enumerate(chart.parts)]
    svg = _svg(f"{chart.title}: key", width, 0)
    height = _pixels(_key(svg, entries, width, 0))
    svg.set("height", height)
    svg.set("viewBox", f"0 0 {_pixels(width)} {height}")
    return svg


def lines(chart: Lines, width: float, height: float) -> Element:
    colours, key = _given(chart.lines, _COLOURS)
    svg = _svg(chart.title, width, height)
    top = _key(svg, [(name, f"mark filled {colour}", _SHAPES[0]) for name, colour in key.items()], width, 0) + 20
    left, right, bottom = 34.0, width - 8, height - 34
    x = _Scale(chart.x, [0.0, *(a for points in chart.lines.values() for a, _ in points)], left, right)
    y = _Scale(chart.y, [b for points in chart.lines.values() for _, b in points], bottom, top)
    _x_axis(svg, x, top, bottom, chart.x.title, right)
    _y_axis(svg, y, left, right, chart.y.title, top)
    for name, points in chart.lines.items():
        last_x, last_y = points[-1]
        group = _titled(svg, f"{name}: {last_y:.2f} after {last_x:.1f}", f"mark filled {colours[name]}")
        _add(group, "polyline", points=" ".join(f"{_pixels(x(a))},{_pixels(y(b))}" for a, b in points), class_="line")
        for a, b in points:
            _add(group, "circle", cx=x(a), cy=y(b), r=1.8)
    return svg


def shades(numbers: Iterable[float | None], *, log: bool) -> list[int | None]:
    """0 to 9 for each number, by its place between the least and the greatest; by its size if they have both signs."""
    given = list(numbers)
    known = [number for number in given if number is not None and math.isfinite(number)]
    signed = bool(known) and min(known) < 0
    scaled: Sequence[float | None] = [
        None if number is None else abs(number) if signed else math.log(max(number, 1e-9)) if log else number
        for number in given
    ]
    ends: Between = (
        min((n for n in scaled if n is not None), default=0.0),
        max((n for n in scaled if n is not None), default=0.0),
    )
    low, high = (0.0, ends[1]) if signed else ends
    return [None if n is None else int(9 * (n - low) / (high - low)) if high > low else 0 for n in scaled]

"""Charts as inline SVG: line charts, radars and heat maps, coloured by the styles of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = 8
# A chart fills the width of its place, up to this factor of its own width.
_LARGEST = 1.4
# Margins of a line chart, in pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 40
# A radar's height, radius, vertical centre and mean width of a letter.
_HEIGHT, _RADIUS, _MIDDLE, _LETTER = 320, 104, 174, 5.6
_RINGS = 4
# A heat map's cells, the top of the first row and the mean width of a letter.
_WIDE, _HIGH, _FIRST, _CELL_LETTER = 68, 34, 46, 6.4
_CELL_SIZE = f'width="{_WIDE - 2}" height="{_HIGH - 2}"'
# The error rate of chance; higher rates are as dark.
_DARKEST = 0.5
# Share of a step by which a tick may lie outside its axis: 5 steps of 0.2 are more than 1.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Axis:
    """An axis: its range and ticks in its own coordinates.

    Attributes:
        label: quantity and unit.
        low, high: ends; low is at the left or the bottom.
        ticks: (position, text) pairs.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float, start: float, end: float) -> float:
        """The pixel of `value` between two pixels; values outside the range are clipped."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return start + min(1.0, max(0.0, share)) * (end - start)


class Chart:
    """A chart of lines, areas, dots and texts, to which parts are added before `svg` writes it."""

    def __init__(self, title: str, x: Axis, y: Axis, width: int = 380, height: int = 300) -> None:
        self.title, self.x, self.y, self.width, self.height = title, x, y, width, height
        self._left = _LEFT if y.ticks or y.label else 8
        self._right, self._bottom = width - _RIGHT, height - _BOTTOM
        self._marks: list[str] = []

    def line(self, points: Sequence[tuple[float, float]], style: str, name: str = "") -> None:
        """A line through points in axis coordinates; `name` is its tooltip."""
        path = " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in points)
        self._marks.append(f'<polyline class="line {style}" points="{path}">{_tip(name)}</polyline>')

    def area(self, points: Sequence[tuple[float, float]], style: str, name: str = "") -> None:
        """The area between points and the x axis."""
        ends = [(points[0][0], self.y.low), *points, (points[-1][0], self.y.low)]
        path = " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in ends)
        self._marks.append(f'<polygon class="area {style}" points="{path}">{_tip(name)}</polygon>')

    def dot(self, x: float, y: float, style: str, radius: float = 4.0, name: str = "") -> None:
        """A dot in axis coordinates."""
        self._marks.append(
            f'<circle class="dot {style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{radius}">'
            f"{_tip(name)}</circle>"
        )

    def text(self, x: float, y: float, words: str, style: str = "") -> None:
        """A text that begins at a point."""
        self._marks.append(
            f'<text class="{style}" x="{self._x(x):.1f}" y="{self._y(y) + 4:.1f}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """The chart as an SVG element."""
        parts = [
            _opening(self.title, self.width, self.height, self._left),
            *self._x_ticks(),
            *self._y_ticks(),
            *self._marks,
            f'<text class="label" text-anchor="end" x="{self._right}" y="{self.height - 5}">'
            f"{escape(self.x.label)}</text>",
        ]
        if self.y.label:
            parts.append(
                f'<text class="label" text-anchor="end" transform="translate(11 {_TOP}) rotate(-90)">'
                f"{escape(self.y.label)}</text>"
            )
        return "".join([*parts, "</svg>"])

    def _x(self, value: float) -> float:
        return self.x.place(value, self._left, self._right)

    def _y(self, value: float) -> float:
        return self.y.place(value, self._bottom, _TOP)

    def _x_ticks(self) -> list[str]:
        return [
            f'<line class="grid" x1="{self._x(at):.1f}" x2="{self._x(at):.1f}" y1="{_TOP}" y2="{self._bottom}"/>'
            f'<text class="tick" text-anchor="middle" x="{self._x(at):.1f}" y="{self._bottom + 15}">{text}</text>'
            for at, text in self.x.ticks
        ]

    def _y_ticks(self) -> list[str]:
        return [
            f'<line class="grid" x1="{self._left}" x2="{self._right}" y1="{self._y(at):.1f}" y2="{self._y(at):.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{self._left - 6}" y="{self._y(at) + 4:.1f}">{text}</text>'
            for at, text in self.y.ticks
        ]


@dataclass
class Radar:
    """A radar chart: closed lines over three or more axes; farther out is better.

    Attributes:
        title: heading.
        axes: names, clockwise from the top.
        low, high: values at the centre and at the rim of every axis; lower values are drawn in the centre.
    """

    title: str
    axes: Sequence[str]
    low: float
    high: float
    _marks: list[str] = field(default_factory=list)

    def line(self, values: Sequence[float], style: str, name: str) -> None:
        """A closed line through one value for each axis."""
        places = [self._place(number, value) for number, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        numbers = ", ".join(f"{axis} {value:.1f}" for axis, value in zip(self.axes, values, strict=True))
        tip = _tip(f"{name}: {numbers}")
        self._marks.append(f'<polygon class="line {style}" points="{path}">{tip}</polygon>')
        self._marks += [
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3">{tip}</circle>' for x, y in places
        ]

    def svg(self) -> str:
        """The chart as an SVG element."""
        parts = [_opening(self.title, self._width, _HEIGHT, 8)]
        for ring in range(1, _RINGS + 1):
            level = self.low + (self.high - self.low) * ring / _RINGS
            path = " ".join("{:.1f},{:.1f}".format(*self._place(number, level)) for number in range(len(self.axes)))
            parts.append(f'<polygon class="grid" fill="none" points="{path}"/>')
        parts += [self._spoke(number, name) for number, name in enumerate(self.axes)]
        parts += self._marks
        for ring in range(_RINGS + 1):
            level = self.low + (self.high - self.low) * ring / _RINGS
            x, y = self._place(0, level)
            parts.append(f'<text class="tick" x="{x + 4:.1f}" y="{y + 4:.1f}">{level:g}</text>')
        return "".join([*parts, "</svg>"])

    def _spoke(self, number: int, name: str) -> str:
        x, y = self._place(number, self.high)
        outside_x, outside_y = self._place(number, self.high + 0.13 * (self.high - self.low), clip=False)
        side = math.sin(self._angle(number))
        anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
        centre_x, centre_y = self._place(number, self.low)
        return (
            f'<line class="grid" x1="{centre_x}" y1="{centre_y}" x2="{x:.1f}" y2="{y:.1f}"/>'
            f'<text class="label" text-anchor="{anchor}" x="{outside_x:.1f}" y="{outside_y + 4:.1f}">'
            f"{escape(name)}</text>"
        )

    @property
    def _width(self) -> int:
        """Wide enough for the longest axis name on either side."""
        return max(380, round(2 * (1.15 * _RADIUS + _LETTER * max(map(len, self.axes)) + 8)))

    def _angle(self, number: int) -> float:
        return 2 * math.pi * number / len(self.axes)

    def _place(self, number: int, value: float, clip: bool = True) -> tuple[float, float]:
        share = (value - self.low) / (self.high - self.low)
        share = min(1.0, max(0.0, share)) if clip else share
        angle = self._angle(number)
        return self._width / 2 + _RADIUS * share * math.sin(angle), _MIDDLE - _RADIUS * share * math.cos(angle)


@dataclass(frozen=True)
class HeatMap:
    """A matrix of rates in [0, 1]: the higher, the darker; every cell shows its number.

    Attributes:
        title: heading.
        rows, columns: names.
        values: by row, then column; None if not measured.
        framed: (row, column) of cells with a frame, such as the diagonal.
        across, down: what columns and rows are.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    framed: Sequence[tuple[int, int]]
    across: str
    down: str

    def svg(self) -> str:
        """The chart as an SVG element."""
        left = 16 + round(_CELL_LETTER * max(len(name) for name in (*self.rows, self.down)))
        width = max(left + _WIDE * len(self.columns) + 10, left + round(7.2 * len(self.title)) // 2, 260)
        height = _FIRST + _HIGH * len(self.rows) + 26
        parts = [
            _opening(self.title, width, height, 8),
            f'<text class="label" x="{left - 8}" y="{_FIRST - 8}" text-anchor="end">{escape(self.down)}</text>',
            f'<text class="label" x="{left}" y="{height - 8}">{escape(self.across)}'
            f"{'; framed: trained on as well' if self.framed else ''}</text>",
        ]
        for place, name in enumerate(self.columns):
            middle = left + _WIDE * (place + 0.5)
            parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{_FIRST - 8}">{escape(name)}</text>')
        for row, name in enumerate(self.rows):
            y = _FIRST + _HIGH * row
            parts.append(f'<text class="tick" text-anchor="end" x="{left - 8}" y="{y + 21}">{escape(name)}</text>')
            parts += [self._cell(row, column, left + _WIDE * column, y) for column in range(len(self.columns))]
        parts += [
            f'<rect class="frame" x="{left + _WIDE * column + 1}" y="{_FIRST + _HIGH * row + 1}" {_CELL_SIZE} rx="3"/>'
            for row, column in self.framed
        ]
        return "".join([*parts, "</svg>"])

    def _cell(self, row: int, column: int, x: int, y: int) -> str:
        value = self.values[row][column]
        share = 0.0 if value is None else min(1.0, value / _DARKEST)
        words = "–" if value is None else f"{100 * value:.1f}"
        tip = f"{self.rows[row]}, {self.columns[column]}: {words}"
        over = " over" if share > 0.55 else ""
        return (
            f'<rect class="cell" x="{x + 1}" y="{y + 1}" {_CELL_SIZE} rx="3"'
            f' fill-opacity="{0.05 + 0.95 * share:.3f}">{_tip(tip)}</rect>'
            f'<text class="value{over}" text-anchor="middle" x="{x + _WIDE / 2}" y="{y + 21}">{words}</text>'
        )


def style_of(number: int, dashed: bool = False) -> str:
    """CSS classes of group `number`: a colour; dashes if `dashed`, dots if the colours repeat."""
    return f"c{number % COLOURS}" + (" dashed" if dashed else " dotted" if number >= COLOURS else "")


def even_ticks(low: float, high: float, count: int = 4) -> tuple[tuple[float, str], ...]:
    """About `count` round values between two ends, with their texts."""
    if high <= low:
        return ((low, f"{low:g}"),)
    rough = (high - low) / count
    power = 10.0 ** int(f"{rough:e}".split("e")[1])
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - _ROUNDING), math.floor(high / step + _ROUNDING)
    places = [round(step * k, 10) for k in range(first, last + 1)]
    return tuple((place, f"{place:g}") for place in places)


def _opening(title: str, width: float, height: float, left: float) -> str:
    """The start tag of a chart and its title."""
    label, widest = escape(title, quote=True), round(_LARGEST * width)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"'
        f' style="max-width:{widest}px"><text class="title" x="{left}" y="16">{escape(title)}</text>'
    )


def _tip(name: str) -> str:
    return f"<title>{escape(name)}</title>" if name else ""

"""Line charts as inline SVG: small, sharp at every size, coloured by the page's own styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 8
# A chart is stretched to its place, up to this factor.
_LARGEST = 1.4
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 40


@dataclass(frozen=True)
class Axis:
    """The range of an axis and its ticks, in the axis' own coordinates.

    Attributes:
        label: what it measures and in which unit.
        low, high: ends.
        ticks: (position, text) pairs.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Where `value` lies between two pixels; outside the range it is moved to the end."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return start + min(1.0, max(0.0, share)) * (end - start)


class Chart:
    """A chart that is drawn part by part and then written with `svg`."""

    def __init__(self, title: str, x: Axis, y: Axis, width: int = 380, height: int = 300) -> None:
        self.title, self.x, self.y, self.width, self.height = title, x, y, width, height
        self._marks: list[str] = []

    def line(self, points: Sequence[tuple[float, float]], style: str, name: str = "") -> None:
        """A line through points in axis coordinates; `name` is shown where a pointer rests on it."""
        path = " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in points)
        self._marks.append(f'<polyline class="line {style}" points="{path}">{_tip(name)}</polyline>')

    def area(self, points: Sequence[tuple[float, float]], style: str, name: str = "") -> None:
        """A filled shape down to the axis."""
        ends = [(points[0][0], self.y.low), *points, (points[-1][0], self.y.low)]
        path = " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in ends)
        self._marks.append(f'<polygon class="area {style}" points="{path}">{_tip(name)}</polygon>')

    def dot(self, x: float, y: float, style: str, radius: float = 4.0, name: str = "") -> None:
        """A point."""
        self._marks.append(
            f'<circle class="dot {style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{radius}">'
            f"{_tip(name)}</circle>"
        )

    def text(self, x: float, y: float, words: str, style: str = "") -> None:
        """Words that begin at a point."""
        self._marks.append(
            f'<text class="{style}" x="{self._x(x):.1f}" y="{self._y(y) + 4:.1f}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """The whole figure; as wide as its place, up to its own size."""
        left, right, top, bottom = self._frame()
        parts = [
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="'
            f'{escape(self.title, quote=True)}" style="max-width:{round(_LARGEST * self.width)}px">',
            f'<text class="title" x="{left}" y="16">{escape(self.title)}</text>',
            *self._x_ticks(top, bottom),
            *self._y_ticks(left, right),
            *self._marks,
            f'<text class="label" text-anchor="end" x="{right}" y="{self.height - 5}">{escape(self.x.label)}</text>',
        ]
        if self.y.label:
            parts.append(
                f'<text class="label" text-anchor="end" transform="translate(11 {top}) rotate(-90)">'
                f"{escape(self.y.label)}</text>"
            )
        return "".join([*parts, "</svg>"])

    def _frame(self) -> tuple[int, int, int, int]:
        return (
            (_LEFT if self.y.ticks or self.y.label else 8),
            self.width - _RIGHT,
            _TOP,
            self.height - _BOTTOM,
        )

    def _x(self, value: float) -> float:
        left, right, _, _ = self._frame()
        return self.x.place(value, left, right)

    def _y(self, value: float) -> float:
        _, _, top, bottom = self._frame()
        return self.y.place(value, bottom, top)

    def _x_ticks(self, top: int, bottom: int) -> list[str]:
        return [
            f'<line class="grid" x1="{self._x(at):.1f}" x2="{self._x(at):.1f}" y1="{top}" y2="{bottom}"/>'
            f'<text class="tick" text-anchor="middle" x="{self._x(at):.1f}" y="{bottom + 15}">{text}</text>'
            for at, text in self.x.ticks
        ]

    def _y_ticks(self, left: int, right: int) -> list[str]:
        return [
            f'<line class="grid" x1="{left}" x2="{right}" y1="{self._y(at):.1f}" y2="{self._y(at):.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{self._y(at) + 4:.1f}">{text}</text>'
            for at, text in self.y.ticks
        ]


def style_of(number: int, dashed: bool = False) -> str:
    """The style of the group of that number: a colour, and beyond the colours or where asked, dashes."""
    return f"c{number % COLOURS}" + (" dashed" if dashed else " dotted" if number >= COLOURS else "")


def even_ticks(low: float, high: float, count: int = 4) -> tuple[tuple[float, str], ...]:
    """Round values between two ends, about `count` of them."""
    if high <= low:
        return ((low, f"{low:g}"),)
    rough = (high - low) / count
    power = 10.0 ** int(f"{rough:e}".split("e")[1])
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = int(-(-low // step))
    places = [round(step * k, 10) for k in range(first, int(high // step) + 1)]
    return tuple((place, f"{place:g}") for place in places)


def _tip(name: str) -> str:
    return f"<title>{escape(name)}</title>" if name else ""

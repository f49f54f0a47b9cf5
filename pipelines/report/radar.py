"""A radar chart as inline SVG: several rates of several methods, each a closed line; farther out is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

_HEIGHT, _RADIUS, _MIDDLE, _LETTER = 320, 104, 174, 5.6
_RINGS = 4
_LARGEST = 1.4


@dataclass
class Radar:
    """Lines over three or more axes.

    Attributes:
        title: heading.
        axes: names, clockwise from the top.
        low, high: the value at the centre and at the rim, of every axis; lower values lie in the centre.
    """

    title: str
    axes: Sequence[str]
    low: float
    high: float
    _marks: list[str] = field(default_factory=list)

    def line(self, values: Sequence[float], style: str, name: str) -> None:
        """A closed line through one value on each axis."""
        places = [self._place(number, value) for number, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        numbers = ", ".join(f"{axis} {value:.1f}" for axis, value in zip(self.axes, values, strict=True))
        tip = f"<title>{escape(f'{name}: {numbers}')}</title>"
        self._marks.append(f'<polygon class="line {style}" points="{path}">{tip}</polygon>')
        self._marks += [
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3">{tip}</circle>' for x, y in places
        ]

    def svg(self) -> str:
        """The whole figure; as wide as its place, up to its own size."""
        parts = [
            f'<svg class="chart" viewBox="0 0 {self._width} {_HEIGHT}" role="img" aria-label="'
            f'{escape(self.title, quote=True)}" style="max-width:{round(_LARGEST * self._width)}px">',
            f'<text class="title" x="8" y="16">{escape(self.title)}</text>',
        ]
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
        """Wide enough for the longest name on either side."""
        return max(380, round(2 * (1.15 * _RADIUS + _LETTER * max(map(len, self.axes)) + 8)))

    def _angle(self, number: int) -> float:
        return 2 * math.pi * number / len(self.axes)

    def _place(self, number: int, value: float, clip: bool = True) -> tuple[float, float]:
        share = (value - self.low) / (self.high - self.low)
        share = min(1.0, max(0.0, share)) if clip else share
        angle = self._angle(number)
        return self._width / 2 + _RADIUS * share * math.sin(angle), _MIDDLE - _RADIUS * share * math.cos(angle)

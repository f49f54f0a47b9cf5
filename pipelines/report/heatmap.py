"""A matrix of rates as inline SVG: the higher, the darker; every cell says its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_CELL_WIDTH, _CELL_HEIGHT, _TOP, _LETTER = 68, 34, 46, 6.4
# An error rate of chance; what is above it is as dark.
_DARKEST = 0.5
_LARGEST = 1.4


@dataclass(frozen=True)
class HeatMap:
    """Rates in [0, 1] by row and column.

    Attributes:
        title: heading.
        rows, columns: names.
        values: by row, then column; None where nothing was measured.
        framed: (row, column) of cells that get a frame, such as the diagonal.
        across, down: what the columns and the rows are.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    framed: Sequence[tuple[int, int]]
    across: str
    down: str

    def svg(self) -> str:
        """The whole figure; as wide as its place, up to its own size."""
        left = 16 + round(_LETTER * max(len(name) for name in (*self.rows, self.down)))
        width = max(left + _CELL_WIDTH * len(self.columns) + 10, left + round(7.2 * len(self.title)) // 2, 260)
        height = _TOP + _CELL_HEIGHT * len(self.rows) + 26
        parts = [
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="'
            f'{escape(self.title, quote=True)}" style="max-width:{round(_LARGEST * width)}px">',
            f'<text class="title" x="8" y="16">{escape(self.title)}</text>',
            f'<text class="label" x="{left - 8}" y="{_TOP - 8}" text-anchor="end">{escape(self.down)}</text>',
            f'<text class="label" x="{left}" y="{height - 8}">{escape(self.across)}; framed: learnt from as well</text>'
            if self.framed
            else f'<text class="label" x="{left}" y="{height - 8}">{escape(self.across)}</text>',
        ]
        for place, name in enumerate(self.columns):
            middle = left + _CELL_WIDTH * (place + 0.5)
            parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{_TOP - 8}">{escape(name)}</text>')
        for row, name in enumerate(self.rows):
            y = _TOP + _CELL_HEIGHT * row
            parts.append(f'<text class="tick" text-anchor="end" x="{left - 8}" y="{y + 21}">{escape(name)}</text>')
            parts += [self._cell(row, column, left + _CELL_WIDTH * column, y) for column in range(len(self.columns))]
        parts += [self._frame(left + _CELL_WIDTH * column, _TOP + _CELL_HEIGHT * row) for row, column in self.framed]
        return "".join([*parts, "</svg>"])

    def _cell(self, row: int, column: int, x: int, y: int) -> str:
        value = self.values[row][column]
        share = 0.0 if value is None else min(1.0, value / _DARKEST)
        words = "–" if value is None else f"{100 * value:.1f}"
        tip = f"{self.rows[row]}, {self.columns[column]}: {words}"
        over = " over" if share > 0.55 else ""
        return (
            f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}"'
            f' rx="3" fill-opacity="{0.05 + 0.95 * share:.3f}"><title>{escape(tip)}</title></rect>'
            f'<text class="value{over}" text-anchor="middle" x="{x + _CELL_WIDTH / 2}" y="{y + 21}">{words}</text>'
        )

    def _frame(self, x: int, y: int) -> str:
        size = f'width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}"'
        return f'<rect class="frame" x="{x + 1}" y="{y + 1}" {size} rx="3"/>'

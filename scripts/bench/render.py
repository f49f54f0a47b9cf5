"""Faces of the built-in benchmark rendered a second, capture included."""

from __future__ import annotations

import os
from typing import Any

from pipelines.synthetic.benchmark import render_speed


def render_benchmark() -> list[dict[str, Any]]:
    """One process and one per core, at 64 pixels."""
    rows = []
    for workers in sorted({1, os.cpu_count() or 1}):
        speed = render_speed(size=64, seconds=6.0, workers=workers)
        rows.append({"benchmark": "render", "processes": workers, **{k: round(v, 1) for k, v in speed.items()}})
    return rows

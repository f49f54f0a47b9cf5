"""Benchmarks of speed, each with a check that the contenders made the same; run by scripts/bench.py."""

from pathlib import Path

CLONE = Path(__file__).parents[2]
"""Where contenders start in fresh processes: `scripts` is not installed."""

"""Benchmarks of speed, each with a check that the contenders made the same; run by scripts/bench.py."""

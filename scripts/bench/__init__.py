"""Speed, measured side by side with its quality gate; run by scripts/bench.py."""

"""Judging: score tables, metrics, thresholds, selection rules, intervals and figures. Needs no torch."""

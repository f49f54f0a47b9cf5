"""From score tables to numbers: metrics, thresholds, selection rules, intervals and statistics. Imports no torch."""

"""Reproduction of the papers' tables: their numbers, the experiments of each row, and ours beside theirs."""

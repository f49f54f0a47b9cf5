"""The papers' tables, made again: their numbers, what each row is here, and ours beside theirs."""

"""What holds for all tests."""

from __future__ import annotations

from pipelines.memory import keep_freed_memory

# As every `agfas` command does: the tests train and restore in small steps, thousands of them.
keep_freed_memory()

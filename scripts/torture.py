#!/usr/bin/env python
"""Try to break the cue job: `python scripts/torture.py [--kills N] [--seed S] [--folder DIR]`.

Prints what was done and the results as a table. Exits with 1 if a shard was lost, listed twice, or listed although it
was broken, or if the final bytes are not those of a clean run.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.errors import AgfasError
from scripts.torture.program import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except AgfasError as error:
        sys.exit(f"torture: {error}")

#!/usr/bin/env python
"""Try to break the program: `python scripts/torture.py [--only ROW ...] [--kills N] [--flips N] [--seed S]`.

Kills, failing disks, flipped bits and second jobs. Prints what was done and the results as a table. Exits with 1 if
something was lost, if a command ended in a traceback, if it made something of damaged files without a word, or if the
final bytes are not those of a clean run; each case is listed. The rows of the commands need a C compiler, `cc`.
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
    except KeyboardInterrupt:
        sys.exit(130)

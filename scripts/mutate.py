#!/usr/bin/env python
"""Put small faults into the source, one at a time, and see whether a test notices.

    python scripts/mutate.py [--number 150] [--seed 0] [--room pipelines/data] [--jobs 2] [--list] [--show] [--again]

Draws lines of dfg, oanet and pipelines, room by room in proportion to their lines, and one fault on each
(`scripts/mutation/changes.py`). Each is put into a copy of the clone, and the fast tests that reach the line are run
there, those of its module first, until one fails. Prints what no test noticed, a table of rooms, and the score with its
exact interval.

What was tried is kept in `runs/mutation/results-SEED.csv`: the same command goes on after a kill, and prints the table
at once when all is done. `--show` only prints; `--again` tries survivors again, after tests were written; `--key KEY`
tries one of the sample. The first run measures which tests reach which line, some twenty minutes; later runs
measure the files of tests that have changed.

A fault counts as noticed if a test fails, hangs or takes 6 GB that does not without the fault. Tests end after
`--seconds` of processor time a fault, so "survived" may mean that a slower test would have noticed; the row says how
many of how many ran. Tests marked slow do not count. Faults that a person judged to change nothing stand with
their reasons in `scripts/mutation/equivalent.csv`; the score is printed with and without them.

Why no tool from outside: mutmut 3 and cosmic-ray have such faults, but draw no sample over rooms, and start a pytest
for each: 5 s to import torch and 18 s to collect 3,900 tests. Here a server that has imported the libraries forks a
child for each, which collects only the files of the tests that reach the line.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.errors import AgfasError
from scripts.mutation.program import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except AgfasError as error:
        sys.exit(f"mutate: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

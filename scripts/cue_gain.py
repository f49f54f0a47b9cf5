#!/usr/bin/env python
"""Does the cue help more with a better generator? Reads finished sweeps, for docs/results.md:

    python -m scripts.cue_gain measure configs/gain_drawn.yaml --name drawn --out docs/gain
    python -m scripts.cue_gain measure configs/gain_real.yaml identity.path=... --name real --out docs/gain
    python -m scripts.cue_gain draw docs/gain

`measure` takes the configuration and the overrides that the sweep was run with, measures every generator on live faces
that it has not seen, and writes three tables of what its cue gains; then it makes gain.md and gain.svg of all studies
in the folder, which `draw` does alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.experiment.file import read_experiment
from scripts.gain.measure import measure
from scripts.gain.page import draw, write_tables


def main(words: Sequence[str] | None = None) -> int:
    """Measure or draw; 1 after a refusal, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measured = commands.add_parser("measure", help="read a sweep, write its tables, and draw")
    measured.add_argument("config", type=Path, help="the sweep's configuration")
    measured.add_argument("overrides", nargs="*", help="key=value, as the sweep had them")
    measured.add_argument("--name", required=True, help="of the study: names its files")
    measured.add_argument("--out", type=Path, required=True, help="folder of the tables")
    measured.add_argument("--output", type=Path, help="the sweep's folder; default: runs/NAME of the configuration")
    measured.add_argument("--count", type=int, default=256, help="held-out live faces at most (default 256)")
    measured.add_argument("--partial", action="store_true", help="accept unfinished rows, and leave them out")
    drawn = commands.add_parser("draw", help="table and plot of the tables that are there")
    drawn.add_argument("out", type=Path, help="folder of the tables")
    given = parser.parse_args(words)
    try:
        if given.command == "measure":
            output = [f"output={given.output}"] if given.output else []
            experiment = read_experiment(given.config, [*given.overrides, *output])
            write_tables(given.out, given.name, measure(experiment, given.name, given.count, given.partial))
        draw(given.out)
    except AgfasError as error:
        print(f"cue_gain: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

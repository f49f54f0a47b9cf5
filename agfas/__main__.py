"""`python -m agfas` is `agfas`, for launchers that start modules: `accelerate launch -m agfas train loo`."""

import os
import sys
from pathlib import Path

# Python puts the current folder first for `-m`, where a project of the user's may have a `pipelines` of its own.
if sys.path[0] == os.getcwd() and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from pipelines.cli import run

if __name__ == "__main__":
    run()

"""AUC and HTER of every row of a finished sweep, and their differences from one row, paired by video; a CSV table.

    python -m scripts.paired_auc configs/one_call.yaml --against "t=801, 41 calls" > docs/one_call/paired.csv

Means over the seeds that both rows have finished, in points; over the targets of a protocol with several folds, and for
each domain of one with a single fold. Intervals are of 95 %, by bootstrap
over videos with the seeds fixed (`scripts.gain.gains`). A difference is positive where the row is better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError, nearest
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_experiment
from pipelines.files import csv_text
from pipelines.report.contents import Group
from scripts.gain.gains import METRICS, Gains, points
from scripts.gain.rows import Mean, finished_seeds, means_of, read_study


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; 1 after a refusal, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the sweep's configuration")
    parser.add_argument("overrides", nargs="*", help="key=value, as the sweep had them")
    parser.add_argument("--against", required=True, help="label of the row that all others are compared with")
    parser.add_argument("--output", type=Path, help="the sweep's folder; default: runs/NAME of the configuration")
    given = parser.parse_args(words)
    try:
        output = [f"output={given.output}"] if given.output else []
        print(csv_text(paired(read_experiment(given.config, [*given.overrides, *output]), given.against)), end="")
    except AgfasError as error:
        print(f"paired_auc: {error}", file=sys.stderr)
        return 1
    return 0


def paired(experiment: Experiment, against: str) -> list[dict[str, Any]]:
    """A row for each finished row of the sweep and each mean; what it has no seed or no difference for is empty.

    Raises:
        AgfasError: the rows are of several studies, or none that is finished has the label.
    """
    study = read_study(experiment)
    groups = {group.name: group for group in study.groups if group.finished}
    if against not in groups:
        raise AgfasError(f"No finished row is labelled '{against}': {nearest(against, groups)}")
    means = means_of(study, groups[against])
    return [_row(mean, group, groups[against]) for mean in means for group in groups.values()]


def _row(mean: Mean, group: Group, other: Group) -> dict[str, Any]:
    seeds = tuple(sorted(finished_seeds(group) & finished_seeds(other)))
    row: dict[str, Any] = {"on": mean.name, "label": group.name, "seeds": len(seeds)}
    gains = Gains(mean, seeds)
    for metric in METRICS:
        row |= points(metric, gains.judged(group, metric).estimate if seeds else None, 2)
        compared = seeds and group is not other
        row |= points(f"{metric}_gain", gains.gain(group, other, metric) if compared else None, 2)
    return row


if __name__ == "__main__":
    sys.exit(main())

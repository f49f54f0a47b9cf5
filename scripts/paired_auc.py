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
from pipelines.experiment.plan import expand
from pipelines.files import csv_text
from pipelines.report.contents import Group
from pipelines.report.gather import read_results
from scripts.gain.gains import METRICS, Estimate, Gains
from scripts.gain.rows import Mean, means_of


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
    studies = read_results(expand(experiment))
    if len(studies) != 1:
        raise AgfasError(f"The sweep's rows are {len(studies)} studies of other faces, protocols or rules, not one.")
    groups = {group.name: group for group in studies[0].groups if _seeds(group)}
    if against not in groups:
        raise AgfasError(f"No finished row is labelled '{against}': {nearest(against, groups)}")
    means = means_of(studies[0], groups[against])
    return [_row(mean, group, groups[against]) for mean in means for group in groups.values()]


def _row(mean: Mean, group: Group, other: Group) -> dict[str, Any]:
    seeds = tuple(sorted(_seeds(group) & _seeds(other)))
    row: dict[str, Any] = {"on": mean.name, "label": group.name, "seeds": len(seeds)}
    gains = Gains(mean, seeds)
    for metric in METRICS:
        row |= _points(metric, gains.judged(group, metric).estimate if seeds else None)
        compared = seeds and group is not other
        row |= _points(f"{metric}_gain", gains.gain(group, other, metric) if compared else None)
    return row


def _seeds(group: Group) -> set[int]:
    return {trial.seed for trial in group.trials if trial.finished}


def _points(name: str, found: Estimate | None) -> dict[str, float | str]:
    columns = (name, f"{name}_low", f"{name}_high")
    if found is None:
        return dict.fromkeys(columns, "")
    values = (found.value, found.low, found.high)
    return {column: round(100 * value, 2) for column, value in zip(columns, values, strict=True)}


if __name__ == "__main__":
    sys.exit(main())

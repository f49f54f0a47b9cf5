"""A grid of experiments: what they share is made once, and a report compares them."""

from __future__ import annotations

from pipelines.config import Experiment
from pipelines.plan import expand, record
from pipelines.processes import is_main
from pipelines.stages import chain, faces
from pipelines.stages.chain import print_plan as print_plan


def run(experiment: Experiment) -> None:
    """Run every experiment of the grid that is not finished, then write the report."""
    from pipelines.stages import evaluate, report, train_detector

    planned = expand(experiment)
    for item in planned:
        train_detector.check_options(item.experiment)
    opened = faces.run(planned[0].experiment)
    if is_main():
        record(experiment.root, planned)
    chain.prepare_cues([item.experiment for item in planned], opened)
    for number, item in enumerate(planned, start=1):
        print(f"[{number}/{len(planned)}] {item.title}", flush=True)
        train_detector.run(item.experiment, opened)
        if is_main():
            evaluate.run(item.experiment, opened)
    if is_main():
        print(f"Report: {report.run(experiment.root)}")

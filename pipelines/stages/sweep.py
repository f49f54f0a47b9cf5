"""`agfas sweep` and `agfas quickstart`: experiments whose shared parts are made once, and a report on all of them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Thread
from typing import Any

from pipelines import progress
from pipelines.artefacts import make_faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.generator import TrainedIdentity
from pipelines.experiment.plan import Planned, expand, record
from pipelines.experiment.workspace import Workspace
from pipelines.processes import is_main
from pipelines.stages import chain
from pipelines.stages.chain import print_plan as print_plan

# The time that the configured steps take on two cores.
_CONFIGURED_MINUTES = 15.0


def run(experiment: Experiment, jobs: int = 1) -> None:
    """Run every unfinished experiment of the grid, write the report, and print the short table.

    Args:
        experiment: with a `sweep:` block, or a single one.
        jobs: experiments trained at once, each in its own process with its share of the cores. Small detectors use
            one core well and two cores badly.
    """
    from pipelines.report.summary import summary
    from pipelines.stages import report

    planned = expand(experiment)
    run_planned(planned, jobs)
    if is_main():
        page = report.run(experiment.root)
        print(f"\n{summary(planned)}\n\nReport: {page}")


def run_planned(planned: list[Planned], jobs: int = 1) -> None:
    """Run every unfinished experiment of a list; all write to one output folder.

    Args:
        planned: the experiments, recorded in the folder's plan.
        jobs: as of `run`.
    """
    from pipelines.stages import train_detector

    if jobs < 1:
        raise AgfasError(f"--jobs must be at least 1, not {jobs}.")
    for item in planned:
        train_detector.check_options(item.experiment)
    for group in _by_dataset(planned):
        opened = make_faces(group[0].experiment)
        if is_main():
            record(group[0].experiment.root, group)
        chain.prepare_cues([item.experiment for item in group], opened)
    if jobs == 1:
        _one_after_another(planned)
    else:
        _side_by_side(planned, jobs)


def _by_dataset(planned: list[Planned]) -> list[list[Planned]]:
    groups: dict[str, list[Planned]] = {}
    for item in planned:
        groups.setdefault(item.experiment.data.model_dump_json(), []).append(item)
    return list(groups.values())


def _one_after_another(planned: list[Planned]) -> None:
    for number, item in enumerate(planned, start=1):
        print(f"[{number}/{len(planned)}] {item.title}", flush=True)
        chain.train_and_judge(item.experiment)


def _side_by_side(planned: list[Planned], jobs: int) -> None:
    from pipelines.evaluation.judge import is_judged

    # Two rows of a plan may be the same experiment, which two processes must not train at once.
    unique = {Workspace(item.experiment).detector(): item for item in planned}
    waiting = [item for folder, item in unique.items() if not is_judged(folder, item.experiment.evaluate)]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _quiet_worker, (threads,))
    with pool, progress.bar(len(waiting), "experiments", unit="experiment") as shown:
        futures = {pool.submit(chain.train_and_judge, item.experiment): item for item in waiting}
        try:
            for future, item in futures.items():
                future.result()
                shown.set_postfix_str(item.title)
                shown.update(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _quiet_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    progress.hide_bars()
    Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    """End this worker when its parent is killed, so that it does not train beside the next run."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def scaled(experiment: Experiment, minutes: float) -> Experiment:
    """The experiment with the steps of all trainings scaled to the budget.

    Steps are scaled, not seconds, so that the same command gives the same numbers on fast and slow machines.
    """
    if minutes <= 0:
        raise AgfasError(f"--minutes must be above 0, not {minutes}.")
    factor = minutes / _CONFIGURED_MINUTES
    if factor == 1.0:
        return experiment
    changes: dict[str, Any] = {
        "generator.loop.steps": max(1, round(experiment.generator.loop.steps * factor)),
        "train.steps": max(experiment.train.evaluations, round(experiment.train.steps * factor)),
        "train.warmup": round(experiment.train.warmup * factor),
    }
    if isinstance(experiment.identity, TrainedIdentity):
        changes["identity.loop.steps"] = max(1, round(experiment.identity.loop.steps * factor))
        changes["identity.loop.warmup"] = round(experiment.identity.loop.warmup * factor)
    return with_overrides(experiment, changes)

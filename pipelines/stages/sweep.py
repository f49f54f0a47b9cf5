"""`agfas sweep` and `agfas quickstart`: experiments whose shared parts are made once, and a report on all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue
from threading import Thread
from typing import Any

from pipelines import progress
from pipelines.artefacts.faces import make_faces
from pipelines.blocks import deal
from pipelines.claims import Claims
from pipelines.ending import finishing, stop_if_asked, watch_signals
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.generator import TrainedIdentity
from pipelines.experiment.plan import Planned, expand, record
from pipelines.experiment.workspace import Workspace
from pipelines.processes import gather_objects, is_main, rank_and_world, say, stand_alone, state, threads
from pipelines.stages import chain
from pipelines.stages.chain import print_plan as print_plan

# The time that the configured steps take on two cores.
_CONFIGURED_MINUTES = 15.0
_SECONDS_BETWEEN_LOOKS = 1.0

# A worker never ends by a signal between two pieces of work: its pool would take that for a failure.
_for_life = ExitStack()


def run(experiment: Experiment, jobs: int = 1) -> None:
    """Run every unfinished experiment of the grid, write the report, and print the short table.

    Args:
        experiment: with a `sweep:` block, or a single one.
        jobs: experiments trained at once, each in its own process with its share of the cores and its own GPU, if
            there are several. Small detectors use one core well and two cores badly. Ignored under a launcher, whose
            processes each take experiments of their own, unless these are fewer than the processes: then all train
            one after another together.
    """
    from pipelines.report.summary import summary
    from pipelines.stages import report

    planned = expand(experiment)
    run_planned(planned, jobs)
    if is_main():
        page = report.run(experiment.root)
        say(f"\n{summary(planned)}\n\nReport: {page}")


def run_planned(planned: list[Planned], jobs: int = 1) -> None:
    """Run every unfinished experiment of a list; all write to one output folder.

    Args:
        planned: the experiments, recorded in the folder's plan.
        jobs: as of `run`.
    """
    from pipelines.stages import train_detector, train_dfg

    if jobs < 1:
        raise AgfasError(f"--jobs must be at least 1, not {jobs}.")
    for item in planned:
        train_detector.check_options(item.experiment)
        if Workspace(item.experiment).needs_generator():
            train_dfg.check_options(item.experiment)
    for group in _by_dataset(planned):
        opened = make_faces(group[0].experiment)
        for item in group:
            train_detector.check_faces(item.experiment, opened)
        if is_main():
            record(group[0].experiment.root, group)
        chain.prepare_cues([item.experiment for item in group], opened)
    waiting, processes = _unjudged(planned), rank_and_world()[1]
    if processes == 1 and jobs > 1:
        _side_by_side(waiting, jobs)
    elif len(waiting) >= processes > 1:
        if jobs > 1:
            say(f"--jobs is ignored: each of the {processes} launched processes takes experiments of its own.")
        _dealt(waiting)
    else:
        _one_after_another(planned)


def _by_dataset(planned: list[Planned]) -> list[list[Planned]]:
    groups: dict[str, list[Planned]] = {}
    for item in planned:
        groups.setdefault(item.experiment.data.model_dump_json(), []).append(item)
    return list(groups.values())


def _unjudged(planned: list[Planned]) -> list[Planned]:
    """The experiments without a result, each once, as the main process finds them."""
    # Two rows of a plan may be the same experiment, which two processes must not train at once.
    unique = {Workspace(item.experiment).detector(): item for item in planned}
    return gather_objects([item for item in unique.values() if not _is_judged(item)])[0]


def _is_judged(item: Planned) -> bool:
    from pipelines.evaluation.judge import is_judged

    return is_judged(Workspace(item.experiment).detector(), item.experiment.evaluate)


def _one_after_another(planned: list[Planned]) -> None:
    for number, item in enumerate(planned, start=1):
        say(f"[{number}/{len(planned)}] {item.title}")
        chain.train_and_judge(item.experiment)


def _side_by_side(waiting: list[Planned], jobs: int) -> None:
    shown = progress.bar(len(waiting), "experiments", unit="experiment")
    with _workers(_gpus() or [None], jobs, max(1, threads() // jobs)) as pool, shown:
        futures = {pool.submit(_train_alone, item.experiment): item for item in waiting}
        for future, item in futures.items():
            future.result()
            shown.set_postfix_str(item.title)
            shown.update(1)


def _dealt(waiting: list[Planned]) -> None:
    """Train each experiment in one of the launched processes; the main one returns when all are judged.

    A process takes its own share first, then what the others have not begun. It trains in a worker that knows nothing
    of the launch: experiments differ in their steps, so nobody could meet.
    """
    rank, world_size = rank_and_world()
    own, gpus = set(range(len(waiting))[rank::world_size]), _gpus()
    claims = Claims(waiting[0].experiment.root / ".sweep.lock")
    with _workers([gpus[state().local_process_index % len(gpus)] if gpus else None], 1, threads()) as pool:
        for number in deal(range(len(waiting)), rank, world_size):
            item = waiting[number]
            # Where the file system has no locks, every claim succeeds.
            if claims.take(number) and (claims.supported or number in own) and not _is_judged(item):
                print(f"[{number + 1}/{len(waiting)}] {item.title}", flush=True)
                pool.submit(_train_alone, item.experiment).result()
    while is_main() and (waiting := [item for item in waiting if not _is_judged(item)]):
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


@contextmanager
def _workers(gpus: Sequence[str | None], count: int, threads_each: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that each train alone, in turn on one of `gpus`; None for what the process itself sees.

    If the block ends early, they write their checkpoints and end too.
    """
    context = get_context("spawn")
    dealt = context.SimpleQueue()
    for number in range(count):
        dealt.put(gpus[number % len(gpus)])
    with ProcessPoolExecutor(count, context, _begin_worker, (dealt, threads_each)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.terminate()
            raise


def _begin_worker(gpus: SimpleQueue[str | None], threads_each: int) -> None:
    stand_alone()
    watch_signals()
    _for_life.enter_context(finishing())
    if (gpu := gpus.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import torch

    torch.set_num_threads(threads_each)
    progress.hide_bars()
    Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _train_alone(experiment: Experiment) -> None:
    """In a worker; an experiment that was waiting when a signal came is not begun."""
    stop_if_asked()
    chain.train_and_judge(experiment)


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

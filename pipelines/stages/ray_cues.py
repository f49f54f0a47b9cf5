"""The cue job on a Ray cluster, instead of `accelerate launch`: `pip install 'agfas[ray]'`, then

    python -m pipelines.stages.ray_cues CONFIG [key=value ...] --workers 8 [--timesteps 201,401]

Ray Data distributes the unfinished tasks of the manifest to a pool of actors, each of which opens the job once. Tasks
and bytes are those of the local job. Actors run in folders of Ray's own, so they get the experiment with absolute
paths; these must name the same files on all machines. An interrupted job resumes; an actor that dies is started again,
and another one gets its task.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cues.job import CueJob
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.processes import say
from pipelines.settings import with_absolute_paths

_MAKER, _TASK, _MISTAKE = "maker", "task", "mistake"


def run_on_ray(
    open_job: Callable[[], CueJob], workers: int, *, cpus_per_worker: float = 1, gpus_per_worker: float | None = None
) -> dict[int, Path]:
    """Make every missing cue of a job and return when its stores are complete.

    Args:
        open_job: opens the job; called here and once in each actor, so it must be importable there.
        workers: number of actors.
        cpus_per_worker: reserved for each.
        gpus_per_worker: reserved for each, which sees no others; default: 1 if the cluster has GPUs.

    Returns:
        The stores' folders by t.

    Raises:
        AgfasError: Ray is not installed, fewer than one worker, or an error of the job in an actor.
    """
    ray = _ray()
    if workers < 1:
        raise AgfasError(f"workers must be at least 1, not {workers}.")
    job = open_job()
    tasks = [{_MAKER: number, _TASK: task} for number, maker in enumerate(job.makers) for task in maker.unfinished()]
    if tasks:
        if gpus_per_worker is None:
            gpus_per_worker = _gpus_each(ray)
        # One block per task, so that an actor gets the next task when it has finished one.
        dealt = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            TaskMaker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(tasks))),
            fn_constructor_args=(open_job,),
            num_cpus=cpus_per_worker,
            num_gpus=gpus_per_worker,
            max_restarts=-1,
        )
        mistakes = [row[_MISTAKE] for row in dealt.take_all() if row[_MISTAKE]]
        if mistakes:
            raise AgfasError(mistakes[0])
    return job.folders


class TaskMaker:
    """An actor: opens the job once and makes the tasks it receives."""

    def __init__(self, open_job: Callable[[], CueJob]) -> None:
        self.job = open_job()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make a batch of tasks; returns the message of an error, empty without one."""
        return {_MISTAKE: np.array([self._made(*pair) for pair in zip(batch[_MAKER], batch[_TASK], strict=True)])}

    def _made(self, maker: int, task: int) -> str:
        try:
            self.job.makers[int(maker)].run(only=[int(task)], show_progress=False)
        except AgfasError as error:
            return str(error)
        return ""


def _ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise AgfasError(f"Ray is not installed ({error}). Run: pip install 'agfas[ray]'") from None
    return ray


def _gpus_each(ray: Any) -> float:
    if not ray.is_initialized():
        ray.init()
    return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0


def open_experiment(experiment: Experiment, timesteps: list[int], all_faces: bool = False) -> CueJob:
    """The cue job of an experiment whose faces and generator exist, as `agfas cues` runs it."""
    from pipelines.artefacts.faces import open_faces
    from pipelines.stages import cues as stage

    return stage.open_job(experiment, open_faces(experiment), timesteps, all_faces)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    from pipelines.artefacts.faces import make_faces
    from pipelines.experiment.file import read_experiment
    from pipelines.stages.cues import parse_timesteps

    parser = argparse.ArgumentParser(description="The cue job over a Ray cluster; faces and generator must exist.")
    parser.add_argument("config", type=Path, help="experiment, a YAML file")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--timesteps", help="several t in one run, e.g. 201,401")
    parser.add_argument("--whole-dataset", action="store_true", help="not only the protocol's domains")
    parser.add_argument("--workers", type=int, default=1, help="actors (default: 1)")
    parser.add_argument("--cpus-per-worker", type=float, default=1, help="default: 1")
    parser.add_argument("--gpus-per-worker", type=float, help="default: 1 if the cluster has GPUs, else 0")
    chosen = parser.parse_intermixed_args(arguments)
    experiment = read_experiment(chosen.config, chosen.overrides)
    experiment = with_absolute_paths(experiment.model_copy(update={"output": experiment.root}))
    make_faces(experiment)  # here alone, once: an actor only opens what is there
    folders = run_on_ray(
        partial(open_experiment, experiment, parse_timesteps(chosen.timesteps, experiment), chosen.whole_dataset),
        chosen.workers,
        cpus_per_worker=chosen.cpus_per_worker,
        gpus_per_worker=chosen.gpus_per_worker,
    )
    for timestep, folder in folders.items():
        say(f"t = {timestep}: {folder}")


if __name__ == "__main__":
    # Imported by name: functions of `__main__` cannot be imported in an actor.
    from pipelines.stages import ray_cues

    try:
        ray_cues.main()
    except AgfasError as mistake:
        raise SystemExit(f"agfas: {mistake}") from None

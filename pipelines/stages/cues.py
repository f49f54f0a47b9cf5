"""`agfas cues`: every face restored once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.artefacts.cues import is_whole, open_sweep, store_folders
from pipelines.artefacts.faces import dataset_id, face_columns, judged_rows, make_faces
from pipelines.cues.settings import AUTOENCODER, WITH_TIMESTEP
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.memory import free_models
from pipelines.processes import is_main, rank_and_world, say, wait

if TYPE_CHECKING:
    from pipelines.cues.faces import ArrayFaces
    from pipelines.cues.job import CueJob
    from pipelines.data.faces import Faces


def run(experiment: Experiment, faces: Faces, timesteps: Sequence[int], all_faces: bool = False) -> dict[int, Path]:
    """Fill the stores of `moments_of(experiment, timesteps)`; returns their folders.

    Args:
        experiment: its generator must be trained.
        faces: the dataset.
        timesteps: t of the cues.
        all_faces: restore every face of the dataset; default: the faces of the protocol's domains, and nothing if
            stores of all faces are finished already.
    """
    folders = store_folders(experiment, faces.columns(), moments_of(experiment, timesteps), all_faces)
    if not all(map(is_whole, folders.values())):
        rank, world_size = rank_and_world()
        job = open_job(experiment, faces, timesteps, all_faces)
        folders = job.run(rank=rank, world_size=world_size, show_progress=is_main())
        del job
        free_models()
    wait()
    return folders


def open_job(experiment: Experiment, faces: Faces, timesteps: Sequence[int], all_faces: bool = False) -> CueJob:
    """The job that fills the stores, its generator loaded; arguments as of `run`."""
    from pipelines.cues.job import CueJob

    chosen = chosen_faces(experiment, faces, all_faces)
    return CueJob.open(
        chosen,
        open_sweep(experiment, moments_of(experiment, timesteps)),
        Workspace(experiment).cues(),
        dataset_fingerprint=dataset_id(experiment, chosen.keys),
        batch_size=experiment.cue.batch_size,
        shard_size=experiment.cue.shard_size,
    )


def run_alone(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """The command: make what is needed first, then the cues."""
    from pipelines.stages import train_dfg, train_tiny_autoencoder

    if not experiment.cue.is_custom:
        train_dfg.check_options(experiment)
    faces = make_faces(experiment)
    chosen_faces(experiment, faces, all_faces)  # refuse a protocol that does not fit before anything long begins
    if not experiment.cue.is_custom:
        train_dfg.run(experiment, faces)
        train_tiny_autoencoder.run_if_needed(experiment, faces)
    folders = run(experiment, faces, timesteps, all_faces)
    for timestep, folder in folders.items():
        say(f"{_named(experiment, timestep)}: {folder}")


def moments_of(experiment: Experiment, timesteps: Sequence[int]) -> tuple[int, ...]:
    """The t that the cue job makes: `timesteps`, before them the generator's t = 0; 0 alone if it has no t."""
    maker = _maker(experiment)
    if maker not in WITH_TIMESTEP:
        return (AUTOENCODER,)
    return (AUTOENCODER, *timesteps) if maker == "dfg" else tuple(timesteps)


def _maker(experiment: Experiment) -> str:
    """What makes the restorations: the generator's name, or a custom source."""
    cue = experiment.cue
    return cue.source if cue.is_custom else experiment.generator.name


def _named(experiment: Experiment, timestep: int) -> str:
    maker = _maker(experiment)
    return f"t = {timestep}" if maker in WITH_TIMESTEP else maker


def print_status(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """Count the finished cues of each store; makes nothing and loads no model."""
    workspace = Workspace(experiment)
    if not workspace.faces.is_dir():
        return say("nothing made yet, nor any faces")
    if not experiment.cue.is_custom and not workspace.has_makers():
        return say(f"nothing made yet; {workspace.generator_state()}")
    moments = moments_of(experiment, timesteps)
    for timestep, folder in store_folders(experiment, face_columns(experiment), moments, all_faces).items():
        state = ShardStore.open(folder).status() if folder.is_dir() else "nothing made yet"
        say(f"{_named(experiment, timestep)}: {state}")


def verify(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """Check every shard, make a sample of the cues again and compare; the main process alone does.

    Raises:
        AgfasError: a store is damaged or differs; damaged shards will be made again by the next run.
    """
    from pipelines.cues.sources import OneOfSweep
    from pipelines.cues.verify import verify_cues

    if not Workspace(experiment).faces.is_dir():
        raise AgfasError("No faces and no cues yet. Run `agfas cues` with the same configuration first.")
    faces, moments = make_faces(experiment), moments_of(experiment, timesteps)
    if not is_main():
        return
    folders = store_folders(experiment, faces.columns(), moments, all_faces)
    over_all = store_folders(experiment, faces.columns(), moments, all_faces=True)
    missing = [timestep for timestep, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise AgfasError(
            f"No cues of {_named(experiment, missing[0])} yet. Run `agfas cues` with the same configuration first."
        )
    sweep, failed = open_sweep(experiment, moments), []
    for timestep, folder in folders.items():
        chosen = chosen_faces(experiment, faces, all_faces=folder == over_all[timestep])
        check = verify_cues(folder, chosen, OneOfSweep(sweep, timestep))
        say(f"{_named(experiment, timestep)}: {check}")
        if not check.ok:
            failed.append(_named(experiment, timestep))
    if failed:
        raise AgfasError(f"The cues of {', '.join(failed)} did not pass. Run `agfas cues` to make them again.")


def parse_timesteps(text: str | None, experiment: Experiment) -> list[int]:
    """`201,401` as numbers; default: the experiment's own t.

    Raises:
        AgfasError: a part is no whole number above 0, or the generator has no t.
    """
    maker = _maker(experiment)
    if text is not None and maker not in WITH_TIMESTEP:
        raise AgfasError(f"--timesteps was given, but {maker} has no t. Leave the option out.")
    if text is None:
        return [experiment.cue.timestep]
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise AgfasError(f"--timesteps takes whole numbers above 0 with commas between, such as 201,401; not '{text}'.")
    return sorted({int(part) for part in parts})


def chosen_faces(experiment: Experiment, faces: Faces, all_faces: bool) -> ArrayFaces:
    """Every face of the dataset, or those that detectors see; their pixels stay on disk.

    Raises:
        AgfasError: the protocol does not fit the dataset; every face can be restored all the same.
    """
    from pipelines.cues.faces import ArrayFaces

    if all_faces:
        return ArrayFaces([str(key) for key in faces.keys], faces.images)
    try:
        rows = np.flatnonzero(judged_rows(experiment, faces.columns()))
    except AgfasError as error:
        raise AgfasError(
            f"{error} For the cues of every face, with any protocol: `agfas cues --whole-dataset`."
        ) from None
    return ArrayFaces([str(key) for key in faces.keys[rows]], faces.images, rows)

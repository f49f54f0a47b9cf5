"""Stage 4: every face restored once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfg.baselines.base import Baseline
from dfg.speed import Speed
from pipelines.cues.baseline_sources import BaselineSweep
from pipelines.cues.description import STORE_NAME
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import run_cue_job
from pipelines.cues.names import WITH_TIMESTEP
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import CueSweep, DfgSweep, OneOfSweep
from pipelines.cues.store import CueStore, cue_identity
from pipelines.cues.verify import verify_cues
from pipelines.data.faces import Faces
from pipelines.data.protocols import protocol_folds
from pipelines.errors import AgfasError
from pipelines.experiment.config import CueSettings, Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import fingerprint, folder_sha256
from pipelines.processes import device, is_main, rank_and_world, wait
from pipelines.stages import faces as faces_stage
from pipelines.stages import train_dfg

AUTOENCODER = 0
"""The t of the control that encodes and decodes without noise."""


def run(experiment: Experiment, faces: Faces, timesteps: Sequence[int], all_faces: bool = False) -> dict[int, Path]:
    """Fill the stores of `moments_of(experiment, timesteps)`; returns their folders.

    Args:
        experiment: its generator must be there.
        faces: the dataset.
        timesteps: t of the cues.
        all_faces: restore every face of the dataset; otherwise those of the protocol's domains, and nothing where
            stores of all faces are whole already.
    """
    workspace = Workspace(experiment)
    sweep = open_sweep(experiment, moments_of(experiment, timesteps))
    folders = _located(experiment, faces, sweep, all_faces)
    if not all(map(_is_whole, folders.values())):
        chosen = chosen_faces(experiment, faces, all_faces)
        rank, world_size = rank_and_world()
        folders = run_cue_job(
            chosen,
            sweep,
            workspace.cues(),
            dataset_fingerprint=dataset_id(faces, chosen),
            batch_size=experiment.cue.batch_size,
            shard_size=experiment.cue.shard_size,
            rank=rank,
            world_size=world_size,
            show_progress=is_main(),
        )
    wait()
    return folders


def run_alone(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """`agfas cues`: make what is needed first, then the cues."""
    faces = faces_stage.run(experiment)
    chosen_faces(experiment, faces, all_faces)  # a protocol that does not fit is said before anything long is begun
    train_dfg.run(experiment, faces)
    folders = run(experiment, faces, timesteps, all_faces)
    if is_main():
        for timestep, folder in folders.items():
            print(f"{_named(experiment, timestep)}: {folder}")


def moments_of(experiment: Experiment, timesteps: Sequence[int]) -> tuple[int, ...]:
    """The t that the cue job makes: `timesteps`, before them the generator's t = 0; 0 alone where there is no t."""
    maker = experiment.generator.name
    if maker not in WITH_TIMESTEP:
        return (AUTOENCODER,)
    return (AUTOENCODER, *timesteps) if maker == "dfg" else tuple(timesteps)


def _named(experiment: Experiment, timestep: int) -> str:
    maker = experiment.generator.name
    return f"t = {timestep}" if maker in WITH_TIMESTEP else maker


def print_status(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """Count the finished cues of each store; makes nothing."""
    workspace = Workspace(experiment)
    if not workspace.faces.is_dir():
        print("nothing made yet, nor any faces")
        return
    if not workspace.has_generator():
        print(f"nothing made yet; {workspace.generator_state()}")
        return
    faces = faces_stage.run(experiment)
    sweep = open_sweep(experiment, moments_of(experiment, timesteps))
    for timestep, folder in _located(experiment, faces, sweep, all_faces).items():
        if folder.is_dir():
            print(f"{_named(experiment, timestep)}: {ShardStore.open(folder).status()}")
        else:
            print(f"{_named(experiment, timestep)}: nothing made yet")


def verify(experiment: Experiment, timesteps: Sequence[int], all_faces: bool = False) -> None:
    """Check every shard, make a sample of the cues again and compare.

    Raises:
        AgfasError: a store is broken or differs; what was broken will be made again by the next run.
    """
    if not Workspace(experiment).faces.is_dir():
        raise AgfasError("No faces and no cues yet. Run `agfas cues` with the same configuration first.")
    faces = faces_stage.run(experiment)
    sweep = open_sweep(experiment, moments_of(experiment, timesteps))
    over_all = _folders(experiment, faces, every_face(faces), sweep)
    failed = []
    for timestep, folder in _located(experiment, faces, sweep, all_faces).items():
        if not folder.is_dir():
            raise AgfasError(
                f"No cues of {_named(experiment, timestep)} yet. Run `agfas cues` with the same configuration first."
            )
        chosen = chosen_faces(experiment, faces, all_faces=folder == over_all[timestep])
        check = verify_cues(folder, chosen, OneOfSweep(sweep, timestep))
        print(f"{_named(experiment, timestep)}: {check}")
        if not check.ok:
            failed.append(_named(experiment, timestep))
    if failed:
        raise AgfasError(f"The cues of {', '.join(failed)} did not pass. Run `agfas cues` to make them again.")


def parse_timesteps(text: str | None, experiment: Experiment) -> list[int]:
    """`201,401` as numbers; the experiment's own t where nothing is given.

    Raises:
        AgfasError: a part is no whole number above 0, or the generator knows no t.
    """
    maker = experiment.generator.name
    if text is not None and maker not in WITH_TIMESTEP:
        raise AgfasError(f"--timesteps was given, but generator.name = {maker} has no t. Leave the option out.")
    if text is None:
        return [experiment.cue.timestep]
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise AgfasError(f"--timesteps takes whole numbers above 0 with commas between, such as 201,401; not '{text}'.")
    return sorted({int(part) for part in parts})


def open_sweep(experiment: Experiment, timesteps: Sequence[int]) -> CueSweep:
    """The trained generator or baseline as a source of several t at once."""
    maker, weights, autoencoder = _maker(experiment)
    return sweep_of(experiment.cue, maker, timesteps, weights, autoencoder)


def sweep_of(
    cue: CueSettings, maker: Any, timesteps: Sequence[int], weights_sha256: str, autoencoder_sha256: str
) -> CueSweep:
    """A generator or baseline as the settings of a cue want it run, for the cue store and for a verdict alike."""
    if isinstance(maker, Baseline):
        return BaselineSweep(maker, weights_sha256, timesteps, cue.seed, cue.calls, cue.samples)
    return DfgSweep(
        maker,
        timesteps,
        weights_sha256,
        autoencoder_sha256,
        cue.num_inference_steps,
        cue.seed,
        samples=cue.samples,
        scheduler=cue.scheduler,
        calls=cue.calls,
        guidance_scale=cue.guidance_scale,
        speed=speed_of(cue),
    )


def speed_of(cue: CueSettings) -> Speed:
    """How the settings want the generator to be run."""
    return Speed(cue.dtype, cue.channels_last, cue.compile, cue.attention, cue.autoencoder_dtype)


def stores_of(experiment: Experiment, faces: Faces, timesteps: Sequence[int]) -> dict[int, CueStore]:
    """The finished stores by t: those of the protocol's faces, or of all faces. The generator is opened once for all.

    Raises:
        AgfasError: one is missing or unfinished.
    """
    folders = _located(experiment, faces, open_sweep(experiment, timesteps))
    for timestep, folder in folders.items():
        if not _is_whole(folder):
            raise AgfasError(
                f"The cues of {_named(experiment, timestep)} are not finished. Run `agfas cues` with the same"
                " configuration."
            )
    return {timestep: CueStore.open(folder) for timestep, folder in folders.items()}


def chosen_faces(experiment: Experiment, faces: Faces, all_faces: bool) -> ArrayFaces:
    """Every face of the dataset, or those that detectors see.

    Raises:
        AgfasError: the protocol does not fit the dataset; every face can be restored all the same.
    """
    if all_faces:
        return every_face(faces)
    try:
        return judged_faces(experiment, faces)
    except AgfasError as error:
        raise AgfasError(
            f"{error} For the cues of every face, with any protocol: `agfas cues --whole-dataset`."
        ) from None


def every_face(faces: Faces) -> ArrayFaces:
    """All faces of the dataset; their pixels stay on disk."""
    return ArrayFaces([str(key) for key in faces.keys], faces.images)


def judged_faces(experiment: Experiment, faces: Faces) -> ArrayFaces:
    """The faces of the protocol's domains: those that detectors see."""
    rows = np.flatnonzero(judged_rows(experiment, faces))
    return ArrayFaces([str(key) for key in faces.keys[rows]], faces.images, rows)


def judged_rows(experiment: Experiment, faces: Faces) -> np.ndarray:
    """(N,) bool, whether a face is of the protocol's domains."""
    folds = protocol_folds(experiment.protocol, faces.columns())
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.dev_domains, *fold.test_domains)}
    return np.isin(faces.domains, sorted(domains))


def dataset_id(faces: Faces, chosen: ArrayFaces) -> str:
    """Identity of the chosen faces."""
    return f"{faces.fingerprint}:{fingerprint(sorted(chosen.keys))}"


def _maker(experiment: Experiment) -> tuple[Any, str, str]:
    """What restores, on its device, the hash of its weights, and that of its autoencoder alone."""
    folder = Workspace(experiment).generator()
    maker, weights = train_dfg.load_maker(experiment.generator, folder)
    autoencoder = "" if isinstance(maker, Baseline) else folder_sha256(folder / "pipeline" / "autoencoder")
    return maker.to(device()), weights, autoencoder


def _located(experiment: Experiment, faces: Faces, sweep: CueSweep, all_faces: bool = False) -> dict[int, Path]:
    """The stores' folders by t: of the protocol's faces, in whose place a whole store of all faces serves as well."""
    over_all = _folders(experiment, faces, every_face(faces), sweep)
    if all_faces:
        return over_all
    own = _folders(experiment, faces, chosen_faces(experiment, faces, all_faces=False), sweep)
    return {t: over_all[t] if _is_whole(over_all[t]) and not _is_whole(own[t]) else own[t] for t in own}


def _folders(experiment: Experiment, faces: Faces, chosen: ArrayFaces, sweep: CueSweep) -> dict[int, Path]:
    """Of the stores that hold these faces, by t."""
    root, dataset, size = Workspace(experiment).cues(), dataset_id(faces, chosen), (faces.size, faces.size)
    return {t: root / fingerprint(cue_identity(sweep.fingerprint(t), dataset, size)) for t in sweep.timesteps}


def _is_whole(folder: Path) -> bool:
    # Another process may have made the folder just now, or a killed one: with this file, its last, it is a store.
    return (folder / STORE_NAME).is_file() and not ShardStore.open(folder).unfinished()

"""The cues of an experiment: what makes them, the stores they lie in, and what reads them for a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.artefacts.autoencoders import autoencoder_of_cue, load_restorer
from pipelines.artefacts.faces import Columns, dataset_id, judged_rows
from pipelines.artefacts.models import on_device
from pipelines.artefacts.runs import generator_done
from pipelines.cues.identity import cue_restoration, store_identity
from pipelines.cues.settings import AUTOENCODER
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import fingerprint

if TYPE_CHECKING:
    from pipelines.cues.reader import CueReader
    from pipelines.cues.sources import CueSweep
    from pipelines.cues.store import CueStore
    from pipelines.data.faces import Faces
    from pipelines.sums import CheckedRows


def open_sweep(experiment: Experiment, timesteps: Sequence[int]) -> CueSweep:
    """The trained generator or baseline as a source of several t at once, on this process's device."""
    from pipelines.cues.custom import open_source
    from pipelines.cues.sources import as_sweep, sweep_of

    if experiment.cue.is_custom:
        return as_sweep(open_source(experiment.cue))
    done = generator_done(experiment)
    maker = on_device(load_restorer(experiment))
    return sweep_of(experiment.cue, maker, timesteps, done["weights_sha256"], autoencoder_of_cue(experiment, done))


def store_folders(
    experiment: Experiment, columns: Columns, timesteps: Sequence[int], all_faces: bool = False
) -> dict[int, Path]:
    """The cue stores of the trained generator by t, finished or not.

    Args:
        experiment: its generator must be trained.
        columns: of its faces.
        timesteps: 0 is the autoencoder alone.
        all_faces: the stores of every face; otherwise those of the protocol's faces, in whose place a finished store
            of every face serves as well.

    Raises:
        AgfasError: the generator is not trained, or the protocol does not fit the dataset.
    """
    keys = np.asarray(columns["key"])
    over_all = _store_folders(experiment, keys.tolist(), timesteps)
    if all_faces:
        return over_all
    own = _store_folders(experiment, keys[judged_rows(experiment, columns)].tolist(), timesteps)
    return {t: over_all[t] if is_whole(over_all[t]) and not is_whole(own[t]) else own[t] for t in timesteps}


def _store_folders(experiment: Experiment, keys: list[str], timesteps: Sequence[int]) -> dict[int, Path]:
    workspace, cue = Workspace(experiment), experiment.cue
    done = {} if cue.is_custom else generator_done(experiment)
    maker, dataset, size = experiment.generator.name, dataset_id(experiment, keys), (workspace.size, workspace.size)
    autoencoder, folders = autoencoder_of_cue(experiment, done), {}
    for timestep in timesteps:
        restoration = cue_restoration(cue, maker, done.get("weights_sha256", ""), timestep, autoencoder)
        folders[timestep] = workspace.cues() / fingerprint(store_identity(restoration, dataset, size))
    return folders


def is_whole(folder: Path) -> bool:
    """Whether a cue store exists and lacks nothing."""
    from pipelines.cues.description import STORE_NAME
    from pipelines.cues.shards import ShardStore
    from pipelines.sums import Damaged

    try:
        # A process that was killed may have left the folder without its last file.
        return (folder / STORE_NAME).is_file() and not ShardStore.open(folder).unfinished()
    except Damaged:  # its keys: the cue job writes them again
        return False


def cue_stores(experiment: Experiment, columns: Columns, timesteps: Sequence[int]) -> dict[int, CueStore]:
    """The finished stores by t.

    Raises:
        AgfasError: one is missing or unfinished.
    """
    from pipelines.cues.store import CueStore

    folders = store_folders(experiment, columns, timesteps)
    for timestep, folder in folders.items():
        if not is_whole(folder):
            raise AgfasError(
                f"The cues of t = {timestep} are not finished. Run `agfas cues` with the same configuration."
            )
    return {timestep: CueStore.open(folder) for timestep, folder in folders.items()}


def cue_reader(experiment: Experiment, faces: Faces) -> CueReader | None:
    """What makes the experiment's cues, or None if its detector takes none.

    Raises:
        AgfasError: cues or masks are missing.
    """
    from pipelines.cues.reader import CueReader

    workspace = Workspace(experiment)
    if not workspace.needs_cue():
        return None
    cue, columns, keys = experiment.cue, faces.columns(), [str(key) for key in faces.keys]
    wanted, judged = cue.timesteps_by(experiment.generator.name), judged_rows(experiment, columns)
    stores = cue_stores(experiment, columns, wanted) if wanted else {}
    stored = {t: store.join(keys, judged) for t, store in stores.items()}
    return CueReader(
        cue.source,
        keys,
        [f"{domain}/{video}" for domain, video in zip(faces.domains, faces.videos, strict=True)],
        faces.images,
        stored[workspace.timestep()] if stored else None,
        stored.get(AUTOENCODER) if len(wanted) > 1 else None,
        form=cue.form,
        normalize=cue.normalize,
        seed=cue.seed,
        groups=[f"{domain}/{split}" for domain, split in zip(faces.domains, faces.splits, strict=True)],
        masks=_masks(experiment, faces),
    )


def _masks(experiment: Experiment, faces: Faces) -> np.ndarray | CheckedRows | None:
    if experiment.cue.mask == "none":
        return None
    if faces.masks is None:
        raise AgfasError(
            f"cue.mask = face needs the faces' masks, which {faces.folder} does not have. Prepare the dataset with"
            " `agfas prepare ... --parsing-weights FILE`, or set cue.mask = none."
        )
    return faces.masks

"""Where a detector's cues come from: the stores of the generator, joined to the faces by key."""

from __future__ import annotations

from typing import Any

import numpy as np

from oanet.names import CUE_FORMS_WITH_AUTOENCODED
from pipelines.cues.reader import CueReader
from pipelines.cues.store import CueStore
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.stages.cues import AUTOENCODER, judged_rows, stores_of


def cue_reader(experiment: Experiment, faces: Faces) -> CueReader | None:
    """What makes the experiment's cues, or None where its detector takes none."""
    workspace = Workspace(experiment)
    if not workspace.needs_cue():
        return None
    cue = experiment.cue
    restored = autoencoded = None
    if workspace.needs_restoration():
        timestep, with_autoencoded = workspace.timestep(), cue.form in CUE_FORMS_WITH_AUTOENCODED
        wanted = sorted({timestep, *([AUTOENCODER] if with_autoencoded else [])})
        judged = judged_rows(experiment, faces)
        stored = {t: PartlyStored(store, faces, judged) for t, store in stores_of(experiment, faces, wanted).items()}
        restored = stored[timestep]
        autoencoded = stored[AUTOENCODER] if with_autoencoded else None
    return CueReader(
        cue.source,
        [str(key) for key in faces.keys],
        [f"{domain}/{video}" for domain, video in zip(faces.domains, faces.videos, strict=True)],
        faces.images,
        restored,
        autoencoded,
        form=cue.form,
        normalize=cue.normalize,
        seed=cue.seed,
        groups=[f"{domain}/{split}" for domain, split in zip(faces.domains, faces.splits, strict=True)],
        masks=_masks(experiment, faces),
    )


def _masks(experiment: Experiment, faces: Faces) -> np.ndarray | None:
    if experiment.cue.mask == "none":
        return None
    if faces.masks is None:
        raise AgfasError(
            f"cue.mask = face needs the faces' masks, which {faces.folder} does not have. Prepare the dataset with"
            " `agfas prepare ... --parsing-weights FILE`, or set cue.mask = none."
        )
    return faces.masks


class PartlyStored:
    """A store's reconstructions under the whole dataset's indices; faces outside the protocol have none.

    Args:
        store: of the protocol's faces, or of all.
        faces: the dataset.
        judged: (N,) bool, whether a face is of the protocol's domains.

    Attributes:
        present: (N,) bool, whether the face has a restoration.
    """

    def __init__(self, store: CueStore, faces: Faces, judged: np.ndarray) -> None:
        self.store = store
        known = {key: row for row, key in enumerate(store.shards.keys)}
        rows = np.array([known.get(str(key), -1) for key in faces.keys], dtype=np.int64)
        self.rows = np.where(judged, rows, -1)
        self.present = self.rows >= 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Any) -> np.ndarray:
        rows = self.rows[indices]
        if np.any(rows < 0):
            raise IndexError("a face outside the protocol's domains has no stored restoration")
        return self.store.reconstructions(rows)

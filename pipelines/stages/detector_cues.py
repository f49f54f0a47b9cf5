"""Where a detector's cues come from: the stores of the generator, joined to the faces by key."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.config import Experiment
from pipelines.cues.reader import CueReader
from pipelines.cues.store import CueStore
from pipelines.data.faces import Faces
from pipelines.data.protocols import protocol_splits
from pipelines.workspace import Workspace


def judged_faces(experiment: Experiment, faces: Faces) -> np.ndarray:
    """Indices of the faces of the protocol's domains: those that detectors see."""
    splits = protocol_splits(experiment.protocol, faces.columns())
    domains = {domain for split in splits for domain in (*split.train_domains, *split.dev_domains, *split.test_domains)}
    return np.flatnonzero(np.isin(faces.domains, sorted(domains)))


def cue_reader(experiment: Experiment, faces: Faces) -> CueReader | None:
    """What makes the experiment's cues, or None where its detector takes none."""
    workspace = Workspace(experiment)
    if not workspace.needs_cue():
        return None
    cue = experiment.cue
    restored = autoencoded = None
    if workspace.needs_restoration():
        from pipelines.stages.cues import store_of

        timestep = None if cue.source == "autoencoder" else cue.timestep
        restored = JoinedReconstructions(store_of(experiment, faces, timestep), faces)
        if cue.form != "residual":
            autoencoded = JoinedReconstructions(store_of(experiment, faces, None), faces)
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
    )


class JoinedReconstructions:
    """A store's reconstructions under the dataset's indices, gathered on access.

    Attributes:
        present: (N,) bool, whether the store holds the face.
    """

    def __init__(self, store: CueStore, faces: Faces) -> None:
        self.store = store
        known = {key: row for row, key in enumerate(store.keys)}
        self.rows = np.array([known.get(str(key), -1) for key in faces.keys], dtype=np.int64)
        self.present = self.rows >= 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return self.store.reconstructions(self.rows[indices])

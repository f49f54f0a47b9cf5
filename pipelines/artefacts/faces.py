"""The faces of an experiment, and which of them its protocol uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.frames import used_frames
from pipelines.data.protocols import protocol_folds
from pipelines.experiment.config import Experiment
from pipelines.experiment.profile import remember_profile
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import fingerprint

if TYPE_CHECKING:
    from pipelines.data.faces import Faces

Columns = Mapping[str, Sequence[Any] | np.ndarray]
"""Metadata of a face dataset by column name, one value per face."""


def make_faces(experiment: Experiment) -> Faces:
    """The experiment's faces; drawn faces, joined datasets and pixels are made on first use, by all processes."""
    from pipelines.data.join import join_faces
    from pipelines.data.leaks import check_recorded
    from pipelines.experiment.config import DatasetData, SyntheticData

    remember_profile(experiment)
    data, folder = experiment.data, Workspace(experiment).faces
    if isinstance(data, DatasetData) and not data.allow_leaks:
        for given in data.paths or [folder]:
            check_recorded(given)
    if isinstance(data, DatasetData) and data.paths is not None:
        join_faces(data.paths, folder)
    if isinstance(data, SyntheticData):
        from pipelines.synthetic.benchmark import build

        build(data.settings(), folder)
    return open_faces(experiment)


def open_faces(experiment: Experiment) -> Faces:
    """The experiment's faces, which a stage has made before."""
    from pipelines.data.faces import open_faces as open_dataset

    workspace = Workspace(experiment)
    return open_dataset(workspace.faces, workspace.size)


def face_columns(experiment: Experiment) -> dict[str, np.ndarray]:
    """The metadata of the experiment's faces, without opening a picture."""
    from pipelines.data.records import COLUMNS, FRAME_RULE, read_columns

    names = [name for name in COLUMNS if name != "image"]
    return read_columns(Workspace(experiment).faces, names, optional=[FRAME_RULE])


def judged_rows(experiment: Experiment, columns: Columns) -> np.ndarray:
    """(N,) bool, whether a face is of the protocol's domains and frames: those that detectors see."""
    folds = protocol_folds(experiment.protocol, columns)
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.dev_domains, *fold.test_domains)}
    frames = [used_frames(columns, experiment.protocol.frames, part) for part in ("train", "test")]
    return np.isin(np.asarray(columns["domain"]), sorted(domains)) & np.any(frames, axis=0)


def dataset_id(experiment: Experiment, keys: Sequence[str]) -> str:
    """Names some faces of the experiment's dataset at its size."""
    return f"{Workspace(experiment).faces_id()}:{fingerprint(sorted(map(str, keys)))}"

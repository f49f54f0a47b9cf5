"""The first stage of an experiment: its face dataset, drawn or joined on first use."""

from __future__ import annotations

from pipelines.data.faces import Faces, open_faces
from pipelines.data.join import join_faces
from pipelines.experiment.config import DatasetData, Experiment, SyntheticData
from pipelines.experiment.workspace import Workspace
from pipelines.processes import main_process_first


def run(experiment: Experiment) -> Faces:
    """The experiment's faces."""
    workspace = Workspace(experiment)
    if isinstance(experiment.data, DatasetData) and experiment.data.paths is not None:
        join_faces(experiment.data.paths, workspace.faces)
    with main_process_first():
        if isinstance(experiment.data, SyntheticData):
            from pipelines.synthetic.benchmark import build

            build(experiment.data.settings(), workspace.faces)
        return open_faces(workspace.faces, workspace.size)

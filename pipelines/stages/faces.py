"""Stage 1: the face dataset."""

from __future__ import annotations

from pipelines.config import Experiment, SyntheticData
from pipelines.data.faces import Faces, open_faces
from pipelines.processes import main_process_first
from pipelines.workspace import Workspace


def run(experiment: Experiment) -> Faces:
    """The experiment's faces, rendered or decoded first if that was not done yet."""
    workspace = Workspace(experiment)
    with main_process_first():
        if isinstance(experiment.data, SyntheticData):
            from pipelines.data.synthetic.benchmark import build

            build(experiment.data.settings(), workspace.faces)
        return open_faces(workspace.faces, workspace.size)

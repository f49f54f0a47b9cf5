"""Stage 1: the face dataset."""

from __future__ import annotations

from pipelines.data.faces import Faces, open_faces
from pipelines.data.importers import load_importer
from pipelines.data.importers.source import SourceFace, with_splits
from pipelines.data.join import join_faces
from pipelines.experiment.config import DatasetData, Experiment, PicturesData, SyntheticData
from pipelines.experiment.workspace import Workspace
from pipelines.processes import main_process_first


def run(experiment: Experiment) -> Faces:
    """The experiment's faces, rendered, imported or decoded first if that was not done yet."""
    workspace = Workspace(experiment)
    if isinstance(experiment.data, DatasetData) and experiment.data.paths is not None:
        join_faces(experiment.data.paths, workspace.faces)
    with main_process_first():
        if isinstance(experiment.data, SyntheticData):
            from pipelines.synthetic.benchmark import build

            build(experiment.data.settings(), workspace.faces)
        if isinstance(experiment.data, PicturesData) and not workspace.faces.is_dir():
            from pipelines.data.pictures import import_pictures

            import_pictures(found_pictures(experiment.data), workspace.faces, experiment.data.size)
        return open_faces(workspace.faces, workspace.size)


def found_pictures(data: PicturesData) -> list[SourceFace]:
    """What the importers find, dealt out to splits by subject."""
    found: list[SourceFace] = []
    for domain, source in data.sources.items():
        faces = load_importer(source.importer)(source.path, domain)
        if source.limit is not None and source.limit < len(faces):
            faces = [faces[place * len(faces) // source.limit] for place in range(source.limit)]
        found += faces
    return with_splits(found)

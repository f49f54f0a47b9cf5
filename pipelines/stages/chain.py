"""The stages in their order; each finds what an earlier command has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.data.protocols import indices, protocol_folds
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import Planned, expand, record
from pipelines.experiment.workspace import Workspace
from pipelines.processes import is_main

if TYPE_CHECKING:
    from pipelines.data.faces import Faces


def run(experiment: Experiment, last: str) -> None:
    """Run the chain up to the stage `last`: train-dfg, train or evaluate."""
    from pipelines.report.summary import summary
    from pipelines.stages import evaluate, faces, train_detector, train_dfg

    if experiment.sweep is not None:
        raise AgfasError("This configuration has a sweep: block. Run it with `agfas sweep`.")
    if last != "train-dfg":
        train_detector.check_options(experiment)
    opened = faces.run(experiment)
    if last == "train-dfg":
        print(f"Generator: {train_dfg.run(experiment, opened)}")
        return
    for fold in protocol_folds(experiment.protocol, opened.columns()):
        indices(opened.columns(), fold)  # what the faces lack for it is said before anything long is begun
    prepare_cues([experiment], opened)
    folder = train_detector.run(experiment, opened)
    if is_main():
        record(experiment.root, expand(experiment))
        if last == "evaluate":
            evaluate.run(experiment, opened)
            print(f"\n{summary(expand(experiment))}\n")
        print(f"Detectors: {folder}")


def prepare_cues(experiments: list[Experiment], faces: Faces) -> None:
    """Train the generators and restore the faces that these experiments need, several t of one in one pass."""
    from pipelines.stages import cues, train_dfg

    wanted: dict[str, tuple[Experiment, set[int]]] = {}
    for experiment in experiments:
        workspace = Workspace(experiment)
        if not workspace.needs_restoration():
            continue
        train_dfg.run(experiment, faces)
        name = workspace.restoration()
        timesteps = wanted.setdefault(name, (experiment, set()))[1]
        if workspace.timestep():
            timesteps.add(workspace.timestep())
    for experiment, timesteps in wanted.values():
        cues.run(experiment, faces, sorted(timesteps))


def print_plan(experiment: Experiment) -> None:
    """What would be run, and the state of each part."""
    for planned in expand(experiment):
        print(f"{planned.title}: {state(planned)}")


def state(planned: Planned) -> str:
    """How far an experiment is, in words."""
    workspace = Workspace(planned.experiment)
    if workspace.makes_faces() and not workspace.faces.is_dir():
        return "nothing made yet"
    from pipelines.data.records import load_faces

    table = load_faces(workspace.faces)
    columns = {name: table[name][:] for name in ("domain",)}
    folds = protocol_folds(planned.experiment.protocol, columns)
    folder = workspace.detector()
    trained = sum((folder / fold.name / "done.json").is_file() for fold in folds)
    judged = "evaluated" if (folder / "result.json").is_file() else "not evaluated"
    generator = ""
    if workspace.needs_restoration():
        generator = f"generator {'trained' if workspace.has_generator() else 'not trained'}, "
    return f"{generator}{trained} of {len(folds)} detectors trained, {judged}; {folder}"

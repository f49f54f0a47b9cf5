"""The stages in their order; each finds what an earlier command has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.artefacts.faces import face_columns, make_faces
from pipelines.artefacts.runs import DetectorRun
from pipelines.data.protocols import indices, protocol_folds
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import Planned, expand, record
from pipelines.experiment.workspace import Workspace
from pipelines.memory import free_models
from pipelines.processes import any_process, is_main, rank_and_world, say

if TYPE_CHECKING:
    from pipelines.data.faces import Faces


def run(experiment: Experiment, last: str) -> None:
    """Run the chain up to the stage `last`: train-dfg, train or evaluate."""
    from pipelines.report.summary import summary
    from pipelines.stages import evaluate

    if experiment.sweep is not None:
        raise AgfasError("This configuration has a sweep: block. Run it with `agfas sweep`.")
    finished = last == "evaluate" and is_evaluated(experiment)
    opened = None if finished else _made(experiment, last)
    if last == "train-dfg":
        return say(f"Generator: {Workspace(experiment).generator()}")
    if is_main():
        record(experiment.root, expand(experiment))
    if last == "evaluate":
        evaluate.run(experiment, opened)
        if is_main():
            say(f"\n{summary(expand(experiment))}\n")
    say(f"Detectors: {Workspace(experiment).detector()}")


def train_and_judge(experiment: Experiment) -> None:
    """Train and judge the detectors of one experiment, whose cues are there; nothing is loaded if all is done."""
    from pipelines.stages import evaluate, train_detector

    if is_evaluated(experiment):
        opened = None
    else:
        opened = make_faces(experiment)
        train_detector.run(experiment, opened)
    evaluate.run(experiment, opened)


def is_evaluated(experiment: Experiment) -> bool:
    """Whether every checkpoint is trained and scored, so that neither pixels nor models are needed any more."""
    from pipelines.stages import evaluate

    is_there = Workspace(experiment).faces.is_dir()
    finished = is_there and evaluate.is_finished(experiment, face_columns(experiment))
    return not any_process(not finished)


def _made(experiment: Experiment, last: str) -> Faces:
    """The faces, after everything up to the stage `last` is made: the generator alone, or the detectors too."""
    from pipelines.stages import detector_batches, train_detector, train_dfg

    # All that can be refused is refused before anything long begins.
    _check_shares_of_loops(experiment)
    if last == "train-dfg" or Workspace(experiment).needs_generator():
        train_dfg.check_options(experiment)
    if last != "train-dfg":
        train_detector.check_options(experiment)
    opened = make_faces(experiment)
    if last == "train-dfg":
        train_dfg.run(experiment, opened)
        return opened
    train_detector.check_faces(experiment, opened)
    for fold in protocol_folds(experiment.protocol, opened.columns()):
        indices(opened.columns(), fold)
        detector_batches.check_shares(experiment, fold)
    prepare_cues([experiment], opened)
    train_detector.run(experiment, opened)
    return opened


def _check_shares_of_loops(experiment: Experiment) -> None:
    """Refuse batches of the generator and the identity encoder that leave a process without a face."""
    from pipelines.training.parallel import shares

    teacher = getattr(experiment.generator, "teacher", None)
    trained = {"identity": experiment.identity, "generator": experiment.generator, "generator.teacher": teacher}
    for part, settings in trained.items():
        loop = getattr(settings, "loop", None)
        if loop is not None:
            shares(loop.batch_size, loop.gradient_accumulation, rank_and_world()[1], f"{part}.loop.batch_size")


def prepare_cues(experiments: list[Experiment], faces: Faces) -> None:
    """Train the generators and restore the faces that these experiments need, several t of one in one pass."""
    from pipelines.stages import cues, train_dfg, train_tiny_autoencoder

    wanted: dict[str, tuple[Experiment, set[int]]] = {}
    for experiment in experiments:
        workspace = Workspace(experiment)
        if not workspace.needs_restoration():
            continue
        if workspace.needs_generator():
            train_dfg.run(experiment, faces)
            train_tiny_autoencoder.run_if_needed(experiment, faces)
            free_models()
        timesteps = wanted.setdefault(workspace.restoration(), (experiment, set()))[1]
        if workspace.timestep():
            timesteps.add(workspace.timestep())
    for experiment, timesteps in wanted.values():
        cues.run(experiment, faces, sorted(timesteps))


def print_plan(experiment: Experiment) -> None:
    """What would be run, and the state of each part."""
    for planned in expand(experiment):
        say(f"{planned.title}: {state(planned)}")


def state(planned: Planned) -> str:
    """How far an experiment is, in words."""
    workspace = Workspace(planned.experiment)
    if not workspace.faces.is_dir():
        return "nothing made yet" + ("" if workspace.makes_faces() else f"; no faces at {workspace.faces}")
    folds = protocol_folds(planned.experiment.protocol, face_columns(planned.experiment))
    folder = workspace.detector()
    trained = sum(DetectorRun(folder / fold.name).is_finished for fold in folds)
    judged = "evaluated" if (folder / "result.json").is_file() else "not evaluated"
    generator = ""
    if workspace.needs_generator():
        generator = f"generator {'trained' if workspace.has_makers() else 'not trained'}, "
    return f"{generator}{trained} of {len(folds)} detectors trained, {judged}; {folder}"

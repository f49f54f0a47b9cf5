"""`agfas train`: one detector for every fold of the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dfg.schedule import sd_scheduler, timesteps_from
from oanet.published import CROP, sight
from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import judged_rows
from pipelines.artefacts.models import load_detector, snapshot_sha256
from pipelines.artefacts.runs import SNAPSHOTS_SHA256, DetectorRun
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.errors import AgfasError
from pipelines.evaluation.settings import PUBLISHED_RULE
from pipelines.evaluation.sight import check_sight
from pipelines.experiment.config import Experiment
from pipelines.experiment.untrained import build_detector, build_training
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_atomically
from pipelines.memory import free_models
from pipelines.processes import gather_objects, is_main, wait
from pipelines.stages.detector_batches import check_augment, check_extra_live, count_domains, make_batches, make_watch
from pipelines.training.loop import fit
from pipelines.training.run import Run, remove_checkpoints, snapshot_folder


def run(experiment: Experiment, faces: Faces) -> Path:
    """Train the detectors that are not finished; returns the experiment's folder, with a run per fold."""
    folder = Workspace(experiment).detector()
    splits = protocol_folds(experiment.protocol, faces.columns())
    found = [split for split in splits if not DetectorRun(folder / split.name).is_finished]
    for split in splits if is_main() else ():
        if split not in found:
            remove_checkpoints(folder / split.name)
    # As the main process finds it, which may finish a fold before another process looks.
    unfinished = gather_objects(found)[0]
    if unfinished:
        check_options(experiment)
        reader = cue_reader(experiment, faces)
        for fold in unfinished:
            _train_fold(experiment, faces, reader, fold, folder / fold.name)
            free_models()
    return folder


def check_options(experiment: Experiment) -> None:
    """Refuse a t off the sampler's grid and wrong detector or objective options, before anything long begins."""
    try:
        if experiment.generator.name == "dfg":
            timesteps_from(sd_scheduler(), experiment.cue.timestep, experiment.cue.num_inference_steps)
    except ValueError as error:
        raise AgfasError(f"cue.timestep: {error}") from error
    with torch.device("meta"):
        if experiment.train.steps == 0:
            build_detector(experiment)
        else:
            objective = build_training(experiment, num_domains=2)
            check_extra_live(experiment, objective)
            check_augment(experiment, objective)


def check_faces(experiment: Experiment, faces: Faces) -> None:
    """Refuse faces that cannot give the detector its input, before anything long begins."""
    detector = experiment.detector
    sees = sight(detector.name, detector.options()) if experiment.train.steps == 0 else CROP
    check_sight(detector.name, sees, faces, judged_rows(experiment, faces.columns()))


def snapshot_steps(experiment: Experiment) -> list[int]:
    """The steps whose checkpoints the selection rules choose from; the last step is one of them."""
    steps, count = experiment.train.steps, experiment.train.evaluations
    if steps == 0:
        return [0]
    return sorted({max(1, round(steps * (k + 1) / count)) for k in range(count)})


def _train_fold(experiment: Experiment, faces: Faces, reader: CueReader | None, fold: Fold, folder: Path) -> None:
    key = {**Workspace(experiment).detector_key(), "fold": fold.name}
    training = Run(folder, key, experiment.model_dump(mode="json"))
    if experiment.train.steps == 0:
        _keep_published(experiment, fold, training)
        return
    parts = indices(faces.columns(), fold)
    torch.manual_seed(experiment.seed)
    objective = build_training(experiment, count_domains(experiment, fold))
    batches = make_batches(experiment, faces, reader, fold, parts["train"], objective)
    watch = make_watch(experiment, faces, reader, parts["dev"])
    keep = snapshot_steps(experiment)

    def snapshot(step: int, model: Any) -> None:
        if step in keep and is_main():
            write_atomically(snapshot_folder(folder, step), model.detector.save_pretrained)

    title = f"{experiment.detector.name}, {fold.name}"
    finished = fit(
        objective,
        batches,
        experiment.train,
        training,
        title=title,
        seed=experiment.seed,
        after_step=snapshot,
        watch=watch,
    )
    if finished < experiment.train.steps:  # early stopping: keep the weights of the actual last step
        keep = [step for step in keep if step < finished] + [finished]
        snapshot(finished, objective)
    if is_main():
        training.finish(
            {
                "fold": fold.name,
                "train_faces": len(parts["train"]),
                "parameters": objective.detector.num_parameters(),
                "snapshots": keep,
                SNAPSHOTS_SHA256: _checksums(folder, keep),
            }
        )
    wait()


def _checksums(run: Path, steps: list[int]) -> dict[str, str]:
    for step in steps:
        load_detector(snapshot_folder(run, step))  # an earlier start may have written it, and it may have changed since
    return {str(step): snapshot_sha256(snapshot_folder(run, step)) for step in steps}


def _keep_published(experiment: Experiment, fold: Fold, run: Run) -> None:
    """Save the detector with its published weights as the only checkpoint, of step 0."""
    if is_main():
        detector = build_detector(experiment)
        write_atomically(snapshot_folder(run.folder, 0), detector.save_pretrained)
        done = {"fold": fold.name, "train_faces": 0, "parameters": detector.num_parameters(), "snapshots": [0]}
        done[SNAPSHOTS_SHA256] = _checksums(run.folder, [0])
        decision = detector.decision
        if decision is not None:
            done[PUBLISHED_RULE] = {"threshold": decision.threshold, "origin": decision.origin}
        run.finish(done)
    wait()

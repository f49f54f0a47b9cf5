"""Training of a student that gives the mean of many restorations in one call; its teacher is trained first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.samplers import open_sampler
from dfg.schedule import sd_scheduler
from pipelines.artefacts.models import on_device
from pipelines.artefacts.runs import MODEL, generator_done, load_maker
from pipelines.cues.sources import DfgSweep
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import OneCallSettings
from pipelines.experiment.untrained import build_baseline_training
from pipelines.experiment.workspace import Workspace, teacher_of
from pipelines.memory import free_models
from pipelines.processes import is_main, wait
from pipelines.stages import train_baseline
from pipelines.training.latents import nested_share
from pipelines.training.loop import fit
from pipelines.training.restored import FacesToRestore
from pipelines.training.run import Run


def run(
    experiment: Experiment, faces: Faces, settings: OneCallSettings, train_teacher: Callable[[Experiment, Faces], Any]
) -> Path:
    """Train the student unless it is finished, after its teacher; returns its run folder, which holds `model/`.

    Args:
        experiment: of the student.
        faces: the dataset.
        settings: the experiment's generator.
        train_teacher: trains the generator of an experiment, unless it is trained already.
    """
    workspace = Workspace(experiment)
    training = Run(workspace.generator(), workspace.generator_key(), experiment.model_dump(mode="json"))
    if training.was_done:
        return training.folder
    live, further = faces_to_learn_from(settings, faces)
    train_teacher(teacher_of(experiment), faces)
    free_models()
    objective = build_baseline_training(settings, faces.size)
    objective.teacher = Restorations(experiment)
    batches = FacesToRestore(
        faces, np.concatenate([live, further]), settings.loop.batch_size, 0, settings.flip, settings.changed
    )
    fit(objective, batches, settings.loop, training, title=settings.name)
    if is_main():
        facts = {"unlabelled_faces": len(further)}
        train_baseline.save(objective.model, objective.model, training, MODEL, len(live), **facts)
    wait()
    return training.folder


def check_options(settings: OneCallSettings) -> None:
    """Refuse a restoration that the teacher cannot make, before anything is made.

    Raises:
        AgfasError: what is wrong, and what is allowed.
    """
    chosen = settings.restoration
    try:
        scheduler = sd_scheduler(settings.teacher.prediction)
        open_sampler(chosen.scheduler, scheduler, chosen.timestep, chosen.num_inference_steps, chosen.calls)
    except ValueError as error:
        raise AgfasError(f"generator.restoration: {error}") from error


def faces_to_learn_from(settings: OneCallSettings, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """The live faces of `domains`, and the faces of `unlabelled` that are not among them, whatever they show.

    Raises:
        AgfasError: a domain has no training faces.
    """
    live = _share(train_baseline.live_faces(faces, settings.domains), settings, faces)
    in_training = faces.splits == "train"
    for domain in settings.unlabelled:
        if not np.any(in_training & (faces.domains == domain)):
            raise AgfasError(
                f"No training faces in the domain {domain}, which generator.unlabelled names."
                f" The dataset has: {', '.join(sorted(set(faces.domains)))}."
            )
    further = np.flatnonzero(in_training & np.isin(faces.domains, settings.unlabelled))
    return live, np.setdiff1d(_share(further, settings, faces), live)


def _share(indices: np.ndarray, settings: OneCallSettings, faces: Faces) -> np.ndarray:
    if len(indices) == 0:
        return indices
    return indices[nested_share([str(key) for key in faces.keys[indices]], settings.share)]


class Restorations:
    """What the teacher of a student makes of faces, by the class that makes the cues of the teacher itself.

    Args:
        experiment: of the student; its teacher must be trained.
    """

    def __init__(self, experiment: Experiment) -> None:
        teacher = teacher_of(experiment)
        self.timestep = teacher.cue.timestep
        weights = generator_done(teacher)["weights_sha256"]
        self.sweep = DfgSweep(on_device(load_maker(teacher)), [self.timestep], weights, settings=teacher.cue)

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, H) in [-1, 1] -> the restored faces, from the noise that the keys seed."""
        return self.sweep.restore(image, keys, [self.timestep])[self.timestep]

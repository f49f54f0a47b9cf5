"""Training of the baselines of the paper's Table IV, on the pixels of live faces; what other trainings share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipelines.artefacts.models import autoencoder_sha256
from pipelines.artefacts.runs import MODEL, PIPELINE
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import AnoddpmSettings, BaselineSettings, DeepSvddSettings
from pipelines.experiment.untrained import build_baseline_training
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import folder_sha256
from pipelines.pixels import to_unit_range
from pipelines.processes import is_main, spread, wait
from pipelines.seals import write_sealed
from pipelines.training.batches import LiveFaceBatches
from pipelines.training.latents import nested_share
from pipelines.training.loop import AfterStep, fit
from pipelines.training.run import Run

# Faces embedded at once for the centre of Deep SVDD.
_BATCH = 64


def run(experiment: Experiment, faces: Faces, settings: BaselineSettings) -> Path:
    """Train the baseline unless it is finished; returns its run folder, which holds `model/`."""
    workspace = Workspace(experiment)
    training = Run(workspace.generator(), workspace.generator_key(), experiment.model_dump(mode="json"))
    if training.was_done:
        return training.folder
    indices = live_faces(faces, settings.domains)
    indices = indices[nested_share([str(key) for key in faces.keys[indices]], settings.share)]
    objective = build_baseline_training(settings, faces.size)
    timesteps = settings.train_timesteps if isinstance(settings, AnoddpmSettings) else 0
    batches = LiveFaceBatches(faces, indices, settings.loop.batch_size, 0, settings.flip, timesteps)
    after_step = _fix_center(settings, faces, indices)
    fit(objective, batches, settings.loop, training, title=settings.name, after_step=after_step)
    if is_main():
        save(objective.model, objective.model, training, MODEL, len(indices))
    wait()
    return training.folder


def live_faces(faces: Faces, domains: list[str], key: str = "generator.domains") -> np.ndarray:
    """The live training faces of some domains, which the setting `key` names.

    Raises:
        AgfasError: there are none.
    """
    indices = faces.live(domains)
    if len(indices) == 0:
        raise AgfasError(
            f"No live training faces in the domains {', '.join(domains)}, which {key} names."
            f" The dataset has: {', '.join(sorted(set(faces.domains)))}."
        )
    return indices


def _fix_center(settings: BaselineSettings, faces: Faces, indices: np.ndarray) -> AfterStep | None:
    """A callback that ends the pre-training of Deep SVDD: it fixes the centre over all training faces, unflipped."""
    if not isinstance(settings, DeepSvddSettings):
        return None
    last_of_pretraining = max(1, round(settings.pretraining * settings.loop.steps))
    batches = [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]

    def after_step(step: int, objective: nn.Module) -> None:
        if step == last_of_pretraining:
            model: Any = objective.model
            sums = spread(batches, lambda part: model.embedding_sum(to_unit_range(faces.images[part])))
            model.center_at([(total, len(part)) for total, part in zip(sums, batches, strict=True)])

    return after_step


def save(model: Any, network: nn.Module, training: Run, name: str, trained_on: int, **facts: Any) -> None:
    """Save a model and finish its run.

    Args:
        model: has `save_pretrained`.
        network: its trained part, whose parameters are counted.
        training: the run.
        name: of the model's folder in the run's.
        trained_on: number of live faces.
        facts: of the run beside these.
    """
    folder = training.folder / name
    write_sealed(folder, model.save_pretrained)
    autoencoder = {"autoencoder_sha256": autoencoder_sha256(folder)} if name == PIPELINE else {}
    training.finish(
        {
            "live_faces": trained_on,
            "parameters": sum(p.numel() for p in network.parameters()),
            "weights_sha256": folder_sha256(folder),
            **autoencoder,
            **facts,
        }
    )

"""Stage 5: one detector for every split of the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dfg.schedule import sd_scheduler, timesteps_from
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.config import Experiment
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces
from pipelines.data.protocols import Split, indices, protocol_splits
from pipelines.errors import AgfasError
from pipelines.processes import is_main, wait
from pipelines.stages.detector_cues import cue_reader
from pipelines.training.batches import BalancedBatches
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.workspace import Workspace


def run(experiment: Experiment, faces: Faces) -> Path:
    """Train the detectors that are not there yet; returns the experiment's folder, with a run per split."""
    folder = Workspace(experiment).detector()
    splits = protocol_splits(experiment.protocol, faces.columns())
    unfinished = [split for split in splits if not (folder / split.name / "done.json").is_file()]
    if unfinished:
        check_options(experiment)
        reader = cue_reader(experiment, faces)
        for split in unfinished:
            _train_split(experiment, faces, reader, split, folder / split.name)
    return folder


def check_options(experiment: Experiment) -> None:
    """Refuse a t off the grid and wrong detector or objective options before anything long is begun."""
    try:
        timesteps_from(sd_scheduler(), experiment.cue.timestep, experiment.cue.num_inference_steps)
    except ValueError as error:
        raise AgfasError(f"cue.timestep: {error}") from error
    with torch.device("meta"):
        _build(experiment, num_domains=2)


def snapshot_steps(experiment: Experiment) -> list[int]:
    """The steps whose checkpoints the selection rules choose among, the last step included."""
    steps, count = experiment.train.steps, experiment.train.evaluations
    return sorted({max(1, round(steps * (k + 1) / count)) for k in range(count)})


def _train_split(experiment: Experiment, faces: Faces, reader: CueReader | None, split: Split, folder: Path) -> None:
    key = {**Workspace(experiment).detector_key(), "split": split.name}
    training = Run(folder, key, experiment.model_dump(mode="json"))
    parts = indices(faces.columns(), split)
    settings = experiment.train
    batches = BalancedBatches(
        faces,
        parts["train"],
        list(split.train_domains),
        reader,
        settings.per_cell,
        experiment.seed,
        settings.flip,
        settings.shift,
    )
    torch.manual_seed(experiment.seed)
    objective = _build(experiment, len(split.train_domains))
    keep = snapshot_steps(experiment)

    def snapshot(step: int, model: Any) -> None:
        if step in keep and is_main():
            model.detector.save_pretrained(folder / "snapshots" / f"step_{step:06d}")

    title = f"{experiment.detector.name} without {', '.join(split.test_domains)}"
    fit(objective, batches, settings, training, title=title, seed=experiment.seed, after_step=snapshot)
    if is_main():
        training.finish(
            {
                "split": split.name,
                "train_faces": len(parts["train"]),
                "parameters": sum(p.numel() for p in objective.detector.parameters()),
                "snapshots": keep,
            }
        )
    wait()


def _build(experiment: Experiment, num_domains: int) -> Any:
    try:
        options = experiment.detector.options()
        if Workspace(experiment).needs_cue():
            from oanet.names import CUE_CHANNELS

            options["cue_channels"] = CUE_CHANNELS[experiment.cue.form]
        detector = build_detector(experiment.detector.name, seed=experiment.seed, **options)
        objective = experiment.objective
        return build_objective(objective.name, detector, num_domains, seed=experiment.seed, **objective.options())
    except (ValueError, TypeError) as error:
        raise AgfasError(f"The detector or its objective cannot be built: {error}") from error

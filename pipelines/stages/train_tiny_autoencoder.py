"""`agfas train-tiny-autoencoder`: a small autoencoder with the latents of the generator's own, from live faces only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipelines.artefacts.faces import make_faces
from pipelines.artefacts.runs import MODEL
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import GeneratorSettings, TinyAutoencoderSettings
from pipelines.experiment.sizes import refuse_side
from pipelines.experiment.workspace import Workspace
from pipelines.files import csv_text, write_text
from pipelines.fingerprint import folder_sha256
from pipelines.pixels import to_unit_range
from pipelines.processes import device, is_main, say, wait
from pipelines.seals import write_sealed
from pipelines.stages.train_baseline import live_faces
from pipelines.stages.train_dfg import build_autoencoder
from pipelines.training.batches import SmoothedBatches
from pipelines.training.loop import fit
from pipelines.training.run import Run, read_done

if TYPE_CHECKING:
    from pipelines.data.faces import Faces

# Live faces whose latents give the scaling factor.
_SCALE_FACES = 200


def run_if_needed(experiment: Experiment, faces: Faces) -> None:
    """Train the small autoencoder if the cue takes it and it is not finished."""
    if Workspace(experiment).needs_tiny_autoencoder():
        run(experiment, faces)


def run(experiment: Experiment, faces: Faces) -> Path:
    """Train the small autoencoder unless it is finished; returns its run folder, which holds `model/`."""
    workspace, settings = Workspace(experiment), _generator(experiment)
    training = Run(workspace.tiny_autoencoder(), workspace.tiny_autoencoder_key(), experiment.model_dump(mode="json"))
    if training.was_done:
        return training.folder
    indices = live_faces(faces, settings.domains)
    own = build_autoencoder(settings.autoencoder, faces, indices)
    objective = _objective(experiment.tiny_autoencoder, own, faces, indices)
    chosen = experiment.tiny_autoencoder
    batches = SmoothedBatches(faces, indices, chosen.loop.batch_size, 0, chosen.flip)
    fit(objective, batches, chosen.loop, training, title="tiny autoencoder")
    if is_main():
        _save(objective.student, own, faces, settings, training, len(indices))
    wait()
    return training.folder


def _objective(settings: TinyAutoencoderSettings, own: Any, faces: Faces, indices: np.ndarray) -> Any:
    from dfg.autoencoder import latent_channels
    from dfg.tiny_autoencoder import TinyAutoencoderObjective, build_tiny, latent_factor, scaling_for

    some = to_unit_range(faces.images[indices[:: max(1, len(indices) // _SCALE_FACES)]])
    scale = scaling_for(own, some)
    try:
        student = build_tiny(latent_factor(own), latent_channels(own), settings.width, settings.blocks, scale)
    except ValueError as error:
        raise AgfasError(f"The generator's autoencoder has no small one: {error}") from None
    return TinyAutoencoderObjective(student, own)


def _save(student: Any, own: Any, faces: Faces, settings: GeneratorSettings, training: Run, trained_on: int) -> None:
    """Save the small autoencoder and finish its run, with its fidelity on held-out live faces if there are any."""
    from dfg.saved import finish_saving
    from pipelines.inspection.fidelity import fidelity

    def write(folder: Path) -> None:
        student.eval().save_pretrained(folder)
        finish_saving(folder, ["config.json"])

    held_out = faces.live(settings.domains, ("dev",))
    found = fidelity(student, own, faces, held_out).row() if len(held_out) else None
    write_sealed(training.folder / MODEL, write)
    training.finish(
        {
            "live_faces": trained_on,
            "parameters": sum(p.numel() for p in student.parameters()),
            "weights_sha256": folder_sha256(training.folder / MODEL),
            "fidelity": found,
        }
    )


def run_alone(experiment: Experiment, count: int = 128) -> list[dict[str, Any]]:
    """The command: train it, then say how well it stands in for the generator's own.

    Args:
        experiment: names the generator's autoencoder and the faces; the generator itself is not needed.
        count: faces of each group at most, evenly spaced over the group.

    Returns:
        The rows of fidelity.csv in the run's folder, one for held-out live faces, one for live faces of other domains,
        and one for each attack type, which nothing was trained on. Other processes than the main one return none.
    """
    from pipelines.artefacts.autoencoders import open_autoencoder
    from pipelines.inspection.fidelity import fidelity
    from pipelines.inspection.measure import groups_of

    check_options(experiment)
    faces = make_faces(experiment)
    folder = run(experiment, faces)
    if not is_main():
        return []
    settings = _generator(experiment)
    own = build_autoencoder(settings.autoencoder, faces, live_faces(faces, settings.domains))
    small = torch.nn.Module.to(open_autoencoder(folder / MODEL), device())
    torch.nn.Module.to(own, device())
    groups = groups_of(experiment, faces, count)
    rows = [{"group": name, **fidelity(small, own, faces, some).row()} for name, some in groups.items()]
    write_text(folder / "fidelity.csv", csv_text(rows))
    say(csv_text(rows))
    say(f"Tiny autoencoder: {folder}. Cues with it: cue.autoencoder=trained")
    return rows


def check_options(experiment: Experiment) -> None:
    """Refuse a generator without autoencoder, and faces that it cannot divide.

    Raises:
        AgfasError: what is wrong, and what is allowed.
    """
    refuse_side(experiment.data.size, _generator(experiment))


def print_plan(experiment: Experiment) -> None:
    """Print whether it is trained; nothing is created."""
    _generator(experiment)
    workspace = Workspace(experiment)
    if not workspace.faces.is_dir():
        return say("nothing made yet, nor any faces")
    folder = workspace.tiny_autoencoder()
    say(f"tiny autoencoder {'' if read_done(folder) else 'not '}trained: {folder}")


def _generator(experiment: Experiment) -> GeneratorSettings:
    if not isinstance(experiment.generator, GeneratorSettings):
        raise AgfasError(
            f"A tiny autoencoder takes the place of that of generator.name = dfg; {experiment.generator.name} has none."
        )
    return experiment.generator

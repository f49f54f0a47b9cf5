"""How good a generator is, by what can be measured without a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dfg.schedule import add_noise
from pipelines.artefacts.cues import cue_stores, open_sweep
from pipelines.artefacts.faces import judged_rows
from pipelines.artefacts.runs import load_maker
from pipelines.cues.settings import AUTOENCODER
from pipelines.data.faces import Faces
from pipelines.data.splits import evenly_spaced
from pipelines.errors import AgfasError
from pipelines.evaluation.metrics import roc
from pipelines.experiment.config import Experiment
from pipelines.pixels import to_unit_range
from pipelines.processes import device

LEVELS = 16
_BATCH = 64


@dataclass(frozen=True)
class Quality:
    """A generator, measured.

    Attributes:
        parameters: of its U-Net.
        steps: of its training.
        noise_loss, noise_error: mean over held-out live faces of `noise_loss`, and the standard error of that mean.
        restoration: mean |face - restoration| of these faces with the cue's own settings, in grey levels (0 to 255).
        errors: (N,) the same of every face of the dataset, from the cue store; NaN of a face without a cue.
        faces: how many held-out live faces.
    """

    parameters: int
    steps: int
    noise_loss: float
    noise_error: float
    restoration: float
    errors: np.ndarray
    faces: int


def levels(number: int, steps: int) -> list[int]:
    """The middles of `number` equal parts of the noise levels 0 to steps - 1."""
    return [int((place + 0.5) * steps / number) for place in range(number)]


@torch.no_grad()
def noise_loss(pipeline: Any, image: torch.Tensor, keys: Sequence[str], number: int = LEVELS) -> np.ndarray:
    """What a generator's training minimises, on given faces with the same noise for every generator of equal latents.

    Losses are on one scale for generators that share an autoencoder.

    Args:
        pipeline: a `DeFakePipeline`, which is given the faces' own identity if it has an encoder.
        image: (n, 3, H, W) in [-1, 1].
        keys: n names, each of its face's noise.
        number: noise levels, evenly spread as those of training are.

    Returns:
        (n,) float64: mean square of noise minus predicted noise over latents and levels.
    """
    condition = "none" if pipeline.identity_encoder is None else "identity"
    found = []
    for start in range(0, len(image), _BATCH):
        part, names = image[start : start + _BATCH].to(device()), keys[start : start + _BATCH]
        latents, losses = pipeline.encode(part), []
        with pipeline.conditioned(pipeline.identity_tokens(part, condition)) as conditioning:
            for t in levels(number, pipeline.scheduler.config["num_train_timesteps"]):
                # Another stream at every level; none is the one that a restoration starts from.
                noise = pipeline.draw_noise(latents, [f"loss/{t}/{name}" for name in names])
                guess = pipeline.predict_noise(add_noise(pipeline.scheduler, latents, noise, t), t, conditioning)
                losses.append((noise - guess).square().flatten(1).mean(1).double())
        found.append(torch.stack(losses).mean(0).cpu().numpy())
    return np.concatenate(found)


def grey_levels(faces: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """(n,) float64, mean |face - restoration| of (n, H, W, 3) uint8 pictures."""
    difference = np.abs(faces.astype(np.int16) - restored.astype(np.int16))
    return np.asarray(difference.reshape(len(faces), -1).mean(axis=1), dtype=np.float64)


def stored_errors(experiment: Experiment, faces: Faces, timestep: int) -> np.ndarray:
    """(N,) the error of every face's stored restoration in grey levels; NaN of a face outside the protocol.

    Raises:
        AgfasError: the cues are not finished.
    """
    columns = faces.columns()
    judged = judged_rows(experiment, columns)
    store = cue_stores(experiment, columns, [timestep])[timestep]
    cues = store.join([str(key) for key in faces.keys], judged)
    errors = np.full(len(faces), np.nan)
    rows = np.flatnonzero(judged)
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        errors[part] = grey_levels(faces.images[part], cues[part])
    return errors


def separation(errors: np.ndarray, faces: Faces, domain: str) -> float:
    """AUC of the mean error of a domain's videos, taken as larger for attacks: what an error says by itself.

    Args:
        errors: (N,) of all faces.
        faces: the dataset.
        domain: its videos are ranked.
    """
    rows = np.flatnonzero((faces.domains == domain) & ~np.isnan(errors))
    if not len(rows):
        raise AgfasError(f"No face of the domain {domain} has a cue. Run `agfas cues` with the same configuration.")
    _, first, number = np.unique(faces.videos[rows].astype(str), return_index=True, return_inverse=True)
    means = np.bincount(number, errors[rows]) / np.bincount(number)
    return float(roc(faces.labels[rows][first], -means).auc())


def held_out(experiment: Experiment, faces: Faces, count: int) -> np.ndarray:
    """Live faces of the generator's domains whose persons it has not seen, `count` evenly spaced ones at most.

    Raises:
        AgfasError: there is none.
    """
    domains = experiment.generator.domains
    rows = faces.live(domains, ("dev", "test"))
    if not len(rows):
        raise AgfasError(
            f"No live face of {', '.join(domains)} is outside the split train, so no generator can be measured on"
            " faces that it has not seen. Prepare that dataset with a dev split."
        )
    return np.array(evenly_spaced(rows.tolist(), count))


def quality(experiment: Experiment, faces: Faces, count: int) -> Quality:
    """Measure the trained generator of an experiment.

    Raises:
        AgfasError: it is not trained, or its cues are not finished.
    """
    rows = held_out(experiment, faces, count)
    image, keys = to_unit_range(faces.images[rows]), [str(key) for key in faces.keys[rows]]
    pipeline: Any = load_maker(experiment)
    pipeline.to(device())
    losses = noise_loss(pipeline, image, keys)
    timestep = experiment.cue.timestep
    sweep = open_sweep(experiment, [timestep])
    parts = range(0, len(rows), _BATCH)
    restored = torch.cat(
        [sweep.restore(image[at : at + _BATCH], keys[at : at + _BATCH], [timestep])[timestep].cpu() for at in parts]
    )
    return Quality(
        parameters=sum(weights.numel() for weights in pipeline.unet.parameters()),
        steps=experiment.generator.loop.steps,
        noise_loss=float(losses.mean()),
        noise_error=float(losses.std(ddof=1) / len(losses) ** 0.5) if len(losses) > 1 else 0.0,
        restoration=float((image - restored).abs().mean()) * 127.5,
        errors=stored_errors(experiment, faces, timestep),
        faces=len(rows),
    )


def autoencoder_errors(experiment: Experiment, faces: Faces) -> np.ndarray:
    """As `stored_errors`, of the autoencoder alone."""
    return stored_errors(experiment, faces, AUTOENCODER)

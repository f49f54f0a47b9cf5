"""A generator's errors of noise prediction and restoration by t, conditioned on the right, a wrong and no identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dfg.pipeline import Conditioning, DeFakePipeline
from dfg.schedule import add_noise
from pipelines.data.faces import Faces
from pipelines.experiment.config import CueSettings, Experiment
from pipelines.pixels import to_unit_range
from pipelines.processes import device
from pipelines.progress import bar

CONDITIONS = ("identity", "wrong", "none")
HELD_OUT, OTHERS = "live, held out", "live, other domains"
"""Groups of live faces: of the generator's own domains, and of others."""

_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """Errors of n faces at one t under one condition; (n,) float32 each.

    Attributes:
        restoration: mean |face - restoration| over pixels, in grey levels (0 to 255).
        latent: mean squared difference between the latents of face and restoration: Theorem 1's error.
        noise: mean squared error of the noise predicted from z_t: Assumption 1's error.
        similarity: cosine between the mean-pooled identity tokens of face and restoration; NaN without an encoder.
    """

    restoration: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Subjects:
    """The encodings of n faces.

    Attributes:
        image: (n, 3, H, W) in [-1, 1].
        latents, noise: (n, C, h, w); the noise of each face's key, the same at every t and condition.
        tokens: (n, N, D) by condition; `wrong` are the tokens of the face half the group away, another person.
        pooled: (n, D) unit vectors of the mean-pooled identity tokens, or None without an encoder.
        cameras: (n,) domains.
        persons: (n,) subjects.
    """

    image: torch.Tensor
    latents: torch.Tensor
    noise: torch.Tensor
    tokens: dict[str, torch.Tensor]
    pooled: torch.Tensor | None
    cameras: np.ndarray
    persons: np.ndarray


Found = dict[str, dict[tuple[int, str], Measured]]
"""Measurements by group, then by (timestep, condition)."""


def groups_of(experiment: Experiment, faces: Faces, count: int) -> dict[str, np.ndarray]:
    """Indices of held-out live faces of the generator's domains, and of the other domains' live faces and attack types.

    Args:
        experiment: names the generator's domains.
        faces: the dataset.
        count: faces of each group at most, evenly spaced over the group; a group of one face is left out.
    """
    own = np.isin(faces.domains, experiment.generator.domains)
    groups = {HELD_OUT: faces.live(experiment.generator.domains, ("dev", "test"))}
    for kind in sorted(set(faces.attack_types[~own])):
        name = OTHERS if kind == "none" else kind
        groups[name] = np.flatnonzero(~own & (faces.attack_types == kind))
    return {name: _spread(indices, count) for name, indices in groups.items() if len(indices) > 1}


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    if len(indices) <= count:
        return indices
    return indices[np.arange(count) * len(indices) // count]


def conditions_of(pipeline: DeFakePipeline) -> tuple[str, ...]:
    """The conditions that the pipeline supports."""
    return CONDITIONS if pipeline.identity_encoder is not None else ("none",)


@torch.no_grad()
def open_subjects(pipeline: DeFakePipeline, faces: Faces, indices: np.ndarray, seed: int) -> Subjects:
    """Encode the faces at `indices`."""
    image = to_unit_range(faces.images[indices])
    parts = [part.to(device()) for part in image.split(_BATCH)]
    latents = torch.cat([pipeline.encode(part) for part in parts])
    noise = pipeline.draw_noise(latents, [str(key) for key in faces.keys[indices]], seed=seed)
    tokens = {"none": torch.cat([pipeline.identity_tokens(part, "none") for part in parts])}
    pooled = None
    if pipeline.identity_encoder is not None:
        tokens["identity"] = torch.cat([pipeline.identity_tokens(part) for part in parts])
        tokens["wrong"] = tokens["identity"].roll(len(image) // 2, dims=0)
        pooled = torch.cat([pooled_identity(pipeline, part) for part in parts])
    own = faces.domains[indices], faces.subjects[indices]
    return Subjects(image.to(device()), latents, noise, tokens, pooled, *own)


@torch.no_grad()
def measure(
    pipeline: DeFakePipeline,
    subjects: Subjects,
    timesteps: Sequence[int],
    cue: CueSettings,
    after_each: Callable[[], object] = lambda: None,
) -> dict[tuple[int, str], Measured]:
    """Errors by (t, condition), without guidance; `after_each` is called after each pair."""
    found = {}
    for condition in conditions_of(pipeline):
        pieces: dict[int, list[tuple[torch.Tensor, ...]]] = {timestep: [] for timestep in timesteps}
        for start in range(0, len(subjects.image), _BATCH):
            part = slice(start, start + _BATCH)
            with pipeline.conditioned(subjects.tokens[condition][part]) as conditioning:
                for timestep in timesteps:
                    pieces[timestep].append(_measure_batch(pipeline, subjects, part, conditioning, timestep, cue))
        for timestep in timesteps:
            columns = [torch.cat(values).cpu().numpy() for values in zip(*pieces[timestep], strict=True)]
            found[timestep, condition] = Measured(*columns)
            after_each()
    return found


def measure_all(
    pipeline: DeFakePipeline, subjects: dict[str, Subjects], timesteps: Sequence[int], experiment: Experiment
) -> Found:
    """Errors of every group, with a progress bar."""
    total = len(subjects) * len(timesteps) * len(conditions_of(pipeline))
    with bar(total, "inspect", unit="setting") as progress:
        return {
            group: measure(pipeline, some, timesteps, experiment.cue, progress.update)
            for group, some in subjects.items()
        }


def row_of(group: str, timestep: int, condition: str, measured: Measured) -> dict[str, Any]:
    """A row of inspect.csv: means, and their standard errors over faces."""
    similarity = float(measured.similarity.mean())
    return {
        "group": group,
        "timestep": timestep,
        "condition": condition,
        "mean_abs_error": round(float(measured.restoration.mean()), 3),
        "standard_error": round(_standard_error(measured.restoration), 3),
        "noise_error": round(float(measured.noise.mean()), 5),
        "noise_standard_error": round(_standard_error(measured.noise), 5),
        "identity_similarity": None if np.isnan(similarity) else round(similarity, 4),
        "faces": len(measured.restoration),
    }


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def _measure_batch(
    pipeline: DeFakePipeline,
    subjects: Subjects,
    part: slice,
    conditioning: Conditioning,
    timestep: int,
    cue: CueSettings,
) -> tuple[torch.Tensor, ...]:
    """The fields of `Measured` of one batch."""
    image, latents, noise = subjects.image[part], subjects.latents[part], subjects.noise[part]
    noisy = add_noise(pipeline.scheduler, latents, noise, timestep)
    guess = pipeline.predict_noise(noisy, timestep, conditioning)
    restored = pipeline.restore_latents(
        latents,
        conditioning,
        timestep,
        cue.num_inference_steps,
        noise,
        sampler=cue.scheduler,
        calls=cue.calls,
    )
    picture = pipeline.decode(restored)
    similarity = torch.full((len(image),), torch.nan)
    if subjects.pooled is not None:
        similarity = (pooled_identity(pipeline, picture) * subjects.pooled[part]).sum(1)
    return (
        _mean((image - picture).abs()) * 127.5,
        _mean((latents - restored).square()),
        _mean((noise - guess).square()),
        similarity,
    )


def pooled_identity(pipeline: DeFakePipeline, image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> unit vectors (B, D), the means of the faces' identity tokens."""
    encoder = pipeline.identity_encoder
    return F.normalize(encoder(image.to(encoder.device)).float().mean(1)).to(image.device)


def strangers_distance(subjects: Subjects) -> float:
    """Root mean square difference between the latents of two people: the error of restoring from nothing."""
    others = subjects.latents.roll(len(subjects.latents) // 2, dims=0)
    return float((subjects.latents - others).square().mean().sqrt())


def strangers_similarity(subjects: Subjects) -> float | None:
    """Mean cosine between the identities of two people, the baseline of `similarity`; None without an encoder."""
    if subjects.pooled is None:
        return None
    return float((subjects.pooled * subjects.pooled.roll(len(subjects.pooled) // 2, dims=0)).sum(1).mean())


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).mean(1)

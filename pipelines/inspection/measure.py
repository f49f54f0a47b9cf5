"""How well a generator predicts noise and restores faces, by t, with the right, a wrong and no identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from dfg.pipeline import Conditioning, DeFakePipeline
from dfg.schedule import add_noise
from pipelines.data.faces import Faces
from pipelines.experiment.config import CueSettings
from pipelines.pixels import to_unit_range
from pipelines.processes import device

CONDITIONS = ("identity", "wrong", "none")
_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """Some faces under one t and one condition; (n,) float32 each.

    Attributes:
        restoration: mean |face - restored| over pixels in grey levels of 255.
        latent: mean squared difference of the latents before and after: Theorem 1's error.
        noise: mean squared error of the noise predicted in z_t: Assumption 1's error.
        similarity: cosine of the mean-pooled identity tokens of face and restoration; NaN without an encoder.
    """

    restoration: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Subjects:
    """Some faces, encoded once.

    Attributes:
        image: (n, 3, H, W) in [-1, 1].
        latents, noise: (n, C, h, w); the noise is the one of each face's key, the same at every t and condition.
        tokens: (n, N, D) by condition; `wrong` are those of the face half the group away, which is another person.
        pooled: (n, D) unit vectors of the mean-pooled identity tokens, or None without an encoder.
        cameras: (n,) the faces' domains.
        persons: (n,) their subjects.
    """

    image: torch.Tensor
    latents: torch.Tensor
    noise: torch.Tensor
    tokens: dict[str, torch.Tensor]
    pooled: torch.Tensor | None
    cameras: np.ndarray
    persons: np.ndarray


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
    """Every t under every condition, without guidance; `after_each` is called after each of them."""
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


def _measure_batch(
    pipeline: DeFakePipeline,
    subjects: Subjects,
    part: slice,
    conditioning: Conditioning,
    timestep: int,
    cue: CueSettings,
) -> tuple[torch.Tensor, ...]:
    """The fields of `Measured` for some faces, in their order."""
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
    """(B, 3, H, W) in [-1, 1] -> unit vectors (B, D): the mean of a face's identity tokens."""
    encoder = pipeline.identity_encoder
    return F.normalize(encoder(image.to(encoder.device)).float().mean(1)).to(image.device)


def strangers_distance(subjects: Subjects) -> float:
    """Root mean square difference between the latents of two people: what a restoration from nothing would miss by."""
    others = subjects.latents.roll(len(subjects.latents) // 2, dims=0)
    return float((subjects.latents - others).square().mean().sqrt())


def strangers_similarity(subjects: Subjects) -> float | None:
    """Mean cosine between the identities of two people: what a similarity is to be held against."""
    if subjects.pooled is None:
        return None
    return float((subjects.pooled * subjects.pooled.roll(len(subjects.pooled) // 2, dims=0)).sum(1).mean())


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).mean(1)

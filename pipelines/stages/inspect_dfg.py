"""`agfas inspect-dfg`: how well the generator restores faces by t, with the right, a wrong and no identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dfg.pipeline import DeFakePipeline
from pipelines.config import Experiment
from pipelines.data.faces import Faces, to_tensor_range
from pipelines.files import csv_text, write_text
from pipelines.processes import device
from pipelines.progress import bar
from pipelines.stages import faces as faces_stage
from pipelines.stages import train_dfg

CONDITIONS = ("identity", "wrong", "none")
_BATCH = 64


def run(experiment: Experiment, timesteps: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Restore held-out live faces and attacks under every condition; prints and writes `inspect.csv`.

    Args:
        experiment: its generator is trained first if it is not there.
        timesteps: on the sampler's grid.
        count: faces of each group at most, evenly spaced over the group.

    Returns:
        A row per group, t and condition: mean |x - restored| over pixels in grey levels of 255, its standard error
        over faces, and the number of faces.
    """
    faces = faces_stage.run(experiment)
    folder = train_dfg.run(experiment, faces)
    pipeline, _ = train_dfg.load_generator(folder)
    pipeline.to(device())
    groups = _groups(experiment, faces, count)
    conditions = CONDITIONS if pipeline.identity_encoder is not None else ("none",)
    rows = []
    with bar(len(groups) * len(timesteps) * len(conditions), "restore", unit="setting") as progress:
        for group, indices in groups.items():
            for timestep in timesteps:
                for condition in conditions:
                    errors = restoration_errors(pipeline, faces, indices, timestep, condition, experiment)
                    rows.append(_row(group, timestep, condition, errors))
                    progress.update(1)
    text = csv_text(rows)
    write_text(folder / "inspect.csv", text)
    print(text)
    return rows


def restoration_errors(
    pipeline: DeFakePipeline,
    faces: Faces,
    indices: np.ndarray,
    timestep: int,
    condition: str,
    experiment: Experiment,
) -> np.ndarray:
    """Mean |x - restored| of each face in grey levels, (n,); the same noise under every condition.

    `wrong` gives each face the tokens of the face half the group away, which is another person.
    """
    errors = []
    images = torch.from_numpy(to_tensor_range(faces.images[indices]))
    strangers = images.roll(len(images) // 2, dims=0)
    for start in range(0, len(indices), _BATCH):
        part = slice(start, start + _BATCH)
        image = images[part].to(device())
        told = strangers[part].to(device()) if condition == "wrong" else image
        tokens = pipeline.identity_tokens(told, "none" if condition == "none" else "identity")
        latents = pipeline.encode(image)
        keys = [str(key) for key in faces.keys[indices[part]]]
        noise = pipeline.draw_noise(latents, keys, seed=experiment.cue.seed)
        steps = experiment.cue.num_inference_steps
        restored = pipeline.decode(pipeline.restore_latents(latents, tokens, timestep, steps, noise))
        errors.append((image - restored).abs().mean(dim=(1, 2, 3)).cpu().numpy() * 127.5)
    return np.concatenate(errors)


def _groups(experiment: Experiment, faces: Faces, count: int) -> dict[str, np.ndarray]:
    """Live faces of the generator's domains that it was not trained on, and each kind of face of the others."""
    own = np.isin(faces.domains, experiment.generator.domains)
    groups = {"live, held out": faces.live(experiment.generator.domains, ("dev", "test"))}
    for kind in sorted(set(faces.attack_types[~own])):
        name = "live, other domains" if kind == "none" else kind
        groups[name] = np.flatnonzero(~own & (faces.attack_types == kind))
    return {name: _spread(indices, count) for name, indices in groups.items() if len(indices) > 1}


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    if len(indices) <= count:
        return indices
    return indices[np.arange(count) * len(indices) // count]


def _row(group: str, timestep: int, condition: str, errors: np.ndarray) -> dict[str, Any]:
    return {
        "group": group,
        "timestep": timestep,
        "condition": condition,
        "mean_abs_error": round(float(errors.mean()), 3),
        "standard_error": round(float(errors.std(ddof=1) / len(errors) ** 0.5), 3),
        "faces": len(errors),
    }

"""`agfas inspect-dfg`: what the generator learned, both sides of the paper's theorems by t, and the t they speak for.

Into the generator's run folder: inspect.csv (errors by group, t and condition), inspect_theorems.csv (a row per t),
inspect.json (both, with the rule and the proposal) and inspect.svg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfg.pipeline import DeFakePipeline
from pipelines.artefacts import load_maker
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import csv_text, write_json, write_text
from pipelines.inspection.cameras import fit_cameras, mean_divergence, mean_floor
from pipelines.inspection.measure import (
    Measured,
    Subjects,
    conditions_of,
    measure,
    open_subjects,
    strangers_distance,
    strangers_similarity,
)
from pipelines.inspection.plot import as_svg, inspection_figure
from pipelines.inspection.proposal import RULE, Theorems, propose
from pipelines.processes import device
from pipelines.progress import bar
from pipelines.stages import faces as faces_stage
from pipelines.stages import train_dfg

HELD_OUT, OTHERS = "live, held out", "live, other domains"

Found = dict[str, dict[tuple[int, str], Measured]]


def run(experiment: Experiment, timesteps: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Measure held-out live faces and attacks under every condition; prints and writes what came out.

    Args:
        experiment: its generator is trained first if it is not there.
        timesteps: on the sampler's grid.
        count: faces of each group at most, evenly spaced over the group.

    Returns:
        The rows of inspect.csv, one per group, t and condition: mean |x - restored| over pixels in grey levels of 255
        with its standard error over faces, mean squared error of the predicted noise with its own, mean cosine of
        the identity before and after, and the number of faces.
    """
    _check_maker(experiment)
    faces = faces_stage.run(experiment)
    folder = train_dfg.run(experiment, faces)
    pipeline: Any = load_maker(experiment)
    pipeline.to(device())
    groups = _groups(experiment, faces, count)
    subjects = {name: open_subjects(pipeline, faces, rows, experiment.cue.seed) for name, rows in groups.items()}
    found = _measure_all(pipeline, subjects, timesteps, experiment)
    rows = [
        _row(group, timestep, condition, measured)
        for group, settings in found.items()
        for (timestep, condition), measured in settings.items()
    ]
    curves = theorem_curves(pipeline, subjects, found, timesteps)
    _write(folder, rows, curves, subjects)
    _print(rows, curves)
    return rows


def print_plan(experiment: Experiment, timesteps: Sequence[int], count: int) -> None:
    """What would be measured, and whether the generator is there; makes nothing."""
    _check_maker(experiment)
    workspace = Workspace(experiment)
    there = workspace.generator_state() if workspace.faces.is_dir() else "nothing made yet, nor any faces"
    print(f"at most {count} faces of each group at t = {', '.join(map(str, timesteps))}; {there}")


def _check_maker(experiment: Experiment) -> None:
    if experiment.generator.name != "dfg":
        raise AgfasError(f"inspect-dfg measures the generator dfg, not {experiment.generator.name} (generator.name).")


def theorem_curves(
    pipeline: DeFakePipeline, subjects: dict[str, Subjects], found: Found, timesteps: Sequence[int]
) -> list[Theorems]:
    """Both sides of the trade-off at each t; none where no domain has both live faces and attacks.

    Theorem 1 is about faces like those of the training, so its side is measured on the generator's own domains where
    some are held out. Theorem 2 compares live and attack faces camera by camera, and takes the mean.
    """
    live, attacks = _sides(subjects)
    cameras = fit_cameras(live, list(attacks.values())) if live and attacks else []
    if not cameras:
        return []
    restored = HELD_OUT if HELD_OUT in subjects else OTHERS
    told = conditions_of(pipeline)[0]
    whole = mean_divergence(cameras, abar=1.0)
    stranger = strangers_distance(subjects[restored])
    curves = []
    for timestep in timesteps:
        abar = float(pipeline.scheduler.alphas_cumprod[timestep])
        error = float(np.sqrt(found[restored][timestep, told].latent.mean()))
        kl = mean_divergence(cameras, abar)
        curves.append(
            Theorems(
                timestep=timestep,
                live_error=error,
                lost=error / stranger,
                kl=kl,
                kl_floor=mean_floor(cameras, abar),
                removed=1 - kl / whole,
                separation=_separation(found, attacks, timestep, told),
            )
        )
    return curves


def _sides(subjects: dict[str, Subjects]) -> tuple[Subjects | None, dict[str, Subjects]]:
    """Live faces and attacks of the same cameras; the generator's own live faces where the others have none."""
    attacks = {name: some for name, some in subjects.items() if name not in (HELD_OUT, OTHERS)}
    return subjects.get(OTHERS) or subjects.get(HELD_OUT), attacks


def _separation(found: Found, attacks: dict[str, Subjects], timestep: int, told: str) -> float:
    live = found[OTHERS if OTHERS in found else HELD_OUT][timestep, told].restoration
    attack = np.concatenate([found[name][timestep, told].restoration for name in attacks])
    pooled = np.sqrt((live.var(ddof=1) + attack.var(ddof=1)) / 2)
    return float((attack.mean() - live.mean()) / pooled)


def _measure_all(
    pipeline: DeFakePipeline, subjects: dict[str, Subjects], timesteps: Sequence[int], experiment: Experiment
) -> Found:
    total = len(subjects) * len(timesteps) * len(conditions_of(pipeline))
    with bar(total, "inspect", unit="setting") as progress:
        return {
            group: measure(pipeline, some, timesteps, experiment.cue, progress.update)
            for group, some in subjects.items()
        }


def _groups(experiment: Experiment, faces: Faces, count: int) -> dict[str, np.ndarray]:
    """Live faces of the generator's domains that it was not trained on, and each kind of face of the others."""
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


def _row(group: str, timestep: int, condition: str, measured: Measured) -> dict[str, Any]:
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


def _write(folder: Path, rows: list[dict[str, Any]], curves: list[Theorems], subjects: dict[str, Subjects]) -> None:
    proposed = propose(curves)
    summary = {
        "rule": RULE,
        "proposed_timestep": proposed,
        "theorems": [one.row() for one in curves],
        "errors": rows,
        "identity_similarity_of_strangers": {name: strangers_similarity(some) for name, some in subjects.items()},
    }
    write_json(folder / "inspect.json", summary)
    write_text(folder / "inspect.csv", csv_text(rows))
    if curves:
        write_text(folder / "inspect_theorems.csv", csv_text([one.row() for one in curves]))
    write_text(folder / "inspect.svg", as_svg(inspection_figure(rows, curves, proposed)))


def _print(rows: list[dict[str, Any]], curves: list[Theorems]) -> None:
    print(csv_text(rows))
    if curves:
        print(csv_text([one.row() for one in curves]))
        print(f"Proposed t = {propose(curves)}: the {RULE}.")
    else:
        print("No t is proposed: no domain has both attacks and live faces to set beside them.")

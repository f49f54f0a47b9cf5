"""`agfas inspect-dfg`: the generator's errors by t, both sides of the paper's trade-off on t, and a proposed t.

Writes to the generator's run folder: inspect.csv (errors by group, t and condition), inspect_theorems.csv (a row per
t), inspect.json (both, with the rule and the proposed t) and inspect.svg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artefacts.runs import load_maker
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import csv_text, write_json, write_text
from pipelines.processes import say

if TYPE_CHECKING:
    from pipelines.inspection.theorems import Theorems


def run(experiment: Experiment, timesteps: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Measure held-out live faces and attacks under every condition; print and write the results.

    All processes train the generator; the main one alone measures.

    Args:
        experiment: its generator is trained first if it is not finished.
        timesteps: on the sampler's grid.
        count: faces of each group at most, evenly spaced over the group.

    Returns:
        The rows of inspect.csv, one per group, t and condition: restoration error (grey levels) and noise-prediction
        error with their standard errors over faces, cosine of the identity, number of faces. Other processes than
        the main one return none.
    """
    from pipelines.artefacts.faces import make_faces
    from pipelines.inspection.measure import groups_of, measure_all, open_subjects, row_of, strangers_similarity
    from pipelines.inspection.theorems import theorem_curves
    from pipelines.processes import device, is_main
    from pipelines.stages import train_dfg

    _check_maker(experiment)
    train_dfg.check_options(experiment)
    faces = make_faces(experiment)
    folder = train_dfg.run(experiment, faces)
    if not is_main():
        return []
    pipeline: Any = load_maker(experiment)
    pipeline.to(device())
    groups = groups_of(experiment, faces, count)
    subjects = {name: open_subjects(pipeline, faces, rows, experiment.cue.seed) for name, rows in groups.items()}
    found = measure_all(pipeline, subjects, timesteps, experiment)
    rows = [
        row_of(group, timestep, condition, measured)
        for group, settings in found.items()
        for (timestep, condition), measured in settings.items()
    ]
    curves = theorem_curves(pipeline, subjects, found, timesteps)
    strangers = {name: strangers_similarity(some) for name, some in subjects.items()}
    _write(folder, rows, curves, strangers)
    return rows


def print_plan(experiment: Experiment, timesteps: Sequence[int], count: int) -> None:
    """Print what would be measured and whether the generator is trained; nothing is created."""
    _check_maker(experiment)
    workspace = Workspace(experiment)
    there = workspace.generator_state() if workspace.faces.is_dir() else "nothing made yet, nor any faces"
    say(f"at most {count} faces of each group at t = {', '.join(map(str, timesteps))}; {there}")


def _check_maker(experiment: Experiment) -> None:
    if experiment.generator.name != "dfg":
        raise AgfasError(f"inspect-dfg measures generator.name = dfg, not {experiment.generator.name}.")


def _write(
    folder: Path, rows: list[dict[str, Any]], curves: list[Theorems], strangers: dict[str, float | None]
) -> None:
    """Write the files and print the tables; `strangers` is the similarity of two people by group."""
    from pipelines.inspection.figure import as_svg, inspection_figure
    from pipelines.inspection.theorems import RULE, propose

    proposed, theorems = propose(curves), [one.row() for one in curves]
    write_json(
        folder / "inspect.json",
        {
            "rule": RULE,
            "proposed_timestep": proposed,
            "theorems": theorems,
            "errors": rows,
            "identity_similarity_of_strangers": strangers,
        },
    )
    write_text(folder / "inspect.csv", csv_text(rows))
    write_text(folder / "inspect.svg", as_svg(inspection_figure(rows, curves, proposed)))
    say(csv_text(rows))
    if curves:
        write_text(folder / "inspect_theorems.csv", csv_text(theorems))
        say(csv_text(theorems))
        say(f"Proposed t = {proposed}: the {RULE}.")
    else:
        say("No t is proposed: no domain has both live faces and attacks.")

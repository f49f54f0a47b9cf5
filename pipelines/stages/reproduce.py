"""`agfas reproduce`: print what a table needs, run what is missing, and write the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.cost.parts import Part, parts_of
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_text
from pipelines.processes import is_main, require_shared, say
from pipelines.reproduce.ground import Ground, folds_on
from pipelines.reproduce.request import Asked, make_recipe, plan_lines
from pipelines.reproduce.rows import PlannedRow, Recipe, plan_rows


def run(asked: Asked, jobs: int = 1, echo: Callable[[str], Any] = say) -> Path | None:
    """Print what a table needs, run what is missing, and write the table.

    Returns:
        The Markdown file, of the main process.

    Raises:
        AgfasError: an unknown table, row, domain or scale.
    """
    recipe = make_recipe(asked)
    rows = plan_rows(recipe, asked.only)
    echo("\n".join(plan_lines(recipe, rows)))
    _run_rows(recipe, rows, jobs)
    return _write(recipe, rows, echo) if is_main() else None


def plan(asked: Asked, echo: Callable[[str], Any] = say) -> list[Part]:
    """Print what a table needs; returns the parts of its rows, also of those that wait for a dataset."""
    recipe = make_recipe(asked)
    rows = plan_rows(recipe, asked.only)
    echo("\n".join(plan_lines(recipe, rows)))
    return parts_of_rows(rows, recipe.ground)


def parts_of_rows(rows: Sequence[PlannedRow], ground: Ground) -> list[Part]:
    """The work of some rows; what they share is counted once."""
    planned = [row for row in rows if row.waits or not row.absent]
    return parts_of(
        (item.experiment, folds_on(row.protocol, ground.domains)) for row in planned for item in row.planned
    )


def _run_rows(recipe: Recipe, rows: list[PlannedRow], jobs: int) -> None:
    from pipelines.data.join import join_faces
    from pipelines.stages import sweep

    planned = [item for row in rows if not row.absent for item in row.planned]
    if not planned:
        return
    require_shared(recipe.root)
    for folders in (recipe.ground.folders, recipe.ground.live_folders):
        if len(folders) > 1:
            join_faces(folders, recipe.joined(folders))
    sweep.run_planned(planned, jobs)


def _judge_again(rows: list[PlannedRow]) -> None:
    """Judge kept scores again if an older version of the rules did, also of rows left out by --only; takes seconds."""
    from pipelines.evaluation.judge import write_result

    for experiment in (item.experiment for row in rows for item in row.planned):
        workspace = Workspace(experiment)
        if workspace.faces.is_dir() and (workspace.detector() / "result.json").is_file():
            write_result(workspace.detector(), experiment.evaluate)


def _write(recipe: Recipe, rows: list[PlannedRow], echo: Callable[[str], Any]) -> Path:
    from pipelines.report.summary import summary
    from pipelines.reproduce.printing import as_csv, as_markdown
    from pipelines.reproduce.values import both_sides

    _judge_again(rows)
    made = both_sides(recipe, rows)
    path = recipe.root / "tables" / f"{recipe.table.table.replace('/', '-')}.md"
    text = as_markdown(made)
    write_text(path, text)
    write_text(path.with_suffix(".csv"), as_csv(made))
    planned = [item for row in rows if not row.absent for item in row.planned]
    short = f"\n{summary(planned)}\n" if planned else ""
    echo(f"\n{text}{short}\nTable: {path} and {path.with_suffix('.csv').name}; all runs: agfas report {recipe.root}")
    return path

"""`agfas reproduce`: what a table needs, what it would cost, the runs that are missing, and the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import AgfasError, nearest
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_text
from pipelines.processes import is_main
from pipelines.reproduce import ground as grounds
from pipelines.reproduce.cost import describe, rates_of
from pipelines.reproduce.ground import SYNTHETIC, Ground
from pipelines.reproduce.numbers import read_papers
from pipelines.reproduce.rows import PlannedRow, Recipe, plan_rows, takes_live
from pipelines.reproduce.settings import FOLDER, PaperSettings, TableChoice, read_table, table_names
from pipelines.reproduce.work import work_of

SCALES = ("full", "small")


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        table: such as `agfas/IV`.
        on: `synthetic`, or folders of prepared datasets; the paper's own data where empty.
        names: `PLACE=DOMAIN` pairs.
        only: rows to run; all where empty.
        seeds: comma-separated, or None for the settings'.
        scale: one of `SCALES`, or None.
        data: where the paper's datasets lie prepared.
        output: folder for everything that is made, or None.
        configs: folder of the tables' settings.
        overrides: `key=value` for every experiment.
    """

    table: str
    on: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: str | None = None
    scale: str | None = None
    data: Path = Path("data")
    output: Path | None = None
    configs: Path = FOLDER
    overrides: tuple[str, ...] = ()


def run(asked: Asked, jobs: int = 1, dry_run: bool = False, tell: Callable[[str], Any] = print) -> Path | None:
    """Tell what is needed and what it costs, run what is missing, and write the table.

    Returns:
        The Markdown file; None for a dry run.

    Raises:
        AgfasError: an unknown table, row, domain or scale.
    """
    recipe = make_recipe(asked)
    _check_rows(asked, recipe.table)
    rows = plan_rows(recipe, asked.only)
    if dry_run or is_main():
        tell("\n".join(plan_lines(recipe, rows)))
    if dry_run:
        return None
    _run_rows(recipe, rows, jobs)
    return _write(recipe, rows, tell) if is_main() else None


def listing(configs: Path = FOLDER) -> list[str]:
    """A line on every table: its name, title, protocol and the datasets that it needs."""
    lines = []
    for name in table_names(configs):
        choice, settings = read_table(name, configs)
        datasets = ", ".join(settings.protocols[choice.protocol].names())
        runnable = sum(not row.absent for row in choice.rows.values())
        lines.append(
            f"{name:14} {read_papers().table(name).title} ({choice.protocol}; {runnable} of {len(choice.rows)} rows;"
            f" {datasets})"
        )
    return lines or [f"{configs} holds no table. Give --configs the folder configs/paper that comes with the project."]


def make_recipe(asked: Asked) -> Recipe:
    """The table's choices on the asked data at the asked size."""
    table, settings = read_table(asked.table, asked.configs)
    ground = _ground(asked, table, settings)
    scale = asked.scale or ("full" if ground.own else "small")
    if scale not in SCALES:
        raise AgfasError(f"--scale {scale}: {nearest(scale, SCALES)}")
    size = settings.small if scale == "small" else settings.full
    kind = "paper" if ground.own else SYNTHETIC if not ground.folders else "other"
    root = asked.output or Path("runs") / f"reproduce-{kind}"
    return Recipe(
        table, settings, size, scale == "small", ground, root, _seeds(asked.seeds) or size.seeds,
        tuple(_override(text) for text in asked.overrides),
    )  # fmt: skip


def plan_lines(recipe: Recipe, rows: list[PlannedRow]) -> list[str]:
    """What the table needs, which rows are run, and what that costs."""
    title = f"{recipe.table.table}: {read_papers().table(recipe.table.table).title}, on {recipe.ground.title}"
    lines = [title, *_needs(recipe.ground)]
    places = ", ".join(f"{name} = {domain}" for name, domain in recipe.ground.domains.items())
    if not recipe.ground.own:
        lines.append(f"In the places of the paper's datasets: {places}. Nothing here is comparable with the paper.")
    lines += [f"row {row.label}: {row.absent or _counted(len(row.planned))}" for row in rows]
    lines += describe(work_of(rows, recipe.ground), rates_of(recipe.root, recipe.size.rates))
    return [*lines, f"Output: {recipe.root}"]


def _counted(experiments: int) -> str:
    return f"{experiments} experiment" + ("s" if experiments > 1 else "")


def _needs(ground: Ground) -> list[str]:
    lines = []
    for item in ground.needed:
        state = f"found at {item.place}" if item.found else f"missing: {item.place}"
        optional = "" if item.required or item.found else "; the rest is run without it"
        lines.append(f"needs {item.name}: {state}{optional}" + (f" ({item.how})" if item.how else ""))
    if ground.missing:
        names = ", ".join(item.name for item in ground.missing)
        lines.append(
            f"Nothing is run: {names} missing. --on synthetic, or --on FOLDER of prepared datasets, runs the same rows"
            " on other data."
        )
    return lines


def _ground(asked: Asked, table: TableChoice, settings: PaperSettings) -> Ground:
    choice = settings.protocols[table.protocol]
    names = dict(_pair(text) for text in asked.names)
    if not asked.on:
        if names:
            raise AgfasError("--map names domains of other data: give them with --on.")
        used = {table.protocol, *(row.protocol for row in table.rows.values() if row.protocol)}
        protocols = [settings.protocols[name] for name in used]
        return grounds.own(protocols, settings, asked.data, takes_live(table, settings))
    if asked.on == (SYNTHETIC,):
        return grounds.benchmark(choice, settings, names)
    if SYNTHETIC in asked.on:
        raise AgfasError("--on takes either synthetic or folders of prepared datasets, not both.")
    return grounds.given(choice, settings, [Path(folder) for folder in asked.on], names)


def _run_rows(recipe: Recipe, rows: list[PlannedRow], jobs: int) -> None:
    from pipelines.data.join import join_faces
    from pipelines.stages import sweep

    planned = [item for row in rows if not row.absent for item in row.planned]
    if not planned:
        return
    for folders in (recipe.ground.folders, recipe.ground.live_folders):
        if len(folders) > 1:
            join_faces(folders, recipe.joined(folders))
    sweep.run_planned(planned, jobs)


def _judge_again(rows: list[PlannedRow]) -> None:
    """Bring results up to today's rules that earlier code judged, also those of rows that were not asked for.

    Nothing is trained or scored: a result follows from the scores that were kept.
    """
    from pipelines.evaluation.judge import write_result

    for experiment in (item.experiment for row in rows for item in row.planned):
        workspace = Workspace(experiment)
        if workspace.faces.is_dir() and (workspace.detector() / "result.json").is_file():
            write_result(workspace.detector(), experiment.evaluate)


def _write(recipe: Recipe, rows: list[PlannedRow], tell: Callable[[str], Any]) -> Path:
    from pipelines.report.summary import summary
    from pipelines.reproduce.export import as_csv
    from pipelines.reproduce.printing import as_markdown
    from pipelines.reproduce.sides import both_sides

    _judge_again(rows)
    made = both_sides(recipe, rows)
    path = recipe.root / "tables" / f"{recipe.table.table.replace('/', '-')}.md"
    text = as_markdown(made)
    write_text(path, text)
    write_text(path.with_suffix(".csv"), as_csv(made))
    planned = [item for row in rows if not row.absent for item in row.planned]
    short = f"\n{summary(planned)}\n" if planned else ""
    tell(f"\n{text}{short}\nTable: {path} and {path.with_suffix('.csv').name}; all runs: agfas report {recipe.root}")
    return path


def _check_rows(asked: Asked, table: TableChoice) -> None:
    for label in asked.only:
        if label not in table.rows:
            raise AgfasError(f"--only '{label}': the table has no such row; {nearest(label, table.rows)}")


def _seeds(text: str | None) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        seeds = (-1,)
    if any(seed < 0 for seed in seeds):
        raise AgfasError(f"--seeds {text}: give whole numbers from 0 with commas, for example 0,1,2.")
    return tuple(dict.fromkeys(seeds))


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key or not value:
        raise AgfasError(f"--map {text}: write PLACE=DOMAIN, for example M=nuaa.")
    return key, value


def _override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign:
        raise AgfasError(f"'{text}' is no override. Write key=value, for example train.steps=50.")
    return key.strip(), yaml.safe_load(value)

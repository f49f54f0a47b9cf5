"""What the command line asks of `agfas reproduce`, as a recipe of a table, and the plan in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import AgfasError, nearest
from pipelines.experiment.file import read_override
from pipelines.reproduce import ground as grounds
from pipelines.reproduce.deviations import as_lines, deviations_of
from pipelines.reproduce.ground import SYNTHETIC, Ground
from pipelines.reproduce.papers import read_papers
from pipelines.reproduce.rows import PlannedRow, Recipe, takes_live
from pipelines.reproduce.settings import FOLDER, PaperSettings, TableChoice, read_table, table_names

SCALES = ("full", "small")


@dataclass(frozen=True)
class Asked:
    """The arguments of the command line.

    Attributes:
        table: such as `agfas/IV`.
        on: `synthetic`, or folders of prepared datasets; empty: the paper's own data.
        names: `PLACE=DOMAIN` pairs.
        only: rows to run; empty: all.
        seeds: comma-separated; default: the settings'.
        scale: one of `SCALES`; default: full on the paper's own data, else small.
        data: folder of the paper's datasets, prepared.
        output: output folder; default: runs/reproduce-KIND.
        configs: folder of the tables' configurations.
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


def listing(configs: Path = FOLDER) -> list[str]:
    """A line for every table: its name, title, protocol, number of rows and datasets."""
    lines = []
    for name in table_names(configs):
        choice, settings = read_table(name, configs)
        datasets = ", ".join(settings.protocols[choice.protocol].names())
        runnable = sum(not row.absent for row in choice.rows.values())
        lines.append(
            f"{name:14} {read_papers().table(name).title} ({choice.protocol}; {runnable} of {len(choice.rows)} rows;"
            f" {datasets})"
        )
    return lines or [f"{configs} holds no table. Set --configs to the folder configs/paper of the project."]


def make_recipe(asked: Asked) -> Recipe:
    """The recipe of the requested table, data and size.

    Raises:
        AgfasError: an unknown table, row, domain or scale, or another invalid argument.
    """
    table, settings = read_table(asked.table, asked.configs)
    for label in asked.only:
        if label not in table.rows:
            raise AgfasError(f"--only '{label}': unknown row; {nearest(label, table.rows)}")
    ground = _ground(asked, table, settings)
    scale = asked.scale or ("full" if ground.own else "small")
    if scale not in SCALES:
        raise AgfasError(f"--scale {scale}: {nearest(scale, SCALES)}")
    size = settings.small if scale == "small" else settings.full
    kind = "paper" if ground.own else SYNTHETIC if not ground.folders else "other"
    root = asked.output or Path("runs") / f"reproduce-{kind}"
    return Recipe(
        table, settings, size, scale == "small", ground, root, _seeds(asked.seeds) or size.seeds,
        tuple(read_override(text) for text in asked.overrides),
    )  # fmt: skip


def plan_lines(recipe: Recipe, rows: list[PlannedRow]) -> list[str]:
    """What the table needs, which rows are run, and what differs from the papers and their public code."""
    title = f"{recipe.table.table}: {read_papers().table(recipe.table.table).title}, on {recipe.ground.title}"
    lines = [title, *_needs(recipe.ground)]
    places = ", ".join(f"{name} = {domain}" for name, domain in recipe.ground.domains.items())
    if not recipe.ground.own:
        lines.append(f"In place of the paper's datasets: {places}. No number is comparable with the paper's.")
    lines += [f"row {row.title}: {row.absent or _counted(len(row.planned))}" for row in rows]
    differs = [f"differs: {line}" for line in as_lines(deviations_of(recipe.table.table, rows))]
    return [*lines, *differs, f"Output: {recipe.root}"]


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
            f"Nothing is run: {names} missing. Run the same rows on other data with --on synthetic, or with --on FOLDER"
            " of prepared datasets."
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

"""Detectors: trained, judged, compared, reported on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, DryRun, Jobs, Output, Overrides, read, run_stages


def train(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Train one detector for every fold of the protocol; what it needs is made first."""
    run_stages(config, overrides, output, dry_run, last="train")


def evaluate(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Score the trained detectors and judge the scores under every rule."""
    run_stages(config, overrides, output, dry_run, last="evaluate")


def sweep(
    config: Config, overrides: Overrides = None, output: Output = None, jobs: Jobs = 1, dry_run: DryRun = False
) -> None:
    """Run a grid of experiments, each thing they share made once, and report on them together."""
    from pipelines.stages import sweep as stage

    experiment = read(config, overrides, output)
    stage.print_plan(experiment) if dry_run else stage.run(experiment, jobs)


def quickstart(
    config: Annotated[Path, typer.Argument(help="Experiment to run whole.")] = Path("configs/quickstart.yaml"),
    overrides: Overrides = None,
    minutes: Annotated[float, typer.Option(help="Budget on two cores; training steps scale with it.")] = 15.0,
    output: Output = None,
    jobs: Jobs = 2,
    dry_run: DryRun = False,
) -> None:
    """The whole chain on the built-in benchmark, with a report at the end."""
    from pipelines.stages import quickstart as stage

    experiment = stage.scaled(read(config, overrides, output), minutes)
    stage.print_plan(experiment) if dry_run else stage.run(experiment, jobs)


def reproduce(
    table: Annotated[str | None, typer.Argument(help="Such as agfas/IV or kuznetsov/8; --list names all.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value for every experiment.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="Other data: synthetic, or a prepared dataset; may be repeated.")
    ] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="PLACE=DOMAIN: which of the other data stands for which dataset.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this row alone; may be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated; the settings' where not given.")] = None,
    scale: Annotated[str | None, typer.Option(help="full or small. [full on the paper's data, else small]")] = None,
    data: Annotated[Path, typer.Option(help="Where the paper's datasets lie prepared.")] = Path("data"),
    output: Output = None,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    list_: Annotated[bool, typer.Option("--list", help="Name every table and what it needs.")] = False,
    configs: Annotated[Path, typer.Option(help="Folder of the tables' settings.")] = Path("configs/paper"),
) -> None:
    """Make a paper's table again, with the paper's numbers and ours side by side."""
    from pipelines.stages import reproduce as stage

    if list_ or table is None:
        return typer.echo("\n".join(stage.listing(configs)))
    asked = stage.Asked(
        table, tuple(on or ()), tuple(map_ or ()), tuple(only or ()), seeds, scale, data, output, configs,
        tuple(overrides or ()),
    )  # fmt: skip
    stage.run(asked, jobs, dry_run, typer.echo)


def report(
    run: Annotated[Path, typer.Argument(help="The output folder of a quickstart, a sweep or a single experiment.")],
) -> None:
    """Write one self-contained HTML page about a run, and its table as CSV and Markdown."""
    from pipelines.stages import report as stage

    typer.echo(f"Report: {stage.run(run)}")

"""The generator and its cues: trained, inspected, cached, taken elsewhere, probed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, DryRun, Output, Overrides, read, run_stages


def train_dfg(config: Config, overrides: Overrides = None, output: Output = None, dry_run: DryRun = False) -> None:
    """Train the identity encoder and the de-fake face generator on live faces."""
    run_stages(config, overrides, output, dry_run, last="train-dfg")


def inspect_dfg(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str, typer.Option(help="Comma-separated t of the sampler's grid.")] = "201,401,601,801,999",
    count: Annotated[int, typer.Option(help="Faces of each group at most.")] = 128,
    dry_run: DryRun = False,
) -> None:
    """Measure how well faces are restored by t, with the right, a wrong and no identity."""
    from pipelines.stages import inspect_dfg as stage
    from pipelines.stages.cues import parse_timesteps

    experiment = read(config, overrides, output)
    chosen = parse_timesteps(timesteps, experiment)
    stage.print_plan(experiment, chosen, count) if dry_run else stage.run(experiment, chosen, count)


def cues(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    timesteps: Annotated[str | None, typer.Option(help="Several t in one run, e.g. 201,401.")] = None,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Every face of the dataset, not the protocol's alone.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Count what is done.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all shards; recompute a sample and compare.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Restore every face and cache the result."""
    from pipelines.stages import cues as stage

    experiment = read(config, overrides, output)
    chosen = stage.parse_timesteps(timesteps, experiment)
    if status or dry_run:
        stage.print_status(experiment, chosen, all_faces)
    elif verify:
        stage.verify(experiment, chosen, all_faces)
    else:
        stage.run_alone(experiment, chosen, all_faces)


def export_cues(
    store: Annotated[Path, typer.Argument(help="A finished cue store, as `agfas cues` names it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: parquet files and a dataset card, fit for the hub.")],
) -> None:
    """Write a cue store as parquet files that travel."""
    from pipelines.cues.exchange.outward import export_cues as export

    typer.echo(f"{export(store, out).count} cues: {out}")


def import_cues(
    folder: Annotated[Path, typer.Argument(help="What `agfas export-cues` wrote.")],
    root: Annotated[Path, typer.Argument(help="Folder of cue stores.")],
) -> None:
    """Make an exported cue store again, with equal bytes."""
    from pipelines.cues.exchange.inward import import_cues as bring

    typer.echo(f"Cues: {bring(folder, root)}")


def probe(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    against: Annotated[
        str | None, typer.Option(help="Label of a sweep whose cues all others are compared with.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Ask what each cue tells a logistic regression, before any detector is trained on it."""
    experiment = read(config, overrides, output)
    if dry_run:
        from pipelines.stages.chain import print_plan

        return print_plan(experiment)
    from pipelines.stages import probe as stage

    stage.run(experiment, against)

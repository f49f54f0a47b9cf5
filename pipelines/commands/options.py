"""Options that several commands share, and what they do with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.experiment.config import Experiment

Config = Annotated[Path, typer.Argument(help="Experiment, a YAML file; see configs/.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, e.g. cue.timestep=401.")]
Output = Annotated[Path | None, typer.Option(help="Folder for everything that is made.")]
Jobs = Annotated[int, typer.Option(help="Experiments trained at once, each with its share of the cores.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and each run's state; make nothing.")]

Run = Annotated[Path | None, typer.Option(help="The output folder of a quickstart, a sweep or a single experiment.")]
Label = Annotated[
    str | None, typer.Option(help="Which experiment of a run; the first with a generator's cue by default.")
]
Fold = Annotated[str | None, typer.Option(help="Which fold's detector of a run; the first by default.")]
FaceDetectorName = Annotated[str | None, typer.Option("--face-detector", help="Find faces with it, e.g. yunet.")]
Weights = Annotated[Path | None, typer.Option(help="The face detector's weights, a file or a folder.")]
ParsingWeights = Annotated[Path | None, typer.Option(help="Face parser's weights, for a cue with mask: face.")]


def read(config: Path, overrides: list[str] | None, output: Path | None) -> Experiment:
    """The experiment of a file, with what the command line says otherwise."""
    from pipelines.experiment.file import read_experiment

    given = list(overrides or [])
    if output is not None:
        given.append(f"output={output}")
    return read_experiment(config, given)


def run_stages(config: Path, overrides: list[str] | None, output: Path | None, dry_run: bool, last: str) -> None:
    """Run the chain up to the stage `last`, or print what would be run."""
    from pipelines.stages import chain

    experiment = read(config, overrides, output)
    chain.print_plan(experiment) if dry_run else chain.run(experiment, last)

"""`agfas config`: what can be configured, and the configurations that come with the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.shared import complete_config, complete_key


def config(
    key: Annotated[
        str | None,
        typer.Argument(
            help="A key such as cue.timestep, a block such as cue, or detector.name=oanet. Default: all.",
            autocompletion=complete_key,
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Print the shipped configurations and what each is for.")
    ] = False,
    path: Annotated[
        Path | None,
        typer.Option(help="Print where a shipped configuration lies.", autocompletion=complete_config),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of an experiment.")] = False,
) -> None:
    """Explain every key of a configuration: its type, default and meaning.

    \b
    Examples:
      agfas config cue
      agfas config train.schedule
      agfas config detector.name=oanet
      agfas config --list
      agfas config --schema > experiment.schema.json
    """
    from pipelines.experiment import keys, shipped

    if path is not None:
        typer.echo(shipped.find_config(path))
    elif list_:
        typer.echo("\n".join(shipped.listing()))
    elif schema:
        typer.echo(json.dumps(keys.json_schema(), indent=1, sort_keys=True))
    else:
        typer.echo("\n".join(keys.explained(key)))

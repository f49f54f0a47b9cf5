"""`agfas push`: the only command that sends anything out, and only what it has shown and was allowed to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[
        Path, typer.Argument(help="Of `agfas save-model`, `export` or `export-cues`, or a generator's `pipeline/`.")
    ],
    name: Annotated[str, typer.Argument(help="Repository of the hub, USER/NAME; it is made if it is new.")],
    public: Annotated[
        bool, typer.Option("--public", help="Everyone sees a new repository; needed to push to a public one, too.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="A branch, made if it is new. Default: main.")] = None,
    message: Annotated[str, typer.Option(help="First line of the commit.")] = "Upload by agfas",
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose it as a pull request.")] = False,
    licence_checked: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="A part that is withheld, whose licence you have read and which you may share; may be repeated.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be pushed, and make no request.")] = False,
) -> None:
    """Push a model, a generator or a parcel of cues to the Hugging Face hub.

    It shows files, licences and who will see them, and asks. A part that may not be shared stops it. The token is that
    of `hf auth login`, or HF_TOKEN. One push is one commit.

    \b
    Examples:
      agfas push model/ me/pad --dry-run
      agfas push exported/ me/pad-onnx --public --yes
      agfas push parcel/ me/cues --licence-checked faces
    """
    from pipelines.errors import AgfasError
    from pipelines.hub import Push
    from pipelines.stages import push as stage

    def confirm(question: str) -> bool:
        if not yes and not sys.stdin.isatty():
            raise AgfasError("Nothing was pushed: there is no terminal to ask at. Give --yes if this is what you want.")
        return yes or typer.confirm(question)

    how = Push(not public, None, message, create_pr)
    stage.run(folder, name, revision, how, licence_checked or (), None if dry_run else confirm, typer.echo)

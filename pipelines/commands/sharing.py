"""Commands that share: cues as parcels; and `push`, the only one that sends anything out, which shows it and asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export_cues(
    store: Annotated[Path, typer.Argument(help="A finished cue store, as `agfas cues` prints it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: parquet files and a dataset card.")],
    faces: Annotated[
        Path | None,
        typer.Option(help="Their dataset, whose title and licence the card states. Default: that of the store's run."),
    ] = None,
) -> None:
    """Export a cue store as parquet files.

    The folder can be moved, or published on the hub with `agfas push`.

    \b
    Examples:
      agfas export-cues runs/loo/cues/STORE parcel/
      agfas export-cues runs/loo/cues/STORE parcel/ --faces faces/
    """
    from pipelines.cues.exchange.transfer import export_cues as export

    typer.echo(f"{export(store, out, faces).count} cues: {out}")


def import_cues(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder that `agfas export-cues` wrote, or USER/NAME or USER/NAME@REVISION of the hub."),
    ],
    root: Annotated[Path, typer.Argument(help="Folder of cue stores.")],
) -> None:
    """Restore an exported cue store, byte for byte.

    \b
    Examples:
      agfas import-cues parcel/ runs/loo/cues
      agfas import-cues someone/cues@v1 runs/loo/cues
    """
    from pipelines.cues.exchange.transfer import import_cues as bring
    from pipelines.cues.exchange.transfer import local_parcel

    typer.echo(f"Cues: {bring(local_parcel(folder), root)}")


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

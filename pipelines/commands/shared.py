"""What every command has, how much it says and where it computes; options of several; the names that help lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more: the libraries' messages, and where an error came from.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say less: no progress.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, or one GPU such as cuda:1. Default: the GPUs, if any.")
]

FaceDetector = Annotated[
    str | None, typer.Option("--face-detector", help="Face detector: yunet, insightface, retinaface or mtcnn.")
]
Weights = Annotated[Path | None, typer.Option(help="The face detector's weights, a file or a folder.")]


def with_shared(command: Callable[..., Any], computes: bool) -> Callable[..., Any]:
    """The command with the options of all commands and, if it computes, `--device`; they are seen to before it runs."""
    given = inspect.signature(command, eval_str=True)
    shared: dict[str, Any] = {**({"device": Device} if computes else {}), "verbose": Verbose, "quiet": Quiet}
    keyword, defaults = inspect.Parameter.KEYWORD_ONLY, {"device": None, "verbose": False, "quiet": False}
    more = [inspect.Parameter(name, keyword, default=defaults[name], annotation=shared[name]) for name in shared]

    @wraps(command)
    def run(**options: Any) -> Any:
        from pipelines.devices import choose_device
        from pipelines.processes import is_launched
        from pipelines.progress import set_verbosity

        taken = {name: options.pop(name) for name in shared}
        set_verbosity(taken["verbose"], taken["quiet"])
        if taken.get("device"):
            choose_device(taken["device"], is_launched())
        return command(**options)

    run.__signature__ = given.replace(parameters=[*given.parameters.values(), *more])  # type: ignore[attr-defined]
    return run


class Command(TyperCommand):
    """A command whose help ends with the names that it takes: configurations, or importers."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the names below the options."""
        for title, names in self._names():
            with formatter.section(title):
                formatter.write_text(names)

    def _names(self) -> list[tuple[str, str]]:
        if self.name == "prepare":
            from pipelines.data.importers import IMPORTERS

            return [("Importers (--importer)", ", ".join(IMPORTERS))]
        if any(parameter.name == "config" for parameter in self.params):
            return [("Shipped configurations (CONFIG)", shipped_names())]
        return []


def shipped_names() -> str:
    """The shipped experiments, folder by folder: `loo, study, ...; detectors/: oanet, ...`."""
    from pipelines.experiment.shipped import shipped_experiments

    folders = groupby(shipped_experiments(), key=lambda name: name.rpartition("/")[0])
    return "; ".join(
        (f"{folder}/: " if folder else "") + ", ".join(name.rpartition("/")[2] for name in names)
        for folder, names in folders
    )


def complete_config(incomplete: str) -> list[str]:
    """What a shell offers for CONFIG: shipped names, and the YAML files and folders beside the text so far."""
    from glob import escape, glob

    from pipelines.experiment.shipped import shipped_experiments

    files = [
        f"{path}/" if Path(path).is_dir() else path
        for path in sorted(glob(f"{escape(incomplete)}*"))
        if Path(path).is_dir() or path.endswith((".yaml", ".yml"))
    ]
    return [name for name in shipped_experiments() if name.startswith(incomplete)] + files


def complete_key(incomplete: str) -> list[str]:
    """What a shell offers for the KEY of `agfas config`."""
    from pipelines.experiment.keys import keys

    return sorted({key.name for key in keys() if key.name.startswith(incomplete)})

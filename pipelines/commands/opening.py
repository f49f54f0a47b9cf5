"""The options that open a detector, which several commands have: written once, taken as one parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pipelines.commands.shared import FaceDetector

Published = Annotated[
    str | None,
    typer.Option(
        help="A published network, instead of --run: minifasnet, liveness_vit or insightface_liveness. --weights names"
        " the folder with its files."
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Experiment of the run. Default: the first with a generator's cue.")
]  # fmt: skip
Fold = Annotated[str | None, typer.Option(help="Protocol fold whose detector is used. Default: the first.")]
ParsingWeights = Annotated[Path | None, typer.Option(help="Face parser's weights, for a cue with mask: face.")]


@dataclass(frozen=True)
class Which:
    """Options that say which detector; fields of `pipelines.stages.detect.Place`."""

    run: Annotated[Path | None, typer.Option(help="Output folder of a quickstart, a sweep or a single experiment.")] = (
        None
    )
    model: Annotated[
        Path | None,
        typer.Option(
            help="A folder of `agfas save-model` or `agfas export`, or USER/NAME or USER/NAME@REVISION of the hub,"
            " instead of --run."
        ),
    ] = None
    published: Published = None
    label: Label = None
    fold: Fold = None


@dataclass(frozen=True)
class Parts:
    """Options that say what it needs beside its own weights; arguments of `pipelines.stages.detect.open_detector`."""

    face_detector: FaceDetector = None
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The face detector's weights, a file or a folder; with --published the folder that holds the published"
            " files too."
        ),
    ] = None
    face_weights: Annotated[
        Path | None,
        typer.Option(help="With --published: the face detector's weights. Default: found in the folder of --weights."),
    ] = None
    parsing_weights: ParsingWeights = None


_GROUPS = (Which, Parts)


def opening(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options of each group in the place of the parameter that takes the group."""
    given = inspect.signature(command, eval_str=True).parameters
    groups = {name: each.annotation for name, each in given.items() if each.annotation in _GROUPS}
    options = {name: _options(group) for name, group in groups.items()}

    @wraps(command)
    def run(**values: Any) -> Any:
        taken = {
            name: group(**{option.name: values.pop(option.name) for option in options[name]})
            for name, group in groups.items()
        }
        return command(**values, **taken)

    spread = [option for name, each in given.items() for option in options.get(name, [each])]
    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    return run


def _options(group: type) -> list[inspect.Parameter]:
    types, keyword = get_type_hints(group, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, keyword, default=each.default, annotation=types[name])
        for name, each in inspect.signature(group).parameters.items()
    ]

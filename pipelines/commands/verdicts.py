"""A trained detector at work: on pictures, on a page, in a folder that travels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import FaceDetectorName, Fold, Label, ParsingWeights, Run, Weights


def detect(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, videos, and folders of them.")],
    run: Run = None,
    model: Annotated[Path | None, typer.Option(help="A folder of `agfas save-model`, instead of --run.")] = None,
    label: Label = None,
    fold: Fold = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")] = False,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Judge every face; the largest decides.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file too.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write an overlay of every answer to this folder.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of a video, uniform in time; their scores are averaged.")] = 10,
) -> None:
    """Say whether the faces in pictures and videos are live."""
    from pipelines.stages import detect as stage

    detector = stage.open_detector(run, model, label, fold, face_detector, weights, parsing_weights)
    text, refused = stage.run(
        paths, detector, aligned=aligned, all_faces=all_faces, frames=frames, json=as_json, csv=csv, save=save
    )
    typer.echo(text)
    if refused:
        typer.echo(f"agfas: {refused} could not be judged; the reason stands beside each.", err=True)
        raise typer.Exit(1)


def demo(
    run: Run = None,
    model: Annotated[Path | None, typer.Option(help="A folder of `agfas save-model`, instead of --run.")] = None,
    label: Label = None,
    fold: Fold = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")] = False,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets everyone in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
) -> None:
    """Serve a page that answers for an upload or the webcam (extra `demo`)."""
    from functools import partial

    from pipelines.stages import demo as stage
    from pipelines.stages.detect import open_detector

    opened = partial(open_detector, run, model, label, fold, face_detector, weights, parsing_weights)
    stage.run(opened, host, port, aligned, typer.echo)


def threshold(
    source: Annotated[Path, typer.Argument(help="An output folder, or a score table (.parquet) of development faces.")],
    target: Annotated[Path | None, typer.Option(help="Another score table, judged at the fixed thresholds.")] = None,
    label: Annotated[str | None, typer.Option(help="Which experiment of a folder; the first by default.")] = None,
    fold: Annotated[str | None, typer.Option(help="Which fold of it; the first by default.")] = None,
    max_bpcer: Annotated[float, typer.Option(help="Share of live videos that may be rejected, for that kind.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find thresholds on development scores, and what they cost there and on the target."""
    from pipelines.stages import threshold as stage

    typer.echo(stage.run(source, target, label, fold, max_bpcer, as_json))


def save_model(
    run: Annotated[Path, typer.Argument(help="The output folder of a quickstart, a sweep or a single experiment.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    label: Label = None,
    fold: Fold = None,
    face_detector: FaceDetectorName = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
) -> None:
    """Write one folder with a trained detector, all that it needs, and a model card."""
    from pipelines.stages import save_model as stage

    typer.echo(stage.run(run, out, label, fold, face_detector, weights, parsing_weights))

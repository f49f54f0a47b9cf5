"""Face datasets: drawn, prepared from pictures, looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synth(
    out: Annotated[Path, typer.Argument(help="Folder of the face dataset to write.")],
    subjects: Annotated[int, typer.Option(help="Subjects of each attack domain.")] = 30,
    domains: Annotated[str | None, typer.Option(help="Comma-separated capture domains; all where not given.")] = None,
    size: Annotated[int, typer.Option(help="Side of the faces in pixels.")] = 64,
    corpus_subjects: Annotated[int, typer.Option(help="Subjects of the live corpus for the generator.")] = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Write the built-in benchmark as a face dataset, with a contact sheet."""
    from pipelines.stages.synth import run

    names = [name.strip() for name in domains.split(",")] if domains else None
    run(
        out,
        {
            "subjects": subjects,
            "domains": names,
            "size": size,
            "corpus_subjects": corpus_subjects,
            "seed": seed,
        },
    )


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of pictures and videos, a list, or a hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the face dataset to write.")],
    config: Annotated[Path | None, typer.Option(help="A recipe, a YAML file; options below override it.")] = None,
    importer: Annotated[str | None, typer.Option(help="The layout of SOURCE, e.g. msu_mfsd. [folder]")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value for the importer (hf).")] = None,
    domain: Annotated[str | None, typer.Option(help="Name of the domain. [SOURCE's name]")] = None,
    detector: Annotated[str | None, typer.Option(help="Who finds the faces. [yunet]")] = None,
    weights: Annotated[Path | None, typer.Option(help="The detector's weights, a file or a folder.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Least score of a face. [0]")] = None,
    aligned: Annotated[bool | None, typer.Option("--aligned", help="The pictures are crops; detect nothing.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crops in pixels. [256]")] = None,
    template: Annotated[str | None, typer.Option(help="Where the landmarks lie in the crop. [agfas]")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a video. [10]")] = None,
    frame_rule: Annotated[str | None, typer.Option(help="uniform, released_train or released_test. [uniform]")] = None,
    all_faces: Annotated[bool | None, typer.Option("--all-faces", help="Keep all faces, not the largest.")] = None,
    max_yaw: Annotated[float | None, typer.Option(help="Refuse faces turned further, in degrees.")] = None,
    max_pitch: Annotated[float | None, typer.Option(help="Refuse faces tilted further, in degrees.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Refuse faces of a lower quality score.")] = None,
    enhance: Annotated[bool | None, typer.Option("--enhance", help="Enhance the crops.")] = None,
    parsing_weights: Annotated[Path | None, typer.Option(help="Write face masks with this BiSeNet.")] = None,
    ratio: Annotated[float | None, typer.Option(help="The larger class has at most so many times the other.")] = None,
    max_refused: Annotated[float | None, typer.Option(help="Exit with 1 above this refused share. [0.01]")] = None,
    allow_missing: Annotated[bool | None, typer.Option("--allow-missing", help="Take an incomplete copy.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. [the cores]")] = None,
) -> None:
    """Make a face dataset from anyone's pictures and videos."""
    given = {name: value for name, value in locals().items() if name not in ("source", "out", "config", "option")}
    from pipelines.stages import prepare as stage

    raise typer.Exit(stage.run(source, out, stage.read_recipe(config, given, option or [])))


def show(folder: Annotated[Path, typer.Argument(help="A face dataset.")]) -> None:
    """Print what a face dataset holds, check its splits, and write a contact sheet into it."""
    from pipelines.stages.show import run

    typer.echo("\n".join(run(folder)))

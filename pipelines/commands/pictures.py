"""Commands that make and describe face datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.shared import FaceDetector, Weights


def synth(
    out: Annotated[Path, typer.Argument(help="Folder of the face dataset to write.")],
    subjects: Annotated[int, typer.Option(help="Subjects of each attack domain.")] = 30,
    domains: Annotated[str | None, typer.Option(help="Comma-separated capture domains. Default: all.")] = None,
    size: Annotated[int, typer.Option(help="Side of the faces in pixels.")] = 64,
    corpus_subjects: Annotated[int, typer.Option(help="Subjects of the live corpus for the generator.")] = 300,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write the built-in benchmark as a face dataset.

    A contact sheet is written beside it.

    \b
    Examples:
      agfas synth benchmark/ --subjects 20 --domains webcam,phone
    """
    from pipelines.stages.synth import run

    settings = {
        "subjects": subjects,
        "domains": _listed(domains),
        "size": size,
        "corpus_subjects": corpus_subjects,
        "seed": seed,
    }
    run(out, settings)


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of pictures and videos, a CSV list, or a hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the face dataset to write.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Recipe, a YAML file, or prepare, the shipped one; the options below override it."),
    ] = None,
    importer: Annotated[str | None, typer.Option(help="Layout of SOURCE, e.g. msu_mfsd. Default: folder.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value for folder, csv and hf, such as live=0.")] = None,
    domain: Annotated[str | None, typer.Option(help="Name of the domain. Default: SOURCE's name.")] = None,
    alike: Annotated[
        str | None, typer.Option(help="Names that differ in case or blanks only are one, or several. Default: ask.")
    ] = None,
    na_subjects: Annotated[
        str | None, typer.Option(help="Subjects called NA, None, -1, ... are a person, or unknown. Default: ask.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Most pictures and videos, evenly spaced. Default: all.")] = None,
    face_detector: FaceDetector = None,
    weights: Weights = None,
    min_score: Annotated[float | None, typer.Option(help="Lowest detection score of a face. Default: 0.")] = None,
    aligned: Annotated[
        bool | None, typer.Option("--aligned", help="The pictures are face crops; no face detector is used.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crops in pixels. Default: 256.")] = None,
    template: Annotated[str | None, typer.Option(help="Landmark template of the crop. Default: agfas.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames per video. Default: 10.")] = None,
    frame_rule: Annotated[
        str | None, typer.Option(help="uniform, released (the public code's) or both. Default: uniform.")
    ] = None,
    keep_picture: Annotated[
        bool | None, typer.Option("--keep-picture", help="Keep whole pictures, for networks with their own crop.")
    ] = None,
    all_faces: Annotated[
        bool | None, typer.Option("--all-faces", help="Every face in a picture, not only the largest.")
    ] = None,
    max_yaw: Annotated[float | None, typer.Option(help="Refuse faces turned further, in degrees.")] = None,
    max_pitch: Annotated[float | None, typer.Option(help="Refuse faces tilted further, in degrees.")] = None,
    quality: Annotated[
        str | None, typer.Option(help="paper or released: refuse faces of low quality by that rule.")
    ] = None,
    min_quality: Annotated[float | None, typer.Option(help="Refuse faces with a lower quality score.")] = None,
    enhance: Annotated[bool | None, typer.Option("--enhance", help="Correct light and contrast of the crops.")] = None,
    parsing_weights: Annotated[Path | None, typer.Option(help="Write face masks with this BiSeNet.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Keep at most RATIO times the smaller class.")] = None,
    max_refused: Annotated[
        float | None, typer.Option(help="Exit with 1 above this share of refused faces. Default: 0.01.")
    ] = None,
    allow_missing: Annotated[bool | None, typer.Option("--allow-missing", help="Accept an incomplete copy.")] = None,
    allow_leaks: Annotated[
        bool | None, typer.Option("--allow-leaks", help="Accept what is in two splits: a person, a video, a picture.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: the number of cores.")] = None,
) -> None:
    """Make a face dataset from pictures and videos.

    \b
    Examples:
      agfas prepare photos/ --out faces/ --domain photos --weights yunet.onnx
      agfas prepare MSU-MFSD/ --out data/msu --importer msu_mfsd --weights yunet.onnx
      agfas prepare crops/ --out faces/ --aligned
    """
    from pipelines.stages import prepare as stage

    given = {
        "importer": importer,
        "domain": domain,
        "alike": alike,
        "na_subjects": na_subjects,
        "limit": limit,
        "face_detector": face_detector,
        "weights": weights,
        "min_score": min_score,
        "aligned": aligned,
        "size": size,
        "template": template,
        "frames": frames,
        "frame_rule": frame_rule,
        "keep_picture": keep_picture,
        "all_faces": all_faces,
        "max_yaw": max_yaw,
        "max_pitch": max_pitch,
        "quality": quality,
        "min_quality": min_quality,
        "enhance": enhance,
        "parsing_weights": parsing_weights,
        "ratio": ratio,
        "max_refused": max_refused,
        "allow_missing": allow_missing,
        "allow_leaks": allow_leaks,
        "workers": workers,
    }
    raise typer.Exit(stage.run(source, out, stage.read_recipe(config, given, option or [])))


def simulate(
    faces: Annotated[Path, typer.Argument(help="A face dataset; its live faces are used.")],
    out: Annotated[Path, typer.Option(help="Folder of the face dataset to write.")],
    attacks: Annotated[
        str | None,
        typer.Option(help="Of print,replay,cutout,mask_paper,mask_resin,blend. Default: all that the faces allow."),
    ] = None,
    cameras: Annotated[int, typer.Option(help="Cameras; each becomes a domain that has both classes.")] = 3,
    per_face: Annotated[int, typer.Option(help="Pairs of a live picture and an attack, of every face.")] = 1,
    domains: Annotated[str | None, typer.Option(help="Domains of the live faces. Default: all.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the faces in pixels. Default: that of FACES.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Simulate attacks from live faces.

    Live faces and attacks go through the same cameras. A contact sheet is written beside them.

    \b
    Examples:
      agfas simulate faces/ --out simulated/
      agfas simulate faces/ --out simulated/ --attacks print,replay --size 96 --per-face 2
    """
    from pipelines.stages.simulate import run

    settings = {
        "attacks": _listed(attacks),
        "cameras": cameras,
        "per_face": per_face,
        "domains": _listed(domains),
        "size": size,
        "seed": seed,
    }
    run(faces, out, settings)


def _listed(names: str | None) -> list[str] | None:
    """Names between commas."""
    return [name.strip() for name in names.split(",")] if names else None


def show(folder: Annotated[Path, typer.Argument(help="A face dataset.")]) -> None:
    """Describe a face dataset and check its splits.

    A contact sheet is written into it.

    \b
    Examples:
      agfas show faces/
    """
    from pipelines.stages.show import run

    typer.echo("\n".join(run(folder)))

"""Commands that take or give pictures: face datasets, and a trained detector at work.

`--out` is what a command writes; `--run` is a run's folder, `--model` a saved model, both only read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FaceDetector = Annotated[
    str | None, typer.Option("--face-detector", help="Face detector: yunet, insightface, retinaface or mtcnn.")
]
Weights = Annotated[Path | None, typer.Option(help="The face detector's weights, a file or a folder.")]
PublishedWeights = Annotated[
    Path | None,
    typer.Option(
        help="The face detector's weights, a file or a folder; with --published the folder that holds the published"
        " files too."
    ),
]
FaceWeights = Annotated[
    Path | None,
    typer.Option(help="With --published: the face detector's weights. Default: found in the folder of --weights."),
]
Published = Annotated[
    str | None,
    typer.Option(
        help="A published network, instead of --run: minifasnet, liveness_vit or insightface_liveness. --weights names"
        " the folder with its files."
    ),
]
ParsingWeights = Annotated[Path | None, typer.Option(help="Face parser's weights, for a cue with mask: face.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")]
Run = Annotated[Path | None, typer.Option(help="Output folder of a quickstart, a sweep or a single experiment.")]
Model = Annotated[Path | None, typer.Option(help="A folder of `agfas save-model`, instead of --run.")]
Label = Annotated[
    str | None, typer.Option(help="Experiment of the run. Default: the first with a generator's cue.")
]  # fmt: skip
Fold = Annotated[str | None, typer.Option(help="Protocol fold whose detector is used. Default: the first.")]


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
        "domains": [name.strip() for name in domains.split(",")] if domains else None,
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


def show(folder: Annotated[Path, typer.Argument(help="A face dataset.")]) -> None:
    """Describe a face dataset and check its splits.

    A contact sheet is written into it.

    \b
    Examples:
      agfas show faces/
    """
    from pipelines.stages.show import run

    typer.echo("\n".join(run(folder)))


def detect(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, videos, and folders of them.")],
    run: Run = None,
    model: Model = None,
    published: Published = None,
    label: Label = None,
    fold: Fold = None,
    aligned: Aligned = False,
    face_detector: FaceDetector = None,
    weights: PublishedWeights = None,
    face_weights: FaceWeights = None,
    parsing_weights: ParsingWeights = None,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Every face in a picture, not only the largest, which decides.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the answers to this CSV file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write an overlay of every answer to this folder.")] = None,
    frames: Annotated[int, typer.Option(help="Frames per video, uniform in time; their scores are averaged.")] = 10,
) -> None:
    """Decide whether the faces in pictures and videos are live.

    \b
    Examples:
      agfas detect photo.jpg clip.mp4 folder/ --model model/
      agfas detect photo.jpg --published minifasnet --weights weights/ --face-detector yunet
      agfas detect face.png --run runs/loo --aligned --save overlays/
    """
    from pipelines.memory import without_looking_for_garbage
    from pipelines.stages import detect as stage

    where = stage.Place(run, model, published, label, fold)
    with without_looking_for_garbage():
        detector = stage.open_detector(where, face_detector, weights, face_weights, parsing_weights)
    text, refused = stage.run(
        paths, detector, aligned=aligned, all_faces=all_faces, frames=frames, json=as_json, csv=csv, save=save
    )
    typer.echo(text)
    if refused:
        typer.echo(f"agfas: {refused} could not be judged; the reason is beside each.", err=True)
        raise typer.Exit(1)


def demo(
    run: Run = None,
    model: Model = None,
    published: Published = None,
    label: Label = None,
    fold: Fold = None,
    aligned: Aligned = False,
    face_detector: FaceDetector = None,
    weights: PublishedWeights = None,
    face_weights: FaceWeights = None,
    parsing_weights: ParsingWeights = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 admits everyone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
    name: Annotated[
        list[str] | None, typer.Option(help="A name that the page has besides, such as a proxy's; may be repeated.")
    ] = None,
) -> None:
    """Serve a page that judges an upload or the webcam.

    Needs the extra `demo`.

    \b
    Examples:
      agfas demo --model model/
      agfas demo --run runs/quickstart --aligned --port 8000
    """
    from functools import partial

    from pipelines.stages import demo as stage
    from pipelines.stages.detect import Place, open_detector

    where = Place(run, model, published, label, fold)
    opened = partial(open_detector, where, face_detector, weights, face_weights, parsing_weights)
    stage.run(opened, host, port, aligned, name or (), typer.echo)


def save_model(
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")],
    run: Annotated[
        Path | None, typer.Argument(help="Output folder of a quickstart, a sweep or a single experiment.")
    ] = None,
    published: Published = None,
    label: Label = None,
    fold: Fold = None,
    face_detector: FaceDetector = None,
    weights: PublishedWeights = None,
    face_weights: FaceWeights = None,
    parsing_weights: ParsingWeights = None,
) -> None:
    """Save a trained detector, or a published one, as one folder.

    The folder has everything that the detector needs, and a model card.

    \b
    Examples:
      agfas save-model runs/photos --out model/ --face-detector yunet --weights yunet.onnx
    """
    from pipelines.stages import detect as stage

    where = stage.Place(run, None, published, label, fold)
    detector = stage.open_detector(where, face_detector, weights, face_weights, parsing_weights)
    typer.echo(stage.save_model(detector, out))


def export(
    model: Annotated[Path, typer.Argument(help="A folder of `agfas save-model`.")],
    out: Annotated[Path, typer.Option(help="Folder of the exported model to write.")],
    format: Annotated[str, typer.Option(help="Of the graph: onnx, or openvino (extra `openvino`).")] = "onnx",
    precision: Annotated[
        str, typer.Option(help="float32; float16, weights in half the room; or int8, the detector's arithmetic.")
    ] = "float32",
    faces: Annotated[
        Path | None,
        typer.Option(help="A prepared dataset on which scores are compared. Default: the built-in benchmark's faces."),
    ] = None,
    aligned_only: Annotated[
        bool, typer.Option("--aligned-only", help="Without a face detector: the pictures will be aligned crops.")
    ] = False,
    face_detector: FaceDetector = None,
    weights: Weights = None,
) -> None:
    """Write a saved model as a graph that needs neither this program nor torch.

    The folder holds the graph, the face detector, settings, a model card, and predict.py, which needs numpy, OpenCV
    and onnxruntime alone. Scores of 256 faces are compared with torch's; beyond a tolerance, nothing is written.

    \b
    Examples:
      agfas export model/ --out exported/
      agfas export model/ --out exported/ --format openvino --precision int8 --faces faces/
    """
    from pipelines.stages import export as stage

    chosen = stage.Choice(format, precision, faces, aligned_only)
    typer.echo(stage.run(model, out, chosen, face_detector, weights))

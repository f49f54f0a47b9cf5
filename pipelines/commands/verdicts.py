"""Commands that judge with a trained detector, and that save it, export it, or choose its threshold.

`--out` is what a command writes; `--run` is a run's folder, `--model` a saved model, both only read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.opening import Fold, Label, Parts, Published, Which, opening
from pipelines.commands.shared import FaceDetector, Weights

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

Aligned = Annotated[bool, typer.Option("--aligned", help="The pictures are aligned, square face crops.")]
Frames = Annotated[
    int | None, typer.Option(help="Frames per video, uniform in time; their scores are averaged. Default: 10.")
]


@opening
def detect(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, videos, and folders of them; or one camera (its number, unless a file has this name, or"
            " /dev/videoN) or stream (rtsp://, http://, udp://, ...), which is watched until Ctrl-C."
        ),
    ],
    *,
    which: Which,
    aligned: Aligned = False,
    parts: Parts,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Every face in a picture, not only the largest, which decides.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table; of a camera or stream, an object a line.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Also write the answers to this CSV file; those of a camera are appended.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write an overlay of every answer to this folder.")] = None,
    frames: Frames = None,
    every: Annotated[float | None, typer.Option(help="Camera: seconds between two answers. Default: 1.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Camera: seconds over which a face's scores are averaged. Default: 3.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Camera: most pictures judged a second. Default: 5.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", help="Camera: end after so many seconds. Default: at Ctrl-C.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Camera: seconds without a picture until it is lost. Default: 10.")
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            help="Camera: tries to connect again, also at the start. Default: none at the start; later 3, for a stream"
            " without end."
        ),
    ] = None,
) -> None:
    """Decide whether the faces in pictures and videos, or before a camera, are live.

    \b
    Examples:
      agfas detect photo.jpg clip.mp4 folder/ --model model/
      agfas detect 0 --model model/ --json
      agfas detect rtsp://192.168.1.20/live --model model/ --every 2 --csv answers.csv
      agfas detect photo.jpg --model someone/model@v1
      agfas detect photo.jpg --published minifasnet --weights weights/ --face-detector yunet
      agfas detect face.png --run runs/loo --aligned --save overlays/
    """
    from pipelines.stages import detect as stage
    from pipelines.stages import watch

    given = {"every": every, "window": window, "rate": rate, "seconds": seconds, "timeout": timeout, "retries": retries}
    pace = watch.pace_of(
        paths, given, {"--aligned": aligned, "--save": save is not None, "--frames": frames is not None}
    )
    if pace is not None:
        watch.run(paths[0], _opened(which, parts), pace, as_json=as_json, table=csv)
        return
    found = stage.find([Path(path) for path in paths], frames)
    text, refused = stage.run(
        found,
        _opened(which, parts),
        aligned=aligned,
        all_faces=all_faces,
        frames=frames,
        json=as_json,
        csv=csv,
        save=save,
    )
    typer.echo(text)
    if refused:
        typer.echo(f"agfas: {refused} could not be judged; the reason is beside each.", err=True)
        raise typer.Exit(1)


def _opened(which: Which, parts: Parts) -> FaceAntiSpoofing:
    from pipelines.memory import without_looking_for_garbage
    from pipelines.stages.detect import Place, open_detector

    with without_looking_for_garbage():
        return open_detector(Place(**vars(which)), **vars(parts))


@opening
def demo(
    *,
    which: Which,
    aligned: Aligned = False,
    parts: Parts,
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

    opened = partial(open_detector, Place(**vars(which)), **vars(parts))
    stage.run(opened, host, port, aligned, name or (), typer.echo)


def serve(
    model: Annotated[
        Path, typer.Argument(help="A folder of `agfas save-model` or `agfas export`, or USER/NAME of the hub.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 admits all who have a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file with a key a line. Default: AGFAS_API_KEY in the environment, if set.")
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Serve others without a key.")] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="A name that the server has besides, such as a proxy's; may be repeated.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes with the model. 0: one per GPU, or without a GPU one per core.")
    ] = 0,
    max_batch: Annotated[int, typer.Option(help="Pictures that a worker judges at once.")] = 8,
    max_wait_ms: Annotated[float, typer.Option(help="How long a picture waits for others to be judged with it.")] = 5.0,
    max_file_mb: Annotated[float, typer.Option(help="Megabytes of a file.")] = 20,
    max_request_mb: Annotated[float, typer.Option(help="Megabytes of a request with several files.")] = 64,
    max_held_mb: Annotated[float, typer.Option(help="Megabytes of all requests in work.")] = 512,
    max_files: Annotated[int, typer.Option(help="Files of a request.")] = 16,
    max_pixels: Annotated[int, typer.Option(help="Of a picture or frame, checked before decoding.")] = 25_000_000,
    max_faces: Annotated[int, typer.Option(help="Judged in a picture with all_faces, the largest first.")] = 12,
    max_video_seconds: Annotated[float, typer.Option(help="Length of a video.")] = 120,
    max_frames: Annotated[int, typer.Option(help="Of a video that a client may have judged.")] = 50,
    max_arrive_seconds: Annotated[float, typer.Option(help="From a request's first byte to its last.")] = 30,
    max_judge_seconds: Annotated[
        float, typer.Option(help="For a batch in a worker; then the worker is replaced.")
    ] = 30,
    max_answer_seconds: Annotated[float, typer.Option(help="From a request's last byte to its answer.")] = 60,
    max_requests: Annotated[int, typer.Option(help="Open at the same time.")] = 200,
    max_waiting: Annotated[int, typer.Option(help="Files in the queue.")] = 200,
    max_connections: Annotated[int, typer.Option(help="Open at the same time.")] = 400,
) -> None:
    """Judge pictures and videos that come over HTTP; nothing of them is stored.

    Needs the extra `serve`.

    \b
    Examples:
      agfas serve model/
      agfas serve exported/ --host 0.0.0.0 --api-key-file keys.txt --name faces.example.org
      curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8000/v1/verdict
    """
    from pipelines.serve.settings import Limits, Serving
    from pipelines.stages import serve as stage

    limits = Limits(
        max_file_mb, max_request_mb, max_held_mb, max_files, max_pixels, max_faces, max_video_seconds, max_frames,
        max_arrive_seconds, max_judge_seconds, max_answer_seconds, max_requests, max_waiting, max_connections,
    )  # fmt: skip
    serving = Serving(str(model), workers, max_batch, max_wait_ms)
    stage.run(serving, limits, host, port, api_key_file, no_key, name or (), typer.echo)


@opening
def save_model(
    run: Annotated[
        Path | None, typer.Argument(help="Output folder of a quickstart, a sweep or a single experiment.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")],
    published: Published = None,
    label: Label = None,
    fold: Fold = None,
    parts: Parts,
) -> None:
    """Save a trained detector, or a published one, as one folder.

    The folder has everything that the detector needs, and a model card.

    \b
    Examples:
      agfas save-model runs/photos --out model/ --face-detector yunet --weights yunet.onnx
    """
    from pipelines.stages import detect as stage
    from pipelines.verdict.folder import check_replaceable

    check_replaceable(out)
    detector = stage.open_detector(stage.Place(run, None, published, label, fold), **vars(parts))
    typer.echo(stage.save_model(detector, out))


def export(
    model: Annotated[Path, typer.Argument(help="A folder of `agfas save-model`, or USER/NAME of the hub.")],
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


@opening
def calibrate(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL LIVE_PICTURES",
            help="A folder of `agfas save-model`, unless --run or --published names the detector; and a folder with a"
            " folder for each person, a list (.csv) or a prepared dataset.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the calibrated model to write.")],
    bpcer: Annotated[float, typer.Option(help="Share of live pictures and videos that may be rejected.")] = 0.05,
    threshold_only: Annotated[
        bool, typer.Option("--threshold-only", help="No one-class head: the score stays, the threshold is chosen.")
    ] = False,
    features: Annotated[
        str | None, typer.Option(help="Of a detector with a cue, what the head sees: face, cue or both. Default: both.")
    ] = None,
    one_person: Annotated[
        bool, typer.Option("--one-person", help="All pictures are of one person; every folder or video is a session.")
    ] = False,
    which: Which,
    aligned: Aligned = False,
    parts: Parts,
    frames: Frames = None,
) -> None:
    """Fit a detector to your camera, from live pictures alone.

    A one-class head on the detector's features joins its score, and the threshold rejects the given share of persons
    that the head was not fitted to. No attack is needed, and none is learnt.

    \b
    Examples:
      agfas calibrate model/ staff/ --out calibrated/
      agfas calibrate staff/ --published minifasnet --weights weights/ --face-detector yunet --out calibrated/
      agfas calibrate model/ ann/ --one-person --bpcer 0.02 --out ann-only/
    """
    from pipelines.stages import calibrate as stage
    from pipelines.stages.detect import Place
    from pipelines.verdict.calibration.choice import Choice

    chosen = Choice(bpcer, threshold_only, features, one_person, aligned, frames)
    typer.echo(stage.run(places, Place(**vars(which)), out, chosen, **vars(parts)))


def threshold(
    source: Annotated[Path, typer.Argument(help="An output folder, or a score table (.parquet) of development faces.")],
    target: Annotated[Path | None, typer.Option(help="Another score table, tested at the fixed thresholds.")] = None,
    label: Annotated[str | None, typer.Option(help="Experiment of an output folder. Default: the first.")] = None,
    fold: Annotated[str | None, typer.Option(help="Its protocol fold. Default: the first.")] = None,
    max_bpcer: Annotated[
        float, typer.Option(help="Share of live videos that the threshold `max_bpcer` may reject.")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Choose thresholds on development scores.

    Their error rates are reported there and on the target.

    \b
    Examples:
      agfas threshold runs/loo --max-bpcer 0.01
      agfas threshold dev.parquet --target test.parquet --json
    """
    from pipelines.stages import threshold as stage

    typer.echo(stage.run(source, target, label, fold, max_bpcer, as_json))

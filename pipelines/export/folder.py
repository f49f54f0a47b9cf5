"""The exported folder: written whole or not at all, and only if its graph gives the scores of torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pipelines.data.alignment import TEMPLATES
from pipelines.errors import AgfasError
from pipelines.export import predict
from pipelines.export.graph import FACES, ExportGraph, exported_scorer, write_onnx
from pipelines.export.int8 import Layers, to_int8
from pipelines.export.parity import BATCH, TOLERANCES, compare
from pipelines.export.parity import Faces as ParityFaces
from pipelines.export.precision import to_float16, to_openvino
from pipelines.files import write_atomically, write_json
from pipelines.fingerprint import file_sha256
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.card import model_card
from pipelines.verdict.exported import (
    CARD_NAME,
    FACE_DETECTOR,
    GRAPH_NAME,
    PREDICT_NAME,
    SETTINGS_NAME,
    ExportedModel,
    ExportedScorer,
    Format,
    GraphSettings,
    Precision,
    check_replaceable,
    open_graph,
)
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import LoadedPart, ModelSettings, SavedModel

_FINDS = "yunet"
"""The face detector that OpenCV alone runs."""


def export_folder(
    model: FaceAntiSpoofing,
    out: Path,
    faces: Callable[[int], ParityFaces],
    precision: Precision = "float32",
    form: Format = "onnx",
    aligned_only: bool = False,
) -> ExportedModel:
    """Write a model as a folder that needs neither this program nor torch.

    Args:
        model: a trained one.
        out: the folder; an exported one is replaced.
        faces: gives the faces of a size that its scores are compared on.
        precision: see `pipelines.export.precision`.
        form: of the graph.
        aligned_only: leave the face detector out: the pictures will be aligned crops.

    Raises:
        AgfasError: the model is not exported, see `exported_scorer`; no face detector, or one that OpenCV does not
            run; a folder that holds something else; or scores that differ from torch's beyond the tolerance. Nothing
            is left behind then.
    """
    if precision == "int8" and form != "onnx":
        raise AgfasError(
            "--precision int8 goes with --format onnx: it is made by onnxruntime's tool, for onnxruntime. Use float16."
        )
    scorer = exported_scorer(model)
    found = None if aligned_only else _face_detector(model)
    check_replaceable(out)
    made: list[ExportedModel] = []
    settings = model.settings.model_copy(update={"face_detector": found, "face_parser": None})

    def write(folder: Path) -> None:
        folder.mkdir()
        if found is not None:
            (folder / FACE_DETECTOR).mkdir()
            shutil.copyfile(str(model.loaded.detector_weights), folder / FACE_DETECTOR / str(found.weights))
        shutil.copyfile(Path(predict.__file__), folder / PREDICT_NAME)
        compared = faces(settings.face.size)
        graph, layers = _write_graph(scorer, settings, folder, compared, precision, form)
        made.append(_finish(model, scorer, settings, graph, layers, folder, compared))

    write_atomically(out, write)
    return made[0]


def _face_detector(model: FaceAntiSpoofing) -> LoadedPart:
    """The face detector as the folder will hold it."""
    part, weights = model.loaded.detector_part, model.loaded.detector_weights
    if part is None:
        raise AgfasError(
            "The model holds no face detector. Name one with --face-detector yunet --weights FILE, or give"
            " --aligned-only if the pictures will be aligned crops."
        )
    if part.name != _FINDS or weights is None or not weights.is_file():
        raise AgfasError(
            f"The face detector '{part.name}' does not run with OpenCV alone. Name another one with --face-detector"
            " yunet --weights FILE, or give --aligned-only."
        )
    return part.model_copy(update={"weights": weights.name})


def _write_graph(
    scorer: Scorer, settings: ModelSettings, folder: Path, faces: ParityFaces, precision: Precision, form: Format
) -> tuple[GraphSettings, Layers | None]:
    """The graph; of an int8 one its layers too."""
    size, path = settings.face.size, folder / GRAPH_NAME
    graph = ExportGraph(scorer, size)
    outputs = write_onnx(graph, size, path)
    made = GraphSettings(
        format=form, precision=precision, file=GRAPH_NAME, faces=FACES, noise=graph.noise, outputs=outputs
    )
    if precision == "float16":
        to_float16(path)
    layers = None
    if precision == "int8":
        feeds = ExportedScorer(open_graph(path), made, settings.label).feeds
        others = [faces.others[start : start + BATCH] for start in range(0, len(faces.others), BATCH)]
        layers = to_int8(path, [feeds(crops) for crops in others], TOLERANCES[precision][0])
    return made if form == "onnx" else made.model_copy(update={"file": to_openvino(path).name}), layers


def _finish(
    model: FaceAntiSpoofing,
    scorer: Scorer,
    settings: ModelSettings,
    graph: GraphSettings,
    layers: Layers | None,
    folder: Path,
    faces: ParityFaces,
) -> ExportedModel:
    """Write the settings, compare scores, and write the card."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    about = model.about()
    exported = ExportedModel(
        graph=graph,
        points=[(float(x), float(y)) for x, y in TEMPLATES[settings.face.template]],
        model=settings,
        about=about,
        parity=None,
        files={name: file_sha256(folder / name) for name in paths if name != PREDICT_NAME},
    )
    write_json(folder / SETTINGS_NAME, exported.model_dump(mode="json"))
    parity = compare(scorer, folder, faces, settings.threshold, graph.precision, layers)
    if not parity.holds:
        advice = "" if graph.precision == "float32" else " Use --precision float32."
        raise AgfasError(
            f"The {graph.precision} graph is not kept, as it does not score like the model: {parity.words}.{advice}"
        )
    exported = exported.model_copy(update={"parity": parity})
    write_json(folder / SETTINGS_NAME, exported.model_dump(mode="json"))
    saved = SavedModel.of(settings, about, exported.files)
    (folder / CARD_NAME).write_text(model_card(saved, exported=_words(exported)), encoding="utf-8")
    return exported


def _words(exported: ExportedModel) -> str:
    """How the graph is called and what it loses, for the card."""
    graph, parity = exported.graph, exported.parity
    assert parity is not None
    side = exported.model.face.size
    library = {"onnx": "onnxruntime", "openvino": "OpenVINO"}[graph.format]
    noise = f" and noise ({', '.join(each.input for each in graph.noise)})" if graph.noise else ""
    return (
        f"`python predict.py PICTURE...` in this folder needs numpy, OpenCV and {library} alone. `{graph.file}`"
        f" ({graph.precision}) takes crops (`{graph.faces}`: B x {side} x {side} x 3, 8 bits, RGB){noise} and gives"
        f" {' and '.join(graph.outputs)}. Scores beside those of the model in torch, on {parity.words}."
    )

"""Exported models: what their folder holds, and how it is opened to judge here as any other model.

FOLDER/
  settings.json     all but the weights: the graph's inputs, crop, threshold, facts of the model card, hashes, parity
  model.onnx        uint8 crops in, scores out: normalisation, restoration and cue are in the graph
  face_detector/    YuNet's file; not with `--aligned-only`
  predict.py        judges pictures with numpy, OpenCV and onnxruntime alone; nothing here runs it
  README.md         the model card
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from dfg.onnx_graph import external_names
from pipelines.errors import AgfasError, in_short
from pipelines.files import check_written_over, read_json
from pipelines.fingerprint import file_sha256
from pipelines.settings import Recorded, Strict, explain
from pipelines.verdict.crops import GivenDetector, Loaded, load_parts
from pipelines.verdict.folder import SETTINGS_NAME as SAVED_NAME
from pipelines.verdict.scorer import Scored, pixel_key
from pipelines.verdict.settings import About, FileHashes, ModelSettings

SETTINGS_NAME, PREDICT_NAME = "settings.json", "predict.py"
GRAPH_NAME, CARD_NAME = "model.onnx", "README.md"
FACE_DETECTOR = "face_detector"
_NAMES = {SETTINGS_NAME, GRAPH_NAME, CARD_NAME, PREDICT_NAME, FACE_DETECTOR, "model.xml", "model.bin"}
FORMAT: Final = "agfas exported model"
VERSION: Final = 1

Format = Literal["onnx", "openvino"]
Precision = Literal["float32", "float16", "int8"]

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
"""A graph: inputs by name to its outputs."""


class NoiseSettings(Strict):
    """One input of unit Gaussian values, a stream per crop."""

    input: str
    prefix: str = Field(description="Before the crop's key in the name of its stream.")
    seed: int
    shape: tuple[int, int, int] = Field(description="Of one face's latents, (C, h, w).")


class GraphSettings(Strict):
    """How the graph is called."""

    format: Format
    precision: Precision
    file: str
    faces: str = Field(description="Name of the input (B, S, S, 3) uint8, RGB.")
    noise: list[NoiseSettings]
    outputs: list[str] = Field(
        description="`score` (B,), of some detectors `attack_classes` (B, K), of a calibrated one `raw_score` (B,)."
    )


class Parity(Recorded):
    """The graph's scores beside those of torch, on the same crops."""

    faces: int
    of: str = Field(description="Where the faces come from, in words.")
    largest: float = Field(description="Largest difference of a score.")
    changed: int = Field(description="Faces with another verdict.")
    most: float = Field(description="The largest difference that is accepted.")
    most_changed: int = Field(description="How many other verdicts are accepted.")
    kept: int = Field(0, description="Of the layers of an int8 graph, those in float32, nearest to the pixels.")
    layers: int = Field(0, description="Convolutions and products of the detector of an int8 graph.")

    @property
    def holds(self) -> bool:
        """Whether the differences are accepted."""
        return self.largest <= self.most and self.changed <= self.most_changed

    @property
    def words(self) -> str:
        """What was compared, and what it gave."""
        changed = "1 verdict changes" if self.changed == 1 else f"{self.changed} verdicts change"
        in_int8 = f"; {self.layers - self.kept} of {self.layers} layers calculate in int8" if self.layers else ""
        return (
            f"{self.faces} faces ({self.of}): the largest difference of a score is {self.largest:.2g} (accepted:"
            f" {self.most:.2g}), and {changed} (accepted: {self.most_changed}){in_int8}"
        )


class ExportedModel(Strict):
    """The settings file of an exported model."""

    format: Literal["agfas exported model"] = FORMAT
    version: Literal[1] = VERSION
    graph: GraphSettings
    points: list[tuple[float, float]] = Field(
        description="The template of `model.face`: eyes, nose and mouth corners, in units of the crop's side."
    )
    model: ModelSettings
    about: About
    parity: Parity | None
    files: FileHashes = Field(description="SHA-256 of every file that is opened, by its path in the folder.")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model, and no saved one, by its settings file."""
    return (folder / SETTINGS_NAME).is_file() and not (folder / SAVED_NAME).is_file()


def check_replaceable(folder: Path) -> None:
    """Refuse to write an exported model over something else."""
    check_written_over(folder, "an exported model", needed={SETTINGS_NAME, PREDICT_NAME}, known=_NAMES)


def read_exported(folder: Path) -> ExportedModel:
    """The settings of an exported model, after every file was checked.

    Raises:
        AgfasError: a newer version, invalid settings, or a file that is missing or changed.
    """
    path = folder / SETTINGS_NAME
    content = read_json(path)
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise AgfasError(f"{path} is not of an exported model. Give a folder of `agfas export` or `agfas save-model`.")
    if isinstance(content, dict) and isinstance(content.get("version"), int) and content["version"] > VERSION:
        raise AgfasError(f"{folder} was exported by a newer version of this program. Update it: pip install -U agfas.")
    try:
        exported = ExportedModel.model_validate(content)
    except ValidationError as error:
        raise AgfasError(f"{explain(error, ExportedModel, str(path))} Export the model again.") from None
    part = exported.model.face_detector
    needed = [exported.graph.file, *([f"{FACE_DETECTOR}/{part.weights}"] if part is not None else [])]
    for name in (*exported.files, *needed):
        if not (folder / name).is_file():
            raise AgfasError(f"{folder} lacks {name}, so it is incomplete. Copy or export it again.")
        if file_sha256(folder / name) != exported.files.get(name):
            raise AgfasError(f"{folder / name} is not the file that was exported: its hash differs. Copy it again.")
    return exported


def open_exported(
    folder: Path, face_detector: GivenDetector, weights: str | Path | None
) -> tuple[ModelSettings, ExportedScorer, Callable[[], About], Loaded]:
    """See `FaceAntiSpoofing.from_pretrained`."""
    exported = read_exported(folder)
    part = exported.model.face_detector
    if face_detector is None and part is not None:
        face_detector, weights = part.name, weights or folder / FACE_DETECTOR / str(part.weights)
    loaded = load_parts(face_detector, weights, None)
    settings = exported.model.model_copy(update={"face_detector": loaded.detector_part})
    scorer = ExportedScorer(open_graph(folder / exported.graph.file), exported.graph, settings.label)
    return settings, scorer, lambda: exported.about, loaded


def open_graph(path: Path) -> Run:
    """The graph of an exported model, `.onnx`, or `.xml` with its `.bin`.

    Raises:
        AgfasError: it cannot be run here.
    """
    try:
        return _open_openvino(path) if path.suffix == ".xml" else _open_onnx(path)
    except ModuleNotFoundError as error:
        raise AgfasError(f'{path} needs OpenVINO: pip install "agfas[openvino]".') from error
    except Exception as error:  # the exceptions of these libraries share no base class of their own
        raise AgfasError(f"{path} cannot be run ({in_short(error)}). Copy or export it again.") from error


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    if names := external_names(path):
        raise ValueError(f"it keeps weights outside, in {names[0]}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(_threads())
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def _open_openvino(path: Path) -> Run:
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": _threads()}
    compiled: Any = openvino.Core().compile_model(path, "CPU", hints)
    return lambda feeds: [np.array(value) for value in compiled(feeds).values()]


def _threads() -> str:
    """As torch has them: these libraries do not look at the variable. 0 is all cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return given if given.isdecimal() else "0"


class ExportedScorer:
    """Scores crops as `pipelines.verdict.scorer.Scorer` does, by the graph of an exported model.

    Args:
        run: the graph.
        graph: how it is called.
        label: of the model, for messages.
    """

    detector = None
    maker = None

    def __init__(self, run: Run, graph: GraphSettings, label: str) -> None:
        self.run, self.graph, self.label = run, graph, label

    def __call__(self, crops: np.ndarray, masks: np.ndarray | None = None, panels: bool = False) -> Scored:
        """See `Scorer.__call__`; of the panels there is the face alone.

        Raises:
            AgfasError: the graph refuses the crops.
        """
        try:
            found = dict(zip(self.graph.outputs, self.run(self.feeds(crops)), strict=True))
        except Exception as error:  # see `open_graph`
            raise AgfasError(f"The graph of {self.label} cannot be run ({in_short(error)}).") from error
        kinds = found.get("attack_classes", np.empty((len(crops), 0)))
        seen = [{"face": crop} if panels else {} for crop in crops]
        raw = np.asarray(found["raw_score"], np.float64) if "raw_score" in found else None
        return Scored(np.asarray(found["score"], np.float64), seen, np.asarray(kinds, np.float64), raw)

    def feeds(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The graph's inputs for crops (B, S, S, 3) uint8."""
        given = {self.graph.faces: np.ascontiguousarray(crops)}
        if not self.graph.noise:
            return given
        from dfg.noise import noise_for_keys  # imports torch, which a graph without a generator does without

        keys = [pixel_key(crop) for crop in crops]
        return given | {
            each.input: noise_for_keys([each.prefix + key for key in keys], each.shape, each.seed).numpy()
            for each in self.graph.noise
        }

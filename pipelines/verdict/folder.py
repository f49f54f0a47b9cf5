"""The folder of a saved model: written whole or not at all, and checked before any of it is used.

FOLDER/
  anti_spoofing.json    settings, facts of the model card, SHA-256 of every file below
  detector/             config.json, model.safetensors
  generator/            DeFakePipeline in diffusers' layout, or a baseline; only if the cue needs one
  face_detector/        weights of the face detector, if they are one file
  face_parser/          weights of the face parser, for a cue with `mask: face`
  calibration/          arrays of the one-class head, of a calibrated model
  README.md             the model card
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dfg.known import DATA, check_files
from oanet.names import DETECTORS
from oanet.registry import Registry
from pipelines.artefacts.models import load_baseline, load_detector, load_pipeline
from pipelines.cues.settings import SOURCES
from pipelines.errors import AgfasError
from pipelines.files import check_written_over, read_json, write_atomically, write_json
from pipelines.fingerprint import file_sha256, folder_sha256
from pipelines.seals import seal
from pipelines.settings import explain
from pipelines.verdict.crops import GivenDetector, GivenParser, Loaded, load_parts
from pipelines.verdict.scorer import Maker, Parts, Scorer
from pipelines.verdict.settings import CALIBRATED_VERSION, About, LoadedPart, ModelSettings, SavedModel

if TYPE_CHECKING:
    from oanet.detectors import Detector
    from pipelines.verdict.calibration.head import OneClassHead

SETTINGS_NAME = "anti_spoofing.json"
CARD_NAME = "README.md"
DETECTOR, GENERATOR, FACE_DETECTOR, FACE_PARSER = "detector", "generator", "face_detector", "face_parser"
CALIBRATION, HEAD_NAME = "calibration", "head.safetensors"
PARTS = (DETECTOR, GENERATOR, FACE_DETECTOR, FACE_PARSER, CALIBRATION)


def save_folder(folder: Path, parts: Parts) -> None:
    """See `FaceAntiSpoofing.save_pretrained`."""
    check_replaceable(folder)
    about = parts.describe()
    write_atomically(folder, lambda temporary: _write(temporary, parts, about))


def check_replaceable(folder: Path) -> None:
    """Refuse to write a model over something else."""
    known = {SETTINGS_NAME, CARD_NAME, *PARTS}
    check_written_over(folder, "a saved model", needed={SETTINGS_NAME}, known=known)


def _write(folder: Path, parts: Parts, about: About) -> None:
    from pipelines.verdict.card import model_card  # with it the metrics, which no verdict needs

    parts.scorer.detector.save_pretrained(folder / DETECTOR)
    if parts.scorer.maker is not None:
        parts.scorer.maker.save_pretrained(folder / GENERATOR)
        seal(folder / GENERATOR)
    if parts.scorer.head is not None:
        (folder / CALIBRATION).mkdir()
        parts.scorer.head.save(folder / CALIBRATION / HEAD_NAME)
    settings = _with_weights(folder, parts.settings, parts.loaded)
    files = {name: file_sha256(folder / name) for name in _model_files(folder)}
    saved = SavedModel.of(settings, about, files)
    write_json(folder / SETTINGS_NAME, saved.model_dump(mode="json"))
    (folder / CARD_NAME).write_text(model_card(saved), encoding="utf-8")


def _with_weights(folder: Path, settings: ModelSettings, loaded: Loaded) -> ModelSettings:
    """Copy the weights of the loaded parts and return settings that name the copies."""
    # A parser decides nothing if the cue is not masked.
    parser = settings.face_parser if settings.needs_mask else None
    copied = {
        "face_detector": _copied(folder / FACE_DETECTOR, settings.face_detector, loaded.detector_weights),
        "face_parser": _copied(folder / FACE_PARSER, parser, loaded.parser_weights),
    }
    return settings.model_copy(update=copied)


def _copied(folder: Path, part: LoadedPart | None, weights: Path | None) -> LoadedPart | None:
    if part is None or weights is None or not weights.is_file():
        return part
    folder.mkdir()
    shutil.copyfile(weights, folder / weights.name)
    return part.model_copy(update={"weights": weights.name})


def _model_files(folder: Path) -> list[str]:
    """Paths in the folder of the files that must be listed with their hash."""
    found = (path for part in PARTS for path in (folder / part).rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def read_saved(folder: Path) -> SavedModel:
    """The settings of a saved model, after every file was checked.

    Raises:
        AgfasError: no folder, a folder of another kind, a newer version, invalid settings, or a file that is missing,
            changed, or not listed.
    """
    path = folder / SETTINGS_NAME
    if not path.is_file():
        raise AgfasError(wrong_kind(folder))
    _check_data_alone(folder)
    content = read_json(path)
    if (
        isinstance(content, dict)
        and isinstance(content.get("version"), int)
        and content["version"] > CALIBRATED_VERSION
    ):
        raise AgfasError(f"{folder} was saved by a newer version of this program. Update it: pip install -U agfas.")
    try:
        saved = SavedModel.model_validate(content)
    except ValidationError as error:
        raise AgfasError(f"{explain(error, SavedModel, str(path))} Save the model again.") from None
    _check_listed(path, saved)
    _check_files(folder, saved)
    return saved


def _check_data_alone(folder: Path) -> None:
    """Check that no file of the folder could run, before a library looks at it: it may come from anyone."""
    try:
        check_files(folder)
        for part in (DETECTOR, GENERATOR, CALIBRATION):
            check_files(folder / part, DATA)
    except ValueError as error:
        raise AgfasError(str(error)) from None


def _check_imported(kind: str, registry: Registry, name: str) -> None:
    """Check that a class was offered or imported by a user's own program: importing a module runs it."""
    module = name.partition(":")[0]
    if ":" in name and name not in registry and module not in sys.modules:
        raise AgfasError(
            f"This saved model names the {kind} {name}, which is not imported because a folder says so. Import"
            f" {module} before the model is opened, or install its package with an entry point ({registry.group})."
        )


def _check_listed(path: Path, saved: SavedModel) -> None:
    """Check that the files named by the settings are among those with a hash."""
    settings = saved.settings
    needed = {DETECTOR: True, GENERATOR: settings.needs_generator, CALIBRATION: settings.has_head}
    for part in (name for name, wanted in needed.items() if wanted):
        if not any(name.startswith(f"{part}/") for name in saved.files):
            raise AgfasError(f"{path} lists no files of the {part}. Save the model again.")
    for part, loaded in ((FACE_DETECTOR, settings.face_detector), (FACE_PARSER, settings.face_parser)):
        if loaded is not None and loaded.weights and f"{part}/{loaded.weights}" not in saved.files:
            raise AgfasError(
                f"{path} names the weights {loaded.weights}, but does not list them. Save the model again."
            )


def _check_files(folder: Path, saved: SavedModel) -> None:
    for name, sha256 in saved.files.items():
        path = folder / name
        if not path.is_file():
            raise AgfasError(f"{folder} lacks {name}, so it is incomplete. Copy or save it again.")
        if file_sha256(path) != sha256:
            raise AgfasError(f"{path} is not the file that was saved: its hash differs. Copy or save it again.")
    for name in _model_files(folder):
        if name not in saved.files:
            raise AgfasError(f"{folder / name} was not there when the folder was saved. Remove it.")


_KINDS = {
    "plan.json": "an output folder of a run: use --run or FaceAntiSpoofing.from_run, or first use `agfas save-model`",
    "model_index.json": "a generator alone, without a detector",
    "model.safetensors": "a detector alone, without its settings and threshold",
}


def wrong_kind(folder: Path) -> str:
    """What a folder is that is no saved model, and what to give instead."""
    if not folder.is_dir():
        return (
            f"No folder at {folder}. Give one that `agfas save-model` or `save_pretrained` wrote, or a model of the hub"
            " as hf://USER/NAME."
        )
    for name, what in _KINDS.items():
        if (folder / name).is_file():
            return f"{folder} is {what}."
    return f"{folder} has no {SETTINGS_NAME}, so it is not a saved model. Write one with `agfas save-model`."


def open_folder(
    folder: Path, face_detector: GivenDetector, weights: str | Path | None, face_parser: GivenParser
) -> Parts:
    """See `FaceAntiSpoofing.from_pretrained`."""
    saved = read_saved(folder)
    _check_imported("detector", DETECTORS, str(read_json(folder / DETECTOR / "config.json").get("name")))
    if saved.settings.cue is not None:
        _check_imported("cue source", SOURCES, saved.settings.cue.source)
    loaded = _load_parts(folder, saved.settings, face_detector, weights, face_parser)
    parts = {"face_detector": loaded.detector_part, "face_parser": loaded.parser_part}
    detector = load_detector(folder / DETECTOR)
    settings = saved.settings.model_copy(update={**parts, "sees": detector.sees})
    head = _load_head(folder, settings, detector)
    if settings.needs_generator:
        maker, sha256 = _load_maker(folder / GENERATOR, settings), folder_sha256(folder / GENERATOR)
        scorer = Scorer(detector, settings.cue, maker, sha256, head)
    else:
        scorer = Scorer(detector, settings.cue, head=head)
    return Parts(settings, scorer, lambda: saved.about, loaded)


def _load_head(folder: Path, settings: ModelSettings, detector: Detector) -> OneClassHead | None:
    if settings.calibration is None or not settings.has_head:
        return None
    from pipelines.verdict.calibration.head import OneClassHead

    return OneClassHead.load(folder / CALIBRATION / HEAD_NAME, settings.calibration.sees, detector.feature_dim)


def _load_parts(
    folder: Path, settings: ModelSettings, detector: GivenDetector, weights: str | Path | None, parser: GivenParser
) -> Loaded:
    """The caller's face detector and parser, or the folder's.

    Raises:
        AgfasError: the folder's cannot be loaded, or differs from the one that was saved.
    """
    saved_detector = settings.face_detector if detector is None else None
    saved_parser = settings.face_parser if parser is None else None
    if saved_detector is not None:
        detector, weights = saved_detector.name, weights or _place(folder / FACE_DETECTOR, saved_detector)
    if saved_parser is not None:
        parser = _place(folder / FACE_PARSER, saved_parser)
    loaded = load_parts(detector, weights, parser)
    _check_same(folder, saved_detector, loaded.detector_part, "--face-detector and --weights")
    _check_same(folder, saved_parser, loaded.parser_part, "--parsing-weights")
    return loaded


def _place(folder: Path, part: LoadedPart) -> Path | None:
    return folder / part.weights if part.weights else None


def _check_same(folder: Path, saved: LoadedPart | None, found: LoadedPart | None, options: str) -> None:
    if saved is not None and found is not None and found.fingerprint != saved.fingerprint:
        raise AgfasError(
            f"{folder} was saved with another '{saved.name}' than the loaded one: its weights or settings differ. Give"
            f" the same weights again, or another part with {options}."
        )


def _load_maker(folder: Path, settings: ModelSettings) -> Maker:
    """The generator or baseline of a saved model, which must be the one that the cue's source names."""
    if (folder / "model_index.json").is_file():
        return load_pipeline(folder)
    maker = load_baseline(folder)
    source = "none" if settings.cue is None else settings.cue.source
    if maker.name != source:
        raise AgfasError(f"{folder} holds a {maker.name}, but the cue's source is {source}. Save it again.")
    return maker

"""Opening the saved folder: nothing is unpickled, and no class is made but those that such a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfg.baselines import BASELINES
from pipelines.errors import AgfasError
from pipelines.files import read_json
from pipelines.fingerprint import folder_sha256
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.folder import DETECTOR, FACE_DETECTOR, FACE_PARSER, GENERATOR, read_saved
from pipelines.verdict.from_run import load_judge
from pipelines.verdict.loaded import (
    GivenDetector,
    GivenParser,
    Loaded,
    load_parts,
    part_of_detector,
    part_of_parser,
)
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import LoadedPart, ModelSettings

_LIBRARIES = ("diffusers", "dfg")


def open_folder(
    folder: Path, face_detector: GivenDetector, weights: str | Path | None, face_parser: GivenParser, batch_size: int
) -> FaceAntiSpoofing:
    """See `FaceAntiSpoofing.from_pretrained`."""
    from pipelines.processes import device

    saved = read_saved(folder)
    loaded = _load_parts(folder, saved.settings, face_detector, weights, face_parser)
    parts = {"face_detector": part_of_detector(loaded.detector), "face_parser": part_of_parser(loaded.parser)}
    settings = saved.settings.model_copy(update=parts)
    pipeline, sha256 = None, ""
    if settings.needs_generator:
        pipeline, sha256 = _maker(folder / GENERATOR, settings).to(device()), folder_sha256(folder / GENERATOR)
    scorer = Scorer(load_judge(folder / DETECTOR, device()), settings.cue, pipeline, sha256, device())
    return FaceAntiSpoofing(settings, scorer, lambda: saved.about, loaded, batch_size)


def _load_parts(
    folder: Path,
    settings: ModelSettings,
    detector: GivenDetector,
    weights: str | Path | None,
    parser: GivenParser,
) -> Loaded:
    """The caller's face detector and parser, or the folder's.

    Raises:
        AgfasError: the folder's cannot be loaded, or finds other faces than the one that was saved.
    """
    known_detector = settings.face_detector if detector is None else None
    known_parser = settings.face_parser if parser is None else None
    if known_detector is not None:
        detector, weights = known_detector.name, weights or _place(folder / FACE_DETECTOR, known_detector)
    if known_parser is not None:
        parser = _place(folder / FACE_PARSER, known_parser)
    loaded = load_parts(detector, weights, parser)
    _check_same(folder, known_detector, part_of_detector(loaded.detector), "--face-detector and --weights")
    _check_same(folder, known_parser, part_of_parser(loaded.parser), "--parsing-weights")
    return loaded


def _place(folder: Path, part: LoadedPart) -> Path | None:
    return folder / part.weights if part.weights else None


def _check_same(folder: Path, saved: LoadedPart | None, found: LoadedPart | None, options: str) -> None:
    if saved is not None and found is not None and found.fingerprint != saved.fingerprint:
        raise AgfasError(
            f"{folder} was saved with another '{saved.name}' than the one that was loaded: weights or settings differ."
            f" Give the same weights again, or another part with {options}."
        )


def _maker(folder: Path, settings: ModelSettings) -> Any:
    """What makes the cue's restorations, as its source names it."""
    if settings.cue is None or settings.cue.source not in BASELINES:
        return _pipeline(folder)
    from dfg.baselines import load_baseline

    try:
        maker = load_baseline(folder)
    except ValueError as error:
        raise AgfasError(f"The generator of the saved model cannot be loaded: {error}") from None
    if maker.name != settings.cue.source:
        raise AgfasError(
            f"{folder} holds a {maker.name}, but the cue's source is {settings.cue.source}. Save it again."
        )
    return maker


def _pipeline(folder: Path) -> Any:
    from diffusers.utils.logging import disable_progress_bar

    from dfg.pipeline import DeFakePipeline

    disable_progress_bar()  # diffusers' own, over four small files
    _check_classes(folder)
    try:
        return DeFakePipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise AgfasError(f"The generator at {folder} cannot be loaded: {error}") from error


def _check_classes(folder: Path) -> None:
    """A part's class is imported by the name that the folder gives; a stranger's folder may give any."""
    for part, value in read_json(folder / "model_index.json").items():
        if not part.startswith("_") and isinstance(value, list) and value[0] is not None:
            library = str(value[0]).split(".")[0]
            if library not in _LIBRARIES:
                raise AgfasError(
                    f"{folder / 'model_index.json'} wants {part} from '{library}'; allowed are {', '.join(_LIBRARIES)}."
                )

"""Writing the saved folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError
from pipelines.files import read_json, write_atomically
from pipelines.fingerprint import file_sha256
from pipelines.verdict.card import model_card
from pipelines.verdict.folder import (
    CARD_NAME,
    DETECTOR,
    FACE_DETECTOR,
    FACE_PARSER,
    GENERATOR,
    PARTS,
    SETTINGS_NAME,
    files_of,
)
from pipelines.verdict.settings import About, LoadedPart, ModelSettings, SavedModel

if TYPE_CHECKING:
    from pipelines.verdict.anti_spoofing import FaceAntiSpoofing


def save_folder(folder: Path, model: FaceAntiSpoofing) -> None:
    """See `FaceAntiSpoofing.save_pretrained`."""
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and not _replaceable(folder)):
        raise AgfasError(
            f"{folder} is there already and is no saved model, so it is not replaced. Name a folder that is new or"
            " empty."
        )
    about = model.about()
    write_atomically(folder, lambda temporary: _write(temporary, model, about))


def _replaceable(folder: Path) -> bool:
    """An empty folder, or a saved model and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return not names or (SETTINGS_NAME in names and names <= {SETTINGS_NAME, CARD_NAME, *PARTS})


def _write(folder: Path, model: FaceAntiSpoofing, about: About) -> None:
    folder.mkdir()
    model.scorer.detector.save_pretrained(folder / DETECTOR)
    if model.settings.needs_generator:
        model.scorer.pipeline.save_pretrained(folder / GENERATOR)
        _without_places(folder / GENERATOR)
    settings = _with_weights(folder, model)
    files = {name: file_sha256(folder / name) for name in files_of(folder)}
    saved = SavedModel(settings=settings, about=about, files=files)
    text = json.dumps(saved.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / SETTINGS_NAME).write_text(text, encoding="utf-8")
    (folder / CARD_NAME).write_text(model_card(saved), encoding="utf-8")


def _with_weights(folder: Path, model: FaceAntiSpoofing) -> ModelSettings:
    """The settings, naming the copies of the loaded parts' weights."""
    settings, loaded = model.settings, model.loaded
    # A parser that the cue does not need decides nothing.
    parser = settings.face_parser if settings.needs_mask else None
    copied = {
        "face_detector": _copied(folder / FACE_DETECTOR, settings.face_detector, loaded.detector_weights),
        "face_parser": _copied(folder / FACE_PARSER, parser, loaded.parser_weights),
    }
    return settings.model_copy(update=copied)


def _copied(folder: Path, part: LoadedPart | None, weights: Path | None) -> LoadedPart | None:
    """A part with its weights copied in, where they are one file."""
    if part is None or weights is None or not weights.is_file():
        return part
    folder.mkdir()
    shutil.copyfile(weights, folder / weights.name)
    return part.model_copy(update={"weights": weights.name})


def _without_places(folder: Path) -> None:
    """Forget where on this machine the parts were loaded from: it decides nothing and is nobody's business."""
    for path in folder.rglob("*.json"):
        content = read_json(path)
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

"""The saved folder: what lies where, and what is checked before any of it is used.

FOLDER/
  anti_spoofing.json    settings, what the card tells, SHA-256 of every file below
  detector/             config.json, model.safetensors
  generator/            DeFakePipeline in diffusers' layout, or a baseline; absent where the detector needs none
  face_detector/        the face detector's weights, where they are one file
  face_parser/          the face parser's, for a cue with `mask: face`
  README.md             the model card
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pipelines.errors import AgfasError
from pipelines.files import read_json
from pipelines.fingerprint import file_sha256
from pipelines.verdict.settings import VERSION, SavedModel

SETTINGS_NAME = "anti_spoofing.json"
CARD_NAME = "README.md"
DETECTOR, GENERATOR, FACE_DETECTOR, FACE_PARSER = "detector", "generator", "face_detector", "face_parser"
PARTS = (DETECTOR, GENERATOR, FACE_DETECTOR, FACE_PARSER)


def read_saved(folder: Path) -> SavedModel:
    """The settings of a saved folder, after every file was checked.

    Raises:
        AgfasError: no folder, another kind of folder, another version, settings that are broken, or a file that is
            missing, changed, or was not there when the folder was saved.
    """
    path = folder / SETTINGS_NAME
    if not path.is_file():
        raise AgfasError(_wrong_kind(folder))
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("version"), int) and content["version"] > VERSION:
        raise AgfasError(f"{folder} was saved by a newer version of this program. Update it: pip install -U agfas.")
    try:
        saved = SavedModel.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise AgfasError(f"{path} is broken at {where}: {first['msg']}. Save the model again.") from None
    _check_listed(path, saved)
    _check_files(folder, saved)
    return saved


def files_of(folder: Path) -> list[str]:
    """The files of the models, by path in the folder."""
    found = (path for part in PARTS for path in (folder / part).rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _check_listed(path: Path, saved: SavedModel) -> None:
    """What the settings speak of must be among the files that are checked."""
    settings = saved.settings
    needed = [DETECTOR, GENERATOR] if settings.needs_generator else [DETECTOR]
    for part in needed:
        if not any(name.startswith(f"{part}/") for name in saved.files):
            raise AgfasError(f"{path} lists no files of the {part}. Save the model again.")
    for part, loaded in ((FACE_DETECTOR, settings.face_detector), (FACE_PARSER, settings.face_parser)):
        if loaded is not None and loaded.weights and f"{part}/{loaded.weights}" not in saved.files:
            raise AgfasError(f"{path} names the weights {loaded.weights}, but no such file. Save the model again.")


def _check_files(folder: Path, saved: SavedModel) -> None:
    for name, sha256 in saved.files.items():
        path = folder / name
        if not path.is_file():
            raise AgfasError(f"{folder} lacks {name}, so it is not whole. Copy or save it again.")
        if file_sha256(path) != sha256:
            raise AgfasError(f"{path} is not the file that was saved: its hash differs. Copy or save it again.")
    for name in files_of(folder):
        if name not in saved.files:
            raise AgfasError(f"{folder / name} was not there when the folder was saved. Remove it.")


_KINDS = {
    "plan.json": "an output folder of a run: use --run or FaceAntiSpoofing.from_run, or first use `agfas save-model`",
    "model_index.json": "a generator alone, without a detector",
    "model.safetensors": "a detector alone, without its settings and threshold",
}


def _wrong_kind(folder: Path) -> str:
    if not folder.is_dir():
        return f"No folder at {folder}. Give one that `agfas save-model` or `save_pretrained` wrote."
    for name, what in _KINDS.items():
        if (folder / name).is_file():
            return f"{folder} is {what}."
    return f"{folder} holds no {SETTINGS_NAME}, so it is no saved model. Write one with `agfas save-model`."

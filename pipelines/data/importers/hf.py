"""Any image dataset in the form of Hugging Face `datasets`: on disk, or on the hub.

    SOURCE/dataset_dict.json, SOURCE/{train,test}/...        saved by `DatasetDict.save_to_disk`
    SOURCE/state.json                                        saved by `Dataset.save_to_disk`
    SOURCE/**.parquet, SOURCE/train/CLASS/*.png              what `load_dataset` reads
    USER/NAME, USER/NAME@SPLIT                               a dataset of the hub, or one split of it

Layouts after the documentation of `datasets` (huggingface.co/docs/datasets). Options name the columns. No code of a
dataset is executed: `datasets` does not support loading scripts since version 4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import LABELS, SPLIT_WORDS, UNKNOWN, plain
from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

TITLE = "a Hugging Face dataset"
CITATION = ""
LICENCE = "That of the dataset; see its card."
VERIFIED = "The library's own format; checked on datasets that the tests save."

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?:@\w+)?")


def find(
    source: Path,
    domain: str,
    *,
    image: str = "image",
    label: str = "label",
    bonafide: str | int | Sequence[str | int] | None = None,
    subject: str | None = None,
    video: str | None = None,
    attack_type: str | None = None,
    split_column: str | None = None,
) -> list[SourceFace]:
    """One face per row; no picture is decoded.

    Args:
        source: a folder, or the id of a dataset on the hub.
        domain: as in `face_features`.
        image: column of the pictures.
        label: column of the labels.
        bonafide: the labels that mean bona fide, by name or number; several in one text are separated by commas.
            Required if the labels are numbers, since datasets disagree on their meaning; names are otherwise looked up
            in `words.LABELS`.
        subject, video, attack_type: columns of these, if any. A row without a video is a video; a row without a subject
            has an unknown subject.
        split_column: column of the split; default: the splits of the dataset. A dataset with a single split has none,
            so that its subjects are dealt out.

    Raises:
        AgfasError: no dataset, a missing column, an ambiguous label, or an unknown name of a split.
    """
    parts = _parts(source)
    for _, _, data in parts:
        _check_columns(source, data, image, (label, subject, video, attack_type, split_column))
    labels = [_needed(data, label) for _, _, data in parts]
    live = _bonafide(source, parts[0][2], label, {text for texts in labels for text in texts}, bonafide)
    faces: list[SourceFace] = []
    for (path, name, data), texts in zip(parts, labels, strict=True):
        own = [f"row-{name}-{row:07d}" if name else f"row-{row:07d}" for row in range(len(data))]
        videos = _filled(data, video, own)
        known = _filled(data, subject, [""] * len(data))
        kinds = _filled(data, attack_type, [UNKNOWN] * len(data))
        if split_column:
            splits = [_split(source, text) for text in _needed(data, split_column)]
        else:
            splits = [_split(source, name) if len(parts) > 1 else ""] * len(data)
        frames: Counter[tuple[str, str]] = Counter()
        for row, text in enumerate(texts):
            place = (known[row] or videos[row], videos[row])
            kind = NO_ATTACK if text in live else UNKNOWN if kinds[row] == NO_ATTACK else kinds[row]
            found = SourceFace(path, domain, kind, *place, frames[place], splits[row], subject_known=bool(known[row]))
            faces.append(replace(found, row=row, column=image))
            frames[place] += 1
    return faces


def picture_bytes(face: SourceFace) -> bytes:
    """The bytes of the JPEG, PNG, ... file of a face that `find` returned.

    Raises:
        AgfasError: the dataset is missing or damaged, the row is empty, or its file cannot be read.
    """
    cell = _rows(face.path, face.column)[face.row][face.column]
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise AgfasError(f"Row {face.row} of {face.path} has no picture in {face.column!r}.")
    if cell["bytes"] is not None:
        return cell["bytes"]
    try:
        return Path(cell["path"]).read_bytes()
    except OSError as error:
        raise AgfasError(
            f"Row {face.row} of {face.path} names {cell['path']}, which cannot be read ({error.strerror})."
        ) from error


@lru_cache(maxsize=4)
def _rows(path: Path, column: str) -> Dataset:
    """The encoded pictures of a split: {"bytes": ..., "path": ...} or None each."""
    from datasets import Image

    return _open(path).select_columns([column]).cast_column(column, Image(decode=False))


def _parts(source: Path) -> list[tuple[Path, str, Dataset]]:
    """Path, name and rows of every split; `_open` opens the path again."""
    from datasets import Dataset

    if (source / "dataset_dict.json").is_file():
        names = sorted(child.name for child in source.iterdir() if (child / "state.json").is_file())
        parts = [(source / name, name, _open(source / name)) for name in names]
    elif (source / "state.json").is_file():
        parts = [(source, "", _open(source))]
    else:
        opened = _load(source)
        if isinstance(opened, Dataset):
            parts = [(source, "", opened)]
        else:
            parts = [(Path(f"{source}@{name}"), name, data) for name, data in opened.items()]
    parts = [part for part in parts if len(part[2])]
    if not parts:
        raise AgfasError(f"{source} holds no rows. Expected: a dataset saved with `save_to_disk`, or a hub id.")
    return parts


def _open(path: Path) -> Dataset:
    """The rows of one split, by the path of its faces."""
    if not (path / "state.json").is_file():
        return _load(path)
    from datasets import load_from_disk

    try:
        return load_from_disk(str(path)).with_format(None)
    except Exception as error:  # damaged files raise errors of Arrow, JSON or the file system
        raise AgfasError(f"{path} cannot be read as a Hugging Face dataset ({error}). Save it again.") from error


def _load(source: Path) -> Any:
    """`load_dataset` of a folder or a hub id; one split if the name ends in `@SPLIT`."""
    text = source.as_posix()
    name, _, split = (text, "", "") if source.is_dir() or "@" not in text else text.rpartition("@")
    if not Path(name).is_dir() and (source.is_absolute() or not _HUB_ID.fullmatch(text)):
        raise AgfasError(f"No folder at {source}. Expected: a folder of a Hugging Face dataset, or a hub id USER/NAME.")
    from datasets import load_dataset

    try:
        return load_dataset(name, split=split or None).with_format(None)
    except Exception as error:  # errors of the library, the network and every file format
        raise AgfasError(
            f"{source} cannot be read as a Hugging Face dataset ({error}). Expected: a folder saved with"
            " `save_to_disk`, a folder of parquet files or pictures, or the id USER/NAME of a dataset on the hub."
        ) from error


def _check_columns(source: Path, data: Dataset, image: str, others: Sequence[str | None]) -> None:
    from datasets import Image

    for name in (image, *others):
        if name is not None and name not in data.column_names:
            raise AgfasError(f"{source} has no column {name!r}; {nearest(name, data.column_names)}")
    pictures = [name for name, feature in data.features.items() if isinstance(feature, Image)]
    if image not in pictures:
        raise AgfasError(
            f"The column {image!r} of {source} holds no pictures; columns of pictures: {', '.join(pictures) or 'none'}."
        )


def _texts(data: Dataset, name: str) -> list[str]:
    """A column as text: class names for class labels, empty text for missing values."""
    from datasets import ClassLabel

    feature, values = data.features[name], data[name][:]
    if isinstance(feature, ClassLabel):
        return ["" if value is None or value < 0 else feature.names[value] for value in values]
    return ["" if value is None else str(value).strip() for value in values]


def _needed(data: Dataset, name: str) -> list[str]:
    """A column as text; no row may be empty."""
    texts = _texts(data, name)
    empty = [row for row, text in enumerate(texts) if not text]
    if empty:
        raise AgfasError(f"{len(empty)} rows have no {name!r}, the first is row {empty[0]}. Remove these rows.")
    return texts


def _filled(data: Dataset, name: str | None, otherwise: list[str]) -> list[str]:
    """A column as text, with `otherwise` for missing values or a missing column."""
    if name is None:
        return otherwise
    return [text or other for text, other in zip(_texts(data, name), otherwise, strict=True)]


def _bonafide(
    source: Path, data: Dataset, label: str, there: set[str], given: str | int | Sequence[str | int] | None
) -> set[str]:
    """The labels that mean bona fide, as in `_texts`."""
    if given is None:
        words = {text: LABELS.get(plain(text)) for text in there}
        if any(word is None for word in words.values()) or any(text.isdigit() for text in there):
            raise AgfasError(
                f"Which labels of {source} mean bona fide? Give them with bonafide=...; the column {label!r} holds:"
                f" {', '.join(sorted(there)[:20])}."
            )
        return {text for text, word in words.items() if word == BONAFIDE}
    wanted = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    names = getattr(data.features[label], "names", None) or []
    live = set()
    for word in (str(word).strip() for word in wanted):
        name = names[int(word)] if word not in there and word.isdigit() and int(word) < len(names) else word
        if name not in there:
            raise AgfasError(f"No row of {source} has the {label!r} {word!r}; {nearest(word, there)}")
        live.add(name)
    return live


def _split(source: Path, name: str) -> str:
    if plain(name) not in SPLIT_WORDS:
        raise AgfasError(
            f"{source}: {name!r} is no split; {nearest(plain(name), SPLIT_WORDS)} To have the"
            f" subjects dealt out, import this split alone ({source}@{name}, or its folder)."
        )
    return SPLIT_WORDS[plain(name)]

"""Any image dataset in the form of Hugging Face `datasets`: on disk, or on the hub.

    SOURCE/dataset_dict.json, SOURCE/{train,test}/...        saved by `DatasetDict.save_to_disk`
    SOURCE/state.json                                        saved by `Dataset.save_to_disk`
    SOURCE/**.parquet                                        what `load_dataset` reads
    SOURCE/[SPLIT/]CLASS/FILE                                folders of pictures, see `class_folders`
    USER/NAME                                                a dataset of the hub
    SOURCE@SPLIT, USER/NAME@SPLIT                            one split of any of these

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
from zipfile import BadZipFile, ZipFile

from pipelines.data.contents import content_hashes, folder_hash
from pipelines.data.importers import class_folders
from pipelines.data.importers.labels import Given, as_text, attack_type_of, meanings
from pipelines.data.importers.source import SUFFIXES, SourceFace, files_in, split_of
from pipelines.data.records import open_saved
from pipelines.errors import AgfasError, nearest
from pipelines.files import read_json
from pipelines.fingerprint import fingerprint
from pipelines.spelling import one_form

if TYPE_CHECKING:
    from datasets import Dataset

TITLE = "a Hugging Face dataset"
CITATION = ""
LICENCE = "That of the dataset; see its card."
VERIFIED = "The library's own format; checked on datasets that the tests save."

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# Files that `load_dataset` knows to hold no rows.
_NOTES = ("config.json", "dataset_infos.json")
_PATTERN_MARKS = ("*", "?", "[", "::", "\n", "\r")


def find(
    source: Path,
    domain: str,
    *,
    image: str = "image",
    label: str = "label",
    bonafide: Given = None,
    live: Given = None,
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
        bonafide, live: the labels that mean bona fide, see `labels.meanings`.
        subject, video, attack_type: columns of these, if any. A row without a video is a video; a row without a subject
            has an unknown subject.
        split_column: column of the split; default: the splits of the dataset. A dataset with a single split has none,
            so that its subjects are dealt out.

    Raises:
        AgfasError: no dataset, a missing column, an ambiguous label, or an unknown name of a split.
    """
    place, part = split_of(source)
    if class_folders.is_one(place):
        return class_folders.find(place, domain, part, bonafide, live)
    held = folder_hash(place) if place.is_dir() else ""
    parts = _parts(place, part, held)
    label, image = _column(source, parts, label), _column(source, parts, image)
    named = [_column(source, parts, name) if name else None for name in (subject, video, attack_type, split_column)]
    subject, video, attack_type, split_column = named
    _check_pictures(source, parts[0][2], image)
    labels = [_needed(data, label) for _, _, data in parts]
    where = f"the column {label!r} of {source}"
    numbered = getattr(parts[0][2].features[label], "names", None) or []
    there: dict[str, str] = {}
    for texts in labels:
        for row, text in enumerate(texts):
            there.setdefault(text, f"row {row}")
    means = meanings(there, bonafide, live, where, numbered)
    faces: list[SourceFace] = []
    frames: Counter[tuple[str, str]] = Counter()
    for (path, name, data), texts in zip(parts, labels, strict=True):
        own = [f"row-{name}-{row:07d}" if name else f"row-{row:07d}" for row in range(len(data))]
        videos = _filled(data, video, own)
        known = _filled(data, subject, [""] * len(data))
        kinds = _filled(data, attack_type, [""] * len(data))
        if split_column:
            splits = [class_folders.split_word(source, text, split_column) for text in _needed(data, split_column)]
        else:
            splits = [class_folders.split_word(source, name) if len(parts) > 1 else ""] * len(data)
        content = _content(place, data, image, held)
        for row, text in enumerate(texts):
            who = (known[row] or videos[row], videos[row])
            kind = attack_type_of(means[text], kinds[row], text, f"{source}, row {row}")
            found = SourceFace(path, domain, kind, *who, frames[who], splits[row], subject_known=bool(known[row]))
            faces.append(replace(found, row=row, column=image, content=content))
            frames[who] += 1
    return faces


def picture_bytes(face: SourceFace) -> bytes:
    """The bytes of the JPEG, PNG, ... file of a face that `find` returned.

    Raises:
        AgfasError: the dataset is missing or damaged, the row is empty, or its file cannot be read.
    """
    cell = _rows(face.path, face.column, face.content)[face.row][face.column]
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise AgfasError(f"Row {face.row} of {face.path} has no picture in {face.column!r}.")
    if cell["bytes"] is not None:
        return cell["bytes"]
    try:
        return _file_bytes(cell["path"])
    except (OSError, KeyError, BadZipFile) as error:
        why = getattr(error, "strerror", None) or error
        raise AgfasError(
            f"Row {face.row} of {face.path} names {cell['path']}, which cannot be read ({why})."
        ) from error


def _file_bytes(path: str) -> bytes:
    """The bytes of a file, or of a member of an archive on this machine, `zip://MEMBER::ARCHIVE`."""
    member, inside, archive = path.removeprefix("zip://").partition("::")
    if not (inside and path.startswith("zip://")):
        return Path(path).read_bytes()
    with ZipFile(archive) as opened:
        return opened.read(member)


@lru_cache(maxsize=4)
def _rows(path: Path, column: str, content: str) -> Dataset:
    """The encoded pictures of a split: {"bytes": ..., "path": ...} or None each."""
    from datasets import Image

    return _open(path, content).select_columns([column]).cast_column(column, Image(decode=False))


def _content(folder: Path, data: Dataset, image: str, held: str) -> str:
    """What a split holds, and after a hyphen the files elsewhere that its pictures are in, if it only names them.

    Args:
        folder: of the dataset, or its hub id.
        data: the split.
        image: its column of pictures.
        held: a hash of the folder's files; empty for a dataset of the hub, whose library knows its revision.
    """
    column = data.select_columns([image]).data.column(image)
    parts = [getattr(chunk, "storage", chunk) for chunk in column.chunks]
    outside = [path for part in parts for path in part.filter(part.field("bytes").is_null()).field("path").to_pylist()]
    files = [Path(path) for path in outside if path is not None and not (held and Path(path).is_relative_to(folder))]
    hashes = fingerprint(content_hashes(files)) if files else ""
    return f"{held or data._fingerprint}-{hashes}"


def _parts(source: Path, split: str, held: str) -> list[tuple[Path, str, Dataset]]:
    """Path, name and rows of every split, or of one; `_open` opens the path again."""
    from datasets import Dataset

    if (source / "dataset_dict.json").is_file():
        names = [str(name) for name in read_json(source / "dataset_dict.json").get("splits", [])]
        if split and split not in names:
            raise AgfasError(f"{source} has no split {split!r}; {nearest(split, names)}")
        parts = [(source / name, name, _open(source / name, held)) for name in ([split] if split else sorted(names))]
    elif (source / "state.json").is_file():
        if split:
            raise AgfasError(f"{source} has no splits. Give it without @{split}.")
        parts = [(source, "", _open(source, held))]
    else:
        place = Path(f"{source}@{split}") if split else source
        opened = _load(place, held)
        if isinstance(opened, Dataset):
            parts = [(place, "", opened)]
        else:
            parts = [(Path(f"{source}@{name}"), name, data) for name, data in opened.items()]
    parts = [part for part in parts if len(part[2])]
    if not parts:
        raise AgfasError(f"{source} holds no rows. Expected: a dataset saved with `save_to_disk`, or a hub id.")
    return parts


def _open(path: Path, content: str) -> Dataset:
    """The rows of one split, by the path of its faces."""
    if not path.is_dir() or _is_of_tables(path):
        return _load(path, content)
    try:
        return open_saved(path)
    except Exception as error:  # damaged files raise errors of Arrow, JSON or the file system
        raise AgfasError(f"{path} cannot be read as a Hugging Face dataset ({error}). Save it again.") from error


def _is_of_tables(folder: Path) -> bool:
    return not (folder / "state.json").is_file() and not (folder / "dataset_info.json").is_file()


def _load(source: Path, content: str) -> Any:
    """`load_dataset` of a folder or a hub id; one split if the name ends in `@SPLIT`.

    The library's copies of a folder are named by the sizes and times of its files. Ours are kept apart by content, so
    that no copy of replaced pictures is read.
    """
    place, split = split_of(source)
    if not place.is_dir() and (place.is_absolute() or not _HUB_ID.fullmatch(place.as_posix())):
        raise AgfasError(f"No folder at {source}. Expected: a folder of a Hugging Face dataset, or a hub id USER/NAME.")
    if place.is_dir() and any(mark in str(place.resolve()) for mark in _PATTERN_MARKS):
        raise AgfasError(
            f"`datasets` takes *, ?, [, ::, and line breaks in the name of {place} for a pattern. Rename or move the"
            " folder."
        )
    from datasets import config, load_dataset, load_dataset_builder

    own = Path(config.HF_DATASETS_CACHE, f"content-{content.partition('-')[0]}")
    options = {"cache_dir": str(own)} if place.is_dir() else {}

    try:
        used = load_dataset_builder(str(place), **options).config.data_files if place.is_dir() else None
        opened = load_dataset(str(place), split=split or None, **options).with_format(None)
    except Exception as error:  # errors of the library, the network and every file format
        raise AgfasError(
            f"{source} cannot be read as a Hugging Face dataset ({error}). Expected: a folder saved with"
            " `save_to_disk`, a folder of parquet files or of class folders, or the id USER/NAME of a dataset on the"
            " hub."
        ) from error
    if used and not split:
        _check_whole(place, {Path(name) for names in used.values() for name in names})
    return opened


def _check_whole(folder: Path, used: set[Path]) -> None:
    """Refuse a folder of which `datasets` reads a part, since it takes words in file names for splits."""
    endings = {path.suffix.lower() for path in used} | set(SUFFIXES)
    taken = {path.resolve() for path in used}
    there = [path for path in files_in(folder, tuple(endings)) if path.name not in _NOTES]
    left = [path for path in there if path.resolve() not in taken]
    if left:
        raise AgfasError(
            f"{len(left)} of {len(there)} files of {folder} would be left out, the first is {left[0]}: `datasets` takes"
            " words such as test and train in file names for splits. Put the files of every split into a folder of its"
            " name, or give a list (--importer csv)."
        )


def _column(source: Path, parts: Sequence[tuple[Path, str, Dataset]], name: str) -> str:
    """The name of a column as the dataset spells it.

    Raises:
        AgfasError: a split has no such column.
    """
    for _, _, data in parts:
        found = [column for column in data.column_names if one_form(column) == one_form(name)]
        if not found:
            raise AgfasError(f"{source} has no column {name!r}; {nearest(name, data.column_names)}")
    return found[0]


def _check_pictures(source: Path, data: Dataset, image: str) -> None:
    from datasets import Image

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
    return [as_text(value) for value in values]


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

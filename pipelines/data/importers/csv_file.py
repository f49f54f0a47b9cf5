"""A list of pictures and videos as comma-separated values with a header.

    path,label,subject,video,attack_type,domain,split,age,sex,ethnicity
    phones/ann.mp4,bonafide,ann,,,,train,34,female,
    prints/ann.png,attack,ann,print-1,print,,train,,,

Our own layout. `path` and `label` are required, the other columns may be missing or empty. Paths are absolute, or
relative to the folder of the list and inside it. A row without `video` is a video; a row without `subject` has an
unknown subject. Semicolons and tabs are accepted as separators.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipelines.data.importers.source import SourceFace, names_below
from pipelines.data.importers.words import LABELS, SPLIT_WORDS, UNKNOWN, plain
from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError, nearest

TITLE = "a list of your own"
CITATION = ""
LICENCE = "That of the pictures and videos."
VERIFIED = "Our own layout."

T = TypeVar("T")

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "subject", "video", "attack_type", "domain", "split", "age", "sex", "ethnicity")


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per row.

    Args:
        source: the list, or a folder with one `.csv` file.
        domain: for rows without `domain`.

    Raises:
        AgfasError: no list, an unknown or missing column, an invalid row, a path outside the folder of the list, or
            splits for some rows only.
    """
    path = _list_at(source)
    rows = _rows(path)
    files = [_file(path, line, row["path"]) for line, row in rows]
    names = names_below(path.parent, files)
    faces, frames = [], Counter[tuple[str, str, str]]()
    for (line, row), file, name in zip(rows, files, names, strict=True):
        face = _face(f"{path}, line {line}", row, file, name, domain)
        place = (face.domain, face.subject, face.video)
        faces.append(face if face.is_video else replace(face, frame=frames[place]))
        frames[place] += 1
    without = [line for (line, _), face in zip(rows, faces, strict=True) if not face.split]
    if 0 < len(without) < len(faces):
        raise AgfasError(
            f"{path}, line {without[0]}: no split, though other rows have one. Give it to all, or to none."
        )
    return faces


def _list_at(source: Path) -> Path:
    if source.is_file():
        return source
    lists = sorted(source.glob("*.csv")) if source.is_dir() else []
    if len(lists) != 1:
        there = f"{len(lists)} .csv files" if source.is_dir() else "no file"
        raise AgfasError(
            f"{source} holds {there}; give one list with the columns {', '.join(NEEDED)}"
            f" and, optionally, {', '.join(COLUMNS[len(NEEDED) :])}."
        )
    return lists[0]


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows, with empty text for missing columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",;\t", key=header.count))
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    except UnicodeDecodeError:
        raise AgfasError(f"{path} is not UTF-8 text. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise AgfasError(f"{path} is not a list of comma-separated values ({error}). Save it as CSV again.") from None
    if len(lines) < 2:
        raise AgfasError(f"{path} has no rows; it needs a header with {', '.join(NEEDED)} and a row per file.")
    columns = _columns(path, lines[0][1])
    for line, row in lines[1:]:
        if len(row) != len(columns):
            raise AgfasError(f"{path}, line {line}: {len(row)} values for {len(columns)} columns.")
    empty = dict.fromkeys(COLUMNS, "")
    return [(line, {**empty, **dict(zip(columns, row, strict=True))}) for line, row in lines[1:]]


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [name.lower() for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise AgfasError(f"{path}: no column is called {name!r}; {nearest(name, COLUMNS)}")
        if columns.count(name) > 1:
            raise AgfasError(f"{path}: the column {name!r} appears twice.")
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise AgfasError(f"{path}: the column {missing[0]!r} is missing. There are: {', '.join(columns)}.")
    return columns


def _file(path: Path, line: int, value: str) -> Path:
    if not value or "\0" in value:
        raise AgfasError(f"{path}, line {line}: the path is {'no text' if value else 'empty'}.")
    file = Path(os.path.normpath(path.parent / value))
    if not Path(value).is_absolute() and not file.is_relative_to(os.path.normpath(path.parent)):
        raise AgfasError(
            f"{path}, line {line}: {value} leaves the folder of the list by `..`. Put the file into that folder, or"
            " give its absolute path."
        )
    return file


def _face(place: str, row: dict[str, str], file: Path, name: str, domain: str) -> SourceFace:
    label = _word(place, "label", row["label"], LABELS)
    kind = row["attack_type"] or (NO_ATTACK if label == BONAFIDE else UNKNOWN)
    if (kind == NO_ATTACK) != (label == BONAFIDE):
        raise AgfasError(f"{place}: attack_type {kind!r} does not go with the label {row['label']!r}.")
    video = row["video"] or (f"{row['subject']}-{name}" if row["subject"] else name)
    return SourceFace(
        file,
        row["domain"] or domain,
        kind,
        row["subject"] or video,
        video,
        split=_word(place, "split", row["split"], SPLIT_WORDS) if row["split"] else "",
        subject_known=bool(row["subject"]),
        age=_age(place, row["age"]),
        sex=row["sex"],
        ethnicity=row["ethnicity"],
    )


def _word(place: str, column: str, value: str, words: Mapping[str, T]) -> T:
    try:
        return words[plain(value)]
    except KeyError:
        raise AgfasError(f"{place}: {value!r} is no {column}; {nearest(plain(value), words)}") from None


def _age(place: str, value: str) -> int:
    if not value:
        return -1
    if not value.isdecimal() or len(value) > 3:
        raise AgfasError(f"{place}: the age {value!r} is no number of years.")
    return int(value)

"""A list of pictures and videos as comma-separated values with a header.

    path,label,subject,video,attack_type,domain,split,age,sex,ethnicity
    phones/ann.mp4,bonafide,ann,,,,train,34,female,
    prints/ann.png,attack,ann,print-1,print,,train,,,

Our own layout. `path` and `label` are required, the other columns may be missing or empty. Paths are absolute, or
relative to the folder of the list and inside it, as their system writes them (see `listed`). A row without `video` is a
video; a row without `subject` has an unknown subject. Semicolons and tabs are accepted as separators.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.labels import Given, attack_type_of, meanings
from pipelines.data.importers.listed import listed_files
from pipelines.data.importers.source import SourceFace, is_of_the_system, names_below
from pipelines.data.importers.words import SPLIT_WORDS, plain
from pipelines.errors import AgfasError, nearest

TITLE = "a list of your own"
CITATION = ""
LICENCE = "That of the pictures and videos."
VERIFIED = "Our own layout."

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "subject", "video", "attack_type", "domain", "split", "age", "sex", "ethnicity")


def find(source: Path, domain: str, *, bonafide: Given = None, live: Given = None) -> list[SourceFace]:
    """One face per row.

    Args:
        source: the list, or a folder with one `.csv` file.
        domain: for rows without `domain`.
        bonafide, live: the labels that mean bona fide, see `labels.meanings`.

    Raises:
        AgfasError: no list, an unknown or missing column, an invalid row, a path outside the folder of the list, a file
            listed twice, a label whose meaning is not known, or splits for some rows only.
    """
    path = _list_at(source)
    rows = _rows(path)
    files = listed_files(path, [(line, row["path"]) for line, row in rows])
    names = names_below(path.parent, files)
    places: dict[str, str] = {}
    for line, row in rows:
        if not row["label"]:
            raise AgfasError(f"{path}, line {line}: no label. Give every row one, or remove the row.")
        places.setdefault(row["label"], f"line {line}")
    kinds = meanings(places, bonafide, live, f"the column 'label' of {path}")
    faces, frames = [], Counter[tuple[str, str, str]]()
    for (line, row), file, name in zip(rows, files, names, strict=True):
        face = _face(f"{path}, line {line}", row, kinds[row["label"]], file, name, domain)
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
    entries = sorted(source.iterdir()) if source.is_dir() else []
    lists = [path for path in entries if path.suffix.lower() == ".csv" and not is_of_the_system(path.name)]
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
    columns = [plain(name).replace(" ", "_") for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise AgfasError(f"{path}: no column is called {name!r}; {nearest(name, COLUMNS)}")
        if columns.count(name) > 1:
            raise AgfasError(f"{path}: the column {name!r} appears twice.")
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise AgfasError(f"{path}: the column {missing[0]!r} is missing. There are: {', '.join(columns)}.")
    return columns


def _face(place: str, row: dict[str, str], kind: str, file: Path, name: str, domain: str) -> SourceFace:
    video = row["video"] or (f"{row['subject']}-{name}" if row["subject"] else name)
    return SourceFace(
        file,
        row["domain"] or domain,
        attack_type_of(kind, row["attack_type"], row["label"], place),
        row["subject"] or video,
        video,
        split=_split(place, row["split"]) if row["split"] else "",
        subject_known=bool(row["subject"]),
        age=_age(place, row["age"]),
        sex=row["sex"],
        ethnicity=row["ethnicity"],
    )


def _split(place: str, value: str) -> str:
    try:
        return SPLIT_WORDS[plain(value)]
    except KeyError:
        raise AgfasError(f"{place}: {value!r} is no split; {nearest(plain(value), SPLIT_WORDS)}") from None


def _age(place: str, value: str) -> int:
    if not value:
        return -1
    if not value.isdecimal() or len(value) > 3:
        raise AgfasError(f"{place}: the age {value!r} is no number of years.")
    return int(value)

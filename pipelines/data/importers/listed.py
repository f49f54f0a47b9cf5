"""The files that a list names, as they are called on this disk.

A list may come from another system than the files: with backslashes, with the other form of Unicode, or in other case.
A path that does not exist as it is written is looked for in these spellings, and found if just one file has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.spelling import one_form


def listed_files(path: Path, rows: Sequence[tuple[int, str]]) -> list[Path]:
    """The file of every row; one that does not exist as the row writes it, and is refused when it is read.

    Args:
        path: of the list.
        rows: line number and path of each.

    Raises:
        AgfasError: no path, one that leaves the folder of the list by `..`, or a file that two rows name: by one path,
            by two spellings of it, or by two links.
    """
    files = []
    lines: dict[object, int] = {}
    entries = cache(_entries)
    for line, value in rows:
        file = _file(path, line, value, entries)
        try:
            found = os.stat(file)
            itself: object = (found.st_dev, found.st_ino) if found.st_ino else file
        except (OSError, ValueError):
            itself = file
        if itself in lines:
            raise AgfasError(
                f"{path}, line {line}: {value} is the file of line {lines[itself]} again. Remove one of the two lines."
            )
        lines[itself] = line
        files.append(file)
    return files


def _file(path: Path, line: int, value: str, entries: Callable[[Path], dict[str, list[str]]]) -> Path:
    if not value or "\0" in value:
        raise AgfasError(f"{path}, line {line}: the path is {'no text' if value else 'empty'}.")
    written = _inside(path, line, value)
    if os.path.lexists(written):
        return written
    for spelling in dict.fromkeys((value, value.replace("\\", "/"))):
        found = _respelled(_inside(path, line, spelling), entries)
        if found is not None:
            return found
    return written


def _inside(path: Path, line: int, value: str) -> Path:
    file = Path(os.path.normpath(path.parent / value))
    if not Path(value).is_absolute() and not file.is_relative_to(os.path.normpath(path.parent)):
        raise AgfasError(
            f"{path}, line {line}: {value} leaves the folder of the list by `..`. Put the file into that folder, or"
            " give its absolute path."
        )
    return file


def _respelled(file: Path, entries: Callable[[Path], dict[str, list[str]]]) -> Path | None:
    """The file whose path differs in its form of Unicode or in case only; None if there is none, or more than one."""
    place = Path(file.anchor)
    for part in file.relative_to(place).parts:
        if os.path.lexists(place / part):
            place /= part
            continue
        there = entries(place).get(one_form(part).casefold(), [])
        same = [name for name in there if one_form(name) == one_form(part)] or there
        if len(same) != 1:
            return None
        place /= same[0]
    return place


def _entries(folder: Path) -> dict[str, list[str]]:
    """The names in a folder by their folded spelling; nothing if it cannot be read."""
    names: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(one_form(name).casefold(), []).append(name)
    except OSError:
        pass
    return names

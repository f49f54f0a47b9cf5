"""Reading one source: a picture file, a video file, or a row of a Hugging Face dataset; nothing of it is trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.images import read_picture
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.names import printable
from pipelines.errors import AgfasError


def source_name(face: SourceFace, source: Path) -> str:
    """What a source is called in the dataset and in `refused.csv`: its path below `source`, or `column[row]`."""
    if face.row >= 0:
        return f"{face.column}[{face.row}]"
    path = face.path.relative_to(source) if face.path.is_relative_to(source) else face.path
    return printable(path.as_posix())


def check_file(path: Path, source: Path) -> None:
    """Refuse what may block, lead elsewhere or cannot be opened, before anything opens it.

    Raises:
        AgfasError: no such file, a link or something behind one, no regular file, empty, or not readable.
    """
    if link := _link_on_the_way(path, source):
        raise AgfasError(f"{path} is reached through a link ({link.name}); links are not followed. Copy the file.")
    try:
        found = path.lstat()
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its name and permissions.") from error
    if not stat.S_ISREG(found.st_mode):
        raise AgfasError(f"{path} is no regular file, so it holds no picture. Remove it.")
    if found.st_size == 0:
        raise AgfasError(f"{path} is empty (0 bytes), so it holds no picture. Export or copy it again.")
    if not os.access(path, os.R_OK):
        raise AgfasError(f"{path} cannot be read (Permission denied). Check its permissions.")


def read_still(face: SourceFace, source: Path, scratch: Path) -> np.ndarray:
    """The picture of a file or of a row, upright.

    Args:
        face: what to read.
        source: links above it are the user's own and are followed; below it none is.
        scratch: folder where the bytes of a row may lie for a moment, so that they pass the checks of a file.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        AgfasError: it cannot be read; says why.
    """
    if face.row >= 0:
        return _read_row(face, scratch)
    check_file(face.path, source)
    return np.asarray(read_picture(face.path))


def _read_row(face: SourceFace, scratch: Path) -> np.ndarray:
    from pipelines.data.importers.hf import picture_bytes

    temporary = scratch / f"row-{os.getpid()}"
    try:
        temporary.write_bytes(picture_bytes(face))
        return np.asarray(read_picture(temporary))
    except AgfasError as error:
        place = f"{face.path}, row {face.row} of {face.column},"
        raise AgfasError(str(error).replace(str(temporary), place)) from None
    finally:
        temporary.unlink(missing_ok=True)


def state_of(path: Path) -> list[Any]:
    """What tells a file or a folder from an earlier state of it: sizes and times, not bytes.

    A dataset of the hub has none of its own here; its name stands for it.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [[file.relative_to(path).as_posix(), *state_of(file)] for file in files]
    try:
        found = path.lstat()
    except OSError:  # refused with its reason when it is its turn
        return [str(path)]
    return [found.st_size, found.st_mtime_ns]


def _link_on_the_way(path: Path, source: Path) -> Path | None:
    """The first link below the source on the way to a file; of a file elsewhere, whether it is one itself."""
    parents = [place for place in path.parents if place != source and place.is_relative_to(source)]
    return next((place for place in [*reversed(parents), path] if place.is_symlink()), None)

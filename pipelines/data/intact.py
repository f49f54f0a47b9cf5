"""Checksums of a face dataset: every file is compared with what was written before its content is used.

    FOLDER/sums.json    {"block": B, "files": {NAME: {"bytes": N, "sums": checksums of its blocks of B bytes}}}

Columns are compared when a dataset is opened, pictures when they are decoded: the Arrow files are large. README.md is
for people to edit and has no checksum. Datasets of earlier versions have none and are read as they are.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.files import read_json, write_json
from pipelines.sums import CheckedFile, Damaged, as_text, checksums, even_edges, from_text

if TYPE_CHECKING:
    import pyarrow as pa

SUMS_NAME = "sums.json"
_BLOCK = 1 << 16
# Columns of whole files, which are most of a dataset's bytes.
_PICTURES = ("image", "mask", "picture")


def write_sums(folder: Path) -> None:
    """Write the checksums of a dataset, once everything else in it is written."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = {path.name: path for path in found if path.suffix not in (".md", ".npy") and path.name != SUMS_NAME}
    sums = {name: {"bytes": path.stat().st_size, "sums": _sums_of(path)} for name, path in files.items()}
    write_json(folder / SUMS_NAME, {"block": _BLOCK, "files": sums})


def _bytes_of(path: Path) -> np.ndarray:
    return np.asarray(np.memmap(path, np.uint8, "r")) if path.stat().st_size else np.empty(0, np.uint8)


def _sums_of(path: Path) -> str:
    data = _bytes_of(path)
    return as_text(checksums(data, even_edges(len(data), _BLOCK)))


def check_file(folder: Path, name: str) -> None:
    """Compare a whole file with its checksums, once in a process while it does not change.

    Raises:
        Damaged: it is not what was written, or missing.
    """
    listed = _listed(folder)
    if name in listed:
        _check_file(folder / name, *listed[name], _stamp(folder / name))


def check_all(folder: Path) -> None:
    """`check_file` of every file with checksums."""
    for name in _listed(folder):
        check_file(folder, name)


@lru_cache(maxsize=1024)
def _check_file(path: Path, block: int, sums: str, stamp: tuple[int, ...]) -> None:
    if not stamp:
        raise Damaged(path, _advice(path.parent), "existence")
    file = _checked(path, _bytes_of(path), block, sums)
    file.check(0, len(file.data))


def _checked(path: Path, data: np.ndarray, block: int, sums: str) -> CheckedFile:
    return CheckedFile(path, data, even_edges(len(data), block), from_text(sums), _advice(path.parent))


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / SUMS_NAME
    return _read(path, _stamp(path)) if path.is_file() else {}


@lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, ...]) -> dict[str, tuple[int, str]]:
    try:
        content = read_json(path)
        return {str(name): (int(content["block"]), str(one["sums"])) for name, one in content["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged(path, _advice(path.parent)) from None


def _stamp(path: Path) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _advice(folder: Path) -> str:
    return f"Create {folder} again, or copy it again from where it is whole."


class CheckedTable:
    """The Arrow files of a face dataset, mapped; everything but the pictures' bytes is compared at once.

    Args:
        folder: of the dataset.
        names: of its Arrow files.

    Attributes:
        table: all of their rows.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        import pyarrow as pa

        listed, parts = _listed(folder), []
        self._files: list[tuple[int, CheckedFile]] = []
        for name in names:
            buffer = pa.memory_map(str(folder / name)).read_buffer()
            parts.append(pa.ipc.open_stream(pa.BufferReader(buffer)).read_all())
            if name in listed:
                data = np.frombuffer(buffer, np.uint8)
                self._files.append((buffer.address, _checked(folder / name, data, *listed[name])))
                self._check_columns(parts[-1], *self._files[-1])
        self.table = pa.concat_tables(parts)

    def _check_columns(self, table: pa.Table, start: int, file: CheckedFile) -> None:
        wanted = np.ones(len(file.edges) - 1, dtype=bool)
        for name in set(_PICTURES) & set(table.column_names):
            for chunk in table.column(name).chunks:
                _, _, pictures = chunk.field("bytes").buffers()
                if pictures is not None and 0 <= pictures.address - start <= len(file.data):
                    first = np.searchsorted(file.edges, pictures.address - start, side="left")
                    last = np.searchsorted(file.edges, pictures.address - start + pictures.size, side="right") - 1
                    wanted[first : max(first, last)] = False
        for block in np.flatnonzero(wanted).tolist():
            file.check_block(block)

    def picture(self, column: str, row: int) -> bytes | None:
        """The bytes of a stored picture, compared with their checksums; None if there is none.

        Raises:
            Damaged: they are not what was written.
        """
        for chunk in self.table.column(column).chunks:
            if row < len(chunk):
                break
            row -= len(chunk)
        if not chunk[row].is_valid:
            return None
        stored = chunk.field("bytes")
        _, ends, data = stored.buffers()
        place = stored.offset + row
        start, stop = np.frombuffer(ends, np.int32)[place : place + 2].tolist()
        for first, file in self._files:
            if 0 <= data.address - first < len(file.data):
                file.check(data.address - first + start, data.address - first + stop)
        return data.slice(start, stop - start).to_pybytes()

    def check_pictures(self) -> None:
        """Compare all bytes of the files."""
        for _, file in self._files:
            file.check(0, len(file.data))

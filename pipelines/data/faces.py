"""A face dataset opened for training: its columns as arrays, its pixels memory-mapped.

The images of the dataset are compressed. They are decoded once into one uint8 array beside it, so that reading a
shuffled batch is an array lookup. Every process that opens the dataset meanwhile decodes its share.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.blocks import Job, SharedArray, open_shared, remove_finished, share
from pipelines.data.crop import resized_mask, to_square
from pipelines.data.images import decode_picture
from pipelines.data.intact import CheckedTable
from pipelines.data.records import FRAME_RULE, checked_table, load_faces, open_table, read_card, read_columns
from pipelines.errors import AgfasError
from pipelines.processes import is_main, threads
from pipelines.sums import CheckedRows

if TYPE_CHECKING:
    import pyarrow

# The attribute of each column in `Faces` is its plural.
_COLUMNS = ("key", "label", "domain", "subject", "video", "attack_type", "split")

# Faces decoded and written at once, which is what a kill can cost each process.
_BLOCK = 128


@dataclass(frozen=True)
class Faces:
    """A face dataset with its metadata in memory and its pixels on disk.

    Attributes:
        keys, domains, subjects, videos, attack_types, splits: (N,) object arrays of strings.
        labels: (N,) int64, 0 attack, 1 bona fide.
        images: (N, H, W, 3) uint8, memory-mapped.
        fingerprint: identity of the dataset's content at this size.
        folder: of the dataset.
        masks: (N, H, W) uint8, memory-mapped, 1 face, 0 background; None if the dataset has no masks.
        frames: (N,) int, position within the video.
        frame_rules: (N,) object array of strings, see `FRAME_RULE`; None if the dataset does not say.
    """

    keys: np.ndarray
    labels: np.ndarray
    domains: np.ndarray
    subjects: np.ndarray
    videos: np.ndarray
    attack_types: np.ndarray
    splits: np.ndarray
    images: np.ndarray | CheckedRows
    fingerprint: str
    folder: Path
    masks: np.ndarray | CheckedRows | None = None
    frames: np.ndarray | None = None
    frame_rules: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.images.shape[1])

    @property
    def boxes(self) -> np.ndarray | None:
        """(N, 4) float32: left, top, width, height of each face in pixels of the picture that it was cut from.

        NaN for records without; None if no record has one.
        """
        return _places(self.folder, self.fingerprint, "box", (4,))

    @property
    def points(self) -> np.ndarray | None:
        """(N, 5, 2) float32: the landmarks of each face in pixels of the picture that it was cut from; as `boxes`."""
        return _places(self.folder, self.fingerprint, "points", (5, 2))

    @property
    def has_picture(self) -> np.ndarray:
        """(N,) bool: whether `agfas prepare --keep-picture` kept the picture around each face."""
        column = _column(self.folder, self.fingerprint, "picture")
        return np.zeros(len(self), dtype=bool) if column is None else np.asarray(column.is_valid())

    def picture(self, row: int) -> np.ndarray | None:
        """The whole picture or frame that a face was cut from, (H, W, 3) uint8 RGB, upright; None if it was not kept.

        Raises:
            AgfasError: it cannot be decoded, or is not what was written.
        """
        if _column(self.folder, self.fingerprint, "picture") is None:
            return None
        content = _table(self.folder, self.fingerprint).picture("picture", row)
        if content is None:
            return None
        try:
            return decode_picture(content)
        except Exception as error:  # decoders raise OSError, ValueError, struct.error, ... on damaged bytes
            raise AgfasError(
                f"The picture of row {row} of {self.folder} cannot be decoded ({error}). Make the dataset again."
            ) from error

    def live(self, domains: list[str], splits: tuple[str, ...] = ("train",)) -> np.ndarray:
        """Indices of the bona fide faces of the given domains and splits."""
        chosen = (self.labels == 1) & np.isin(self.domains, domains) & np.isin(self.splits, splits)
        return np.flatnonzero(chosen)

    def columns(self) -> dict[str, np.ndarray]:
        """The metadata by the records' column names."""
        columns = {name: getattr(self, f"{name}s") for name in (*_COLUMNS, "frame", FRAME_RULE)}
        return {name: column for name, column in columns.items() if column is not None}


def open_faces(folder: Path, size: int) -> Faces:
    """Open a face dataset with pixels of `size`; they are decoded once and memory-mapped afterwards."""
    columns = read_columns(folder, [*_COLUMNS, "frame"], optional=[FRAME_RULE])
    return Faces(
        **{f"{name}s": column for name, column in columns.items()},
        images=_decoded(folder, "image", folder / f"pixels-{size}.npy", (size, size, 3)),
        fingerprint=str(read_card(folder)["fingerprint"]) + f"-{size}",
        folder=folder,
        masks=_decoded(folder, "mask", folder / f"masks-{size}.npy", (size, size)) if has_masks(folder) else None,
    )


@lru_cache(maxsize=4)
def _table(folder: Path, fingerprint: str) -> CheckedTable:
    """Not a member of `Faces`, which may be sent to other processes. `fingerprint` tells a dataset made anew."""
    return checked_table(folder)


def _column(folder: Path, fingerprint: str, name: str) -> pyarrow.ChunkedArray | None:
    """A memory-mapped column of a face dataset; None if no record has a value."""
    table = _table(folder, fingerprint).table
    if name not in table.column_names or table.column(name).null_count == len(table):
        return None
    return table.column(name)


@lru_cache(maxsize=8)
def _places(folder: Path, fingerprint: str, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """A column of coordinates as one array, NaN for records without; kept, since every batch reads it."""
    column = _column(folder, fingerprint, name)
    if column is None:
        return None
    absent = np.full(shape, np.nan).tolist()
    rows = [absent if row is None else row for row in column.to_pylist()]
    return np.array(rows, dtype=np.float32).reshape(-1, *shape)


def has_masks(folder: Path) -> bool:
    """Whether `agfas prepare --parsing-weights` wrote a mask of at least one face."""
    table = open_table(folder)
    return "mask" in table.column_names and table.column("mask").null_count < len(table)


def _decoded(folder: Path, column: str, path: Path, shape: tuple[int, ...]) -> CheckedRows:
    """A column's pictures as one memory-mapped uint8 array (N, *shape), decoded if `path` does not exist yet."""
    if not path.is_file():
        _decode(folder, column, path, shape)
    if is_main():
        remove_finished(path)
    advice = f"Remove {path.name}: the next command decodes the dataset again."
    return open_shared(path, read_card(folder)["fingerprint"], advice)


def _decode(folder: Path, column: str, path: Path, shape: tuple[int, ...]) -> None:
    """Decode a column with every process that opens the dataset, each in as many threads as it has cores."""
    from datasets import Image as Stored

    table = load_faces(folder).select_columns([column]).cast_column(column, Stored(decode=False))
    stored = Stored()
    decode: Callable[[Any, int], np.ndarray] = to_square if column == "image" else _stored_mask
    pixels = SharedArray(path, (len(table), *shape), np.uint8, _BLOCK, read_card(folder)["fingerprint"])

    def one(row: int, raw: dict[str, Any] | None) -> np.ndarray:
        try:
            return decode(None if raw is None else stored.decode_example(raw), shape[0])
        except (OSError, ValueError, SyntaxError) as error:
            raise AgfasError(
                f"The {column} of row {row} of {folder} cannot be decoded ({error}). Make the dataset again."
            ) from error

    with ThreadPoolExecutor(threads()) as pool:

        def make(block: int) -> None:
            rows = pixels.rows(block)
            pixels.write(block, np.stack(list(pool.map(one, rows, table[rows.start : rows.stop][column]))))

        share([Job(pixels.blocks, make, pixels.publish, len(table))], f"decode {path.stem}", "face")


def _stored_mask(mask: Image.Image | None, size: int) -> np.ndarray:
    """A stored mask of 0 and 255 as (size, size) of 0 and 1; a face without a mask is kept whole."""
    if mask is None:
        return np.ones((size, size), dtype=np.uint8)
    return resized_mask((np.asarray(mask.convert("L")) >= 128).astype(np.uint8), size)

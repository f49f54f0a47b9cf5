"""A face dataset opened for work: its columns as arrays and its pixels memory-mapped.

The dataset's own images are compressed; they are decoded once into one uint8 array beside it, from which a
shuffled batch is a gather.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from pipelines.data.records import load_faces, read_card
from pipelines.files import write_atomically
from pipelines.progress import track


@dataclass(frozen=True)
class Faces:
    """A face dataset in memory, its pixels on disk.

    Attributes:
        keys, domains, subjects, videos, attack_types, splits: (N,) object arrays of strings.
        labels: (N,) int64, 0 attack, 1 bona fide.
        images: (N, H, W, 3) uint8, memory-mapped.
        fingerprint: identity of the dataset's content.
        folder: where it lies.
        masks: (N, H, W) uint8, memory-mapped: 1 where face parsing found the face; None where it was not asked for.
    """

    keys: np.ndarray
    labels: np.ndarray
    domains: np.ndarray
    subjects: np.ndarray
    videos: np.ndarray
    attack_types: np.ndarray
    splits: np.ndarray
    images: np.ndarray
    fingerprint: str
    folder: Path
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.images.shape[1])

    def live(self, domains: list[str], splits: tuple[str, ...] = ("train",)) -> np.ndarray:
        """Indices of the bona fide faces of some domains and splits."""
        chosen = (self.labels == 1) & np.isin(self.domains, domains) & np.isin(self.splits, splits)
        return np.flatnonzero(chosen)

    def columns(self) -> dict[str, np.ndarray]:
        """The metadata by column name of the records."""
        return {
            "key": self.keys,
            "label": self.labels,
            "domain": self.domains,
            "subject": self.subjects,
            "video": self.videos,
            "attack_type": self.attack_types,
            "split": self.splits,
        }


def open_faces(folder: Path, size: int) -> Faces:
    """Open a face dataset with its pixels at `size`; the first time they are decoded, later they are found."""
    table = load_faces(folder)
    column = {name: np.asarray(table[name][:], dtype=object) for name in _TEXT_COLUMNS}
    return Faces(
        keys=column["key"],
        labels=np.asarray(table["label"][:], dtype=np.int64),
        domains=column["domain"],
        subjects=column["subject"],
        videos=column["video"],
        attack_types=column["attack_type"],
        splits=column["split"],
        images=_pixels(table, folder, size),
        fingerprint=str(read_card(folder)["fingerprint"]) + f"-{size}",
        folder=folder,
        masks=_masks(table, folder, size),
    )


_TEXT_COLUMNS = ("key", "domain", "subject", "video", "attack_type", "split")


def _pixels(table: Dataset, folder: Path, size: int) -> np.ndarray:
    def decode(row: dict[str, Any]) -> np.ndarray:
        return to_square(row["image"], size)

    return _decoded(table.select_columns(["image"]), folder / f"pixels-{size}.npy", (size, size, 3), decode)


def _masks(table: Dataset, folder: Path, size: int) -> np.ndarray | None:
    """The masks of `agfas prepare --parsing-weights`; a face without one is kept whole."""
    if "mask" not in table.column_names or table.data.column("mask").null_count == len(table):
        return None

    def decode(row: dict[str, Any]) -> np.ndarray:
        mask = row["mask"]
        if mask is None:
            return np.ones((size, size), dtype=np.uint8)
        return (np.asarray(mask.convert("L").resize((size, size), Image.Resampling.BOX)) >= 128).astype(np.uint8)

    return _decoded(table.select_columns(["mask"]), folder / f"masks-{size}.npy", (size, size), decode)


def _decoded(
    table: Dataset, path: Path, shape: tuple[int, ...], decode: Callable[[dict[str, Any]], np.ndarray]
) -> np.ndarray:
    """A column's pictures as one mapped uint8 array, decoded the first time and found afterwards."""

    def write(temporary: Path) -> None:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(table), *shape))
        for index, row in enumerate(track(table, f"decode {path.stem}", total=len(table), unit="face")):
            pixels[index] = decode(row)
        pixels.flush()

    if not path.is_file():
        write_atomically(path, write)
    return np.load(path, mmap_mode="r")


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """An RGB crop as (size, size, 3) uint8; other sizes are resampled with Lanczos."""
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)

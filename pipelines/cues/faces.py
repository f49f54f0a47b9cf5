"""Sources of the cue job's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipelines.errors import AgfasError
from pipelines.sums import CheckedRows


class FaceImages(Protocol):
    """Faces by position.

    Attributes:
        keys: one per face, unique.
    """

    @property
    def keys(self) -> Sequence[str]: ...

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Pictures of the faces at `indices`: (len(indices), H, W, 3) uint8."""


@dataclass(frozen=True)
class ArrayFaces:
    """Faces whose pixels are in one array, memory-mapped or in memory.

    Attributes:
        keys: one per face, unique.
        images: (N, H, W, 3) uint8.
        rows: (len(keys),) row of each face in `images`, so that a subset needs no copy of pixels; None for the same
            order.
    """

    keys: Sequence[str]
    images: np.ndarray | CheckedRows
    rows: np.ndarray | None = None

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Pictures of the faces at `indices`: (len(indices), H, W, 3) uint8."""
        return np.asarray(self.images[indices if self.rows is None else self.rows[indices]])


class DatasetFaces:
    """Faces of a Hugging Face `Dataset` with the columns `key` and `image`, decoded on access."""

    def __init__(self, dataset: Any) -> None:
        self.keys: list[str] = list(dataset["key"][:])
        self._images = dataset.select_columns(["image"])

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Pictures of the faces at `indices`: (len(indices), H, W, 3) uint8.

        Raises:
            AgfasError: a picture cannot be decoded, or the pictures differ in size.
        """
        pictures = [self._picture(int(index)) for index in indices]
        sizes = {picture.shape[:2] for picture in pictures}
        if len(sizes) > 1:
            raise AgfasError(
                f"faces of {len(sizes)} sizes in one dataset, {self.keys[int(indices[0])]} among them:"
                f" {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}. Align them to one size first."
            )
        return np.stack(pictures)

    def _picture(self, index: int) -> np.ndarray:
        try:
            return np.asarray(self._images[index]["image"].convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise AgfasError(
                f"the picture of {self.keys[index]} cannot be decoded ({error}). Make the dataset again."
            ) from error


def as_face_images(faces: Any) -> FaceImages:
    """Pictures of a `FaceImages`, an opened `Faces` or a Hugging Face `Dataset`.

    Raises:
        AgfasError: `faces` is none of these.
    """
    if hasattr(faces, "batch") and hasattr(faces, "keys"):
        return faces
    if hasattr(faces, "images") and hasattr(faces, "keys"):
        return ArrayFaces(faces.keys, faces.images)
    if hasattr(faces, "select_columns"):
        return DatasetFaces(faces)
    raise AgfasError(f"faces must be a face dataset or a provider with `keys` and `batch`, not {type(faces).__name__}.")

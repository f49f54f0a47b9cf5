"""The reconstructions of one cue source over one face dataset.

A store holds the 8-bit reconstruction, the paper's own precision, so that the form and the normalisation of the
residual remain choices of the training. Mean and standard deviation of each face's residual are stored with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cues.identity import KIND
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError

RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD = "reconstruction", "residual_mean", "residual_std"
_NAMED_KEYS = 3


def residual_statistics(images: np.ndarray, reconstructions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased standard deviation of x - x_rec in [-1, 1] over all values of each face.

    Args:
        images, reconstructions: (N, H, W, 3) uint8.

    Returns:
        Two (N,) float32 arrays. The sums are exact, so their order has no effect.
    """
    count = int(np.prod(images.shape[1:]))
    total, squares = np.empty((2, len(images)), dtype=np.float64)
    for place, (image, restored) in enumerate(zip(images, reconstructions, strict=True)):
        # Integers in double precision are exact up to 2^53, far above any picture's sum of squares.
        difference = np.subtract(image, restored, dtype=np.float64).reshape(-1)
        total[place], squares[place] = difference.sum(), difference @ difference
    # As integers: n * sum(d^2) - sum(d)^2 stays below 2^63 up to 6,000 x 6,000 pixels.
    total, squares = total.astype(np.int64), squares.astype(np.int64)
    variance = (count * squares - total * total) / (count * (count - 1.0))
    return (total / count / 127.5).astype(np.float32), (np.sqrt(variance) / 127.5).astype(np.float32)


def cue_arrays(images: np.ndarray, reconstructions: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a shard, from two (N, H, W, 3) uint8 arrays of pictures."""
    mean, deviation = residual_statistics(images, reconstructions)
    return {RECONSTRUCTION: reconstructions, RESIDUAL_MEAN: mean, RESIDUAL_STD: deviation}


class JoinedCues:
    """The reconstructions of a dataset's faces, in their order; indexed like an array of pictures.

    Attributes:
        store: that holds them.
        rows: (N,) int64, row of each face in the store; -1 for a face without a cue.
        present: (N,) bool, whether the face has a cue.
    """

    def __init__(self, store: CueStore, rows: np.ndarray) -> None:
        self.store = store
        self.rows = rows
        self.present = rows >= 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3)."""
        height, width = self.store.image_size
        return len(self.rows), height, width, 3

    def __getitem__(self, indices: Any) -> np.ndarray:
        """Reconstructions of the faces at `indices` (int, slice or array): (..., H, W, 3) uint8."""
        chosen = self.rows[indices]
        if np.any(chosen < 0):
            raise IndexError("a face outside the protocol's domains has no stored restoration")
        pictures = self.store.reconstructions(np.atleast_1d(chosen))
        return pictures[0] if np.ndim(chosen) == 0 else pictures

    def residual_mean(self) -> np.ndarray:
        """(N,) float32, the mean of x - x_rec in [-1, 1]."""
        return self.store.shards.read(RESIDUAL_MEAN, self.rows)

    def residual_std(self) -> np.ndarray:
        """(N,) float32, the unbiased standard deviation of x - x_rec in [-1, 1]."""
        return self.store.shards.read(RESIDUAL_STD, self.rows)


class CueStore:
    """A cue store, opened for reading.

    Attributes:
        shards: the store's arrays.
        image_size: height and width in pixels.
    """

    def __init__(self, shards: ShardStore) -> None:
        if shards.identity.get("kind") != KIND:
            raise AgfasError(f"{shards.folder} is a store of {shards.identity.get('kind')}, not of cues.")
        self.shards = shards
        height, width = shards.identity["image_size"]
        self.image_size: tuple[int, int] = (height, width)

    @classmethod
    def open(cls, folder: Path) -> CueStore:
        """Open a cue store, finished or not.

        Raises:
            AgfasError: `folder` is no cue store.
        """
        return cls(ShardStore.open(folder))

    def __len__(self) -> int:
        return len(self.shards)

    def reconstructions(self, keys_or_rows: Sequence[str] | Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8 reconstructions of faces, by key or by row.

        Raises:
            AgfasError: a key is not in the store, or its shard is unfinished.
        """
        first = keys_or_rows[0] if len(keys_or_rows) else 0
        rows = self.shards.rows(list(map(str, keys_or_rows))) if isinstance(first, str) else keys_or_rows
        return self.shards.read(RECONSTRUCTION, np.asarray(rows))

    def join(self, keys: Sequence[str], wanted: np.ndarray | None = None) -> JoinedCues:
        """The cues of a dataset's faces, in its order.

        Args:
            keys: N record keys.
            wanted: (N,) bool, faces that need a cue. Default: all.

        Raises:
            AgfasError: a wanted face has no cue; the message says how many and names the first.
        """
        places = np.flatnonzero(np.ones(len(keys), dtype=bool) if wanted is None else wanted)
        rows = self.shards.rows([keys[place] for place in places.tolist()])
        lacking = self.shards.missing(rows)
        if len(lacking):
            names = ", ".join(str(keys[int(places[position])]) for position in lacking[:_NAMED_KEYS])
            raise AgfasError(
                f"{len(lacking)} of {len(places)} faces have no cue in {self.shards.folder} yet, the first"
                f" being {names}. Run the cue job again: it makes what is missing."
            )
        joined = np.full(len(keys), -1, dtype=np.int64)
        joined[places] = rows
        return JoinedCues(self, joined)

"""Latents and identity tokens of the live faces, computed once and memory-mapped.

The generator trains on them without running the autoencoder or the identity encoder in every step. A mirrored face is
a second view: neither its latents nor its tokens are those of the face mirrored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.autoencoder import encode_latents
from dfg.speed import use_tf32
from pipelines.cues.shards import ShardStore
from pipelines.cues.tasks import run_tasks
from pipelines.data.faces import Faces
from pipelines.fingerprint import fingerprint
from pipelines.pixels import to_unit_range
from pipelines.processes import device, rank_and_world, wait
from pipelines.training.batches import LatentViews

# Faces per task, which is one shard.
_SHARD = 256

# Faces encoded at a time.
_BATCH = 32


class StoredLatents:
    """The views of a latent store.

    Attributes:
        views: 1, or 2 with the mirrored faces.
    """

    def __init__(self, store: ShardStore, views: int) -> None:
        self.store = store
        self.views = views

    def __len__(self) -> int:
        return len(self.store.keys)

    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LatentViews.read`."""
        return self._read("latents", rows, views), self._read("tokens", rows, views)

    def _read(self, name: str, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        parts = {view: self.store.read(f"{name}_{view}", rows[views == view]) for view in np.unique(views)}
        values = np.empty((len(rows), *next(iter(parts.values())).shape[1:]), np.float32)
        for view, part in parts.items():
            values[views == view] = part
        return values


class PaddedTokens:
    """Latent views whose tokens are zero-padded to the U-Net's width, as the paper pads 512 to 768.

    Padded when they are read: the stored zeros would be a third of the tokens' bytes.
    """

    def __init__(self, stored: LatentViews, width: int) -> None:
        self.stored, self.width, self.views = stored, width, stored.views

    def __len__(self) -> int:
        return len(self.stored)

    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LatentViews.read`; tokens are (B, N, width)."""
        latents, tokens = self.stored.read(rows, views)
        missing = self.width - tokens.shape[-1]
        return latents, np.pad(tokens, ((0, 0), (0, 0), (0, missing))) if missing else tokens


class SomeFaces:
    """A subset of latent views.

    Args:
        stored: of all faces.
        rows: (n,) int64, the faces to keep.
    """

    def __init__(self, stored: LatentViews, rows: np.ndarray) -> None:
        self.stored, self.rows, self.views = stored, rows, stored.views

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LatentViews.read`; `rows` count within the subset."""
        return self.stored.read(self.rows[rows], views)


def nested_share(keys: Sequence[str], share: float) -> np.ndarray:
    """Rows of a share of the faces, ascending; a smaller share is a subset of a larger one.

    Faces are chosen in the order of the SHA-256 of their keys, which depends on neither a seed nor the dataset's order.

    Args:
        keys: of the faces.
        share: in (0, 1]; at least one face is kept.
    """
    order = sorted(range(len(keys)), key=lambda row: hashlib.sha256(keys[row].encode()).digest())
    return np.array(sorted(order[: math.ceil(share * len(keys))]), dtype=np.int64)


def store_latents(
    root: Path,
    faces: Faces,
    indices: np.ndarray,
    autoencoder: Any,
    identity: Any,
    key: dict[str, Any],
    flip: bool,
) -> StoredLatents:
    """Encode the faces at `indices` that are not stored yet; the tasks are divided among the processes.

    Args:
        root: folder of all latent stores.
        faces: the dataset.
        indices: live faces to encode.
        autoencoder: see `dfg.autoencoder.encode_latents`.
        identity: an identity encoder; None stores one zero token of width 1, which `PaddedTokens` widens.
        key: everything that determines the latents; its fingerprint names the store.
        flip: store the mirrored view too.
    """
    rank, world_size = rank_and_world()
    views = 2 if flip else 1
    keys = [str(name) for name in faces.keys[indices]]
    key = {**key, "views": views, "keys": fingerprint(keys)}
    store = ShardStore.create_or_open(root, key, keys, _SHARD)
    parts = [part for part in (autoencoder, identity) if part is not None]
    if store.unfinished():
        use_tf32(False)  # latents are float32 in every profile, so that trainings in any share them
        for part in parts:
            part.to(device())

    def make(task: int, names: list[int]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        rows = indices[list(store.task_rows(task))]
        yield names[0], _encode(faces.images[rows], autoencoder, identity, views)

    run_tasks({0: store}, make, rank=rank, world_size=world_size, description="store latents", show_progress=rank == 0)
    for part in parts:
        part.to("cpu")  # the generator trains without them
    wait()
    return StoredLatents(store, views)


@torch.no_grad()
def _encode(pixels: np.ndarray, autoencoder: Any, identity: Any, views: int) -> dict[str, np.ndarray]:
    image = to_unit_range(pixels)
    arrays: dict[str, np.ndarray] = {}
    for view in range(views):
        turned = image.flip(-1) if view else image
        latents = [encode_latents(autoencoder, part.to(device())).float().cpu() for part in turned.split(_BATCH)]
        tokens = [_tokens(identity, part) for part in turned.split(_BATCH)]
        arrays[f"latents_{view}"] = torch.cat(latents).numpy()
        arrays[f"tokens_{view}"] = torch.cat(tokens).numpy()
    return arrays


def _tokens(identity: Any, image: torch.Tensor) -> torch.Tensor:
    if identity is None:
        return torch.zeros(len(image), 1, 1)
    return identity(image.to(device())).float().cpu()

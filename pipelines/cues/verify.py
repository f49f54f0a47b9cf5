"""Check that a cue store still holds what its source makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cues.custom import CueSource
from pipelines.cues.faces import as_face_images
from pipelines.cues.job import CueMaker, OrderedFaces, batches_of
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import as_sweep
from pipelines.cues.store import RECONSTRUCTION, CueStore
from pipelines.errors import AgfasError

# Across batch shapes and machines: at most one grey level, on 0.01 % of the pixels.
_LEVELS, _SHARE = 1, 1e-4


@dataclass(frozen=True)
class CueCheck:
    """Result of a verification.

    Attributes:
        folder: the store.
        shards: number of shards whose checksum was compared.
        broken: shards with a wrong checksum; they are revoked and will be made again.
        faces: number of faces that were restored again and compared.
        identical: how many of them have equal bytes.
        levels: largest difference in grey levels.
        share: share of the values that differ.
    """

    folder: Path
    shards: int
    broken: tuple[int, ...]
    faces: int
    identical: int
    levels: int
    share: float

    @property
    def ok(self) -> bool:
        """No damaged shard, and no difference larger than another batch shape or machine explains."""
        return not self.broken and self.levels <= _LEVELS and self.share <= _SHARE

    def __str__(self) -> str:
        lines = [f"{self.folder.name}: {self.shards} shards, {len(self.broken)} with a wrong checksum"]
        if self.broken:
            named = ", ".join(map(str, self.broken[:5]))
            lines.append(f"revoked, made again by the next run: shard {named}")
        lines.append(f"{self.faces} faces made again, {self.identical} with equal bytes")
        if self.levels:
            verdict = "as another batch shape or machine may" if self.ok else "more than rounding explains"
            lines.append(f"differences up to {self.levels} grey levels on {self.share:.4%} of values: {verdict}")
        return "\n".join(lines)


def verify_cues(
    folder: Path,
    faces: Any,
    source: CueSource,
    sample: int = 16,
    seed: int = 0,
    batch_size: int | None = None,
) -> CueCheck:
    """Check the checksum of every shard, then restore some faces again and compare.

    Whole batches are restored, in the shape that the manifest records: only for equal shapes are bytes equal.

    Args:
        folder: of the store.
        faces: its dataset.
        source: that made it.
        sample: least number of faces to restore again.
        seed: of the choice of faces.
        batch_size: another shape than the recorded one.

    Raises:
        AgfasError: the store is of another source or of other faces.
    """
    store = CueStore.open(folder)
    _check_origin(store, source)
    ordered = OrderedFaces.of(as_face_images(faces))
    if ordered.keys != store.shards.keys:
        raise AgfasError(
            f"{folder} was made for {len(store)} faces, other than the {len(ordered.keys)} given."
            " Give the dataset that it was made for."
        )
    shards = store.shards.status().finished_tasks
    broken = store.shards.verify_checksums()
    differences = _differences(store.shards, ordered, source, sample, seed, batch_size)
    return CueCheck(
        folder=Path(folder),
        shards=shards,
        broken=tuple(broken),
        faces=len(differences),
        identical=int((differences.reshape(len(differences), -1).max(1, initial=0) == 0).sum()),
        levels=int(differences.max(initial=0)),
        share=float((differences > 0).mean()) if differences.size else 0.0,
    )


def _check_origin(store: CueStore, source: CueSource) -> None:
    made_by, given = store.shards.identity["source"], source.fingerprint()
    if made_by != given:
        names = sorted(name for name in {*made_by, *given} if made_by.get(name) != given.get(name))
        raise AgfasError(
            f"{store.shards.folder} was made by another source; these differ: {', '.join(names)}."
            " Give the source that made it."
        )


def _differences(
    shards: ShardStore, faces: OrderedFaces, source: CueSource, sample: int, seed: int, batch_size: int | None
) -> np.ndarray:
    """|stored - restored again| of the sampled faces, (n, H, W, 3) int16."""
    sweep = as_sweep(source)
    timestep = sweep.timesteps[0]
    found = []
    for task, batch, shape in _sampled(shards, sample, seed, batch_size):
        maker = CueMaker(faces, sweep, {timestep: shards}, shape)
        _, restored = maker.restore(batch, [timestep])
        stored = shards.view(task, RECONSTRUCTION)[np.asarray(batch) - task * shards.shard_size]
        found.append(np.abs(stored.astype(np.int16) - restored[timestep]))
    height, width = shards.identity["image_size"]
    return np.concatenate(found) if found else np.zeros((0, height, width, 3), dtype=np.int16)


def _sampled(shards: ShardStore, sample: int, seed: int, batch_size: int | None) -> list[tuple[int, range, int]]:
    """Batches of finished shards, drawn one shard at a time until they hold `sample` faces."""
    draws = np.random.default_rng(seed)
    finished = [task for task in range(shards.tasks) if shards.finished(task)]
    chosen: list[tuple[int, range, int]] = []
    for task in draws.permutation(np.array(finished, dtype=np.int64)).tolist():
        if sum(len(batch) for _, batch, _ in chosen) >= sample:
            break
        shape = batch_size or int(shards.entry(task).made["batch_size"])
        batches = batches_of(shards.task_rows(task), shape)
        chosen.append((task, batches[int(draws.integers(len(batches)))], shape))
    return chosen

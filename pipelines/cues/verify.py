"""Check that a cue store still holds what its source makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cues.custom import CueSource
from pipelines.cues.faces import as_face_images
from pipelines.cues.job import CueMaker, OrderedFaces, batches_of
from pipelines.cues.rounding import EQUAL, Tolerance, tolerance
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import as_sweep
from pipelines.cues.store import RECONSTRUCTION, CueStore
from pipelines.errors import AgfasError


@dataclass(frozen=True)
class CueCheck:
    """Result of a verification.

    Attributes:
        folder: the store.
        shards: number of listed shards.
        broken: shards with a wrong checksum; they are revoked and will be made again.
        faces: number of faces that were restored again and compared.
        identical: how many of them have equal bytes.
        wrong: keys of the faces that differ by more than `allowed`.
        levels: largest difference in grey levels.
        share: largest share of a face's values that differ.
        allowed: the widest tolerance of the compared shards.
    """

    folder: Path
    shards: int
    broken: tuple[int, ...]
    faces: int
    identical: int
    wrong: tuple[str, ...]
    levels: int
    share: float
    allowed: Tolerance

    @property
    def ok(self) -> bool:
        """No damaged shard, and no difference larger than arithmetic and machines explain."""
        return not self.broken and not self.wrong

    def __str__(self) -> str:
        lines = [f"{self.folder.name}: {self.shards} shards, {len(self.broken)} with a wrong checksum"]
        if self.broken:
            named = ", ".join(map(str, self.broken[:5]))
            lines.append(f"revoked, made again by the next run: shard {named}")
        lines.append(f"{self.faces} faces made again, {self.identical} with equal bytes")
        if self.levels:
            found = f"differences up to {self.levels} grey levels, on up to {self.share:.2%} of a face's values"
            lines.append(f"{found}; allowed for {self.allowed}")
        if self.wrong:
            lines.append(f"{len(self.wrong)} faces differ by more than rounding explains, the first {self.wrong[0]}")
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

    Whole batches are restored, in the shape that the manifest records. Bytes must be equal where arithmetic, shape and
    machine are; elsewhere each face may differ as `pipelines.cues.rounding` says.

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
    status = store.shards.status()
    broken = store.shards.verify_checksums()
    compared = _compared(store.shards, ordered, source, sample, seed, batch_size)
    return CueCheck(
        folder=Path(folder),
        shards=status.finished_tasks + len(status.damaged),
        broken=tuple(broken),
        faces=len(compared),
        identical=sum(face.levels == 0 for face in compared),
        wrong=tuple(face.key for face in compared if not face.is_allowed),
        levels=max((face.levels for face in compared), default=0),
        share=max((face.share for face in compared), default=0.0),
        allowed=max((face.allowed for face in compared), key=lambda allowed: allowed.share, default=EQUAL),
    )


def _check_origin(store: CueStore, source: CueSource) -> None:
    made_by, given = store.shards.identity["source"], source.fingerprint()
    if made_by != given:
        names = sorted(name for name in {*made_by, *given} if made_by.get(name) != given.get(name))
        raise AgfasError(
            f"{store.shards.folder} was made by another source; these differ: {', '.join(names)}."
            " Give the source that made it."
        )


@dataclass(frozen=True)
class _Compared:
    """The difference of one face's two restorations, and what it may be."""

    key: str
    levels: int
    share: float
    allowed: Tolerance

    @property
    def is_allowed(self) -> bool:
        return self.levels <= self.allowed.levels and self.share <= self.allowed.share


def _compared(
    shards: ShardStore, faces: OrderedFaces, source: CueSource, sample: int, seed: int, batch_size: int | None
) -> list[_Compared]:
    """The sampled faces, stored and restored again."""
    sweep = as_sweep(source)
    timestep = sweep.timesteps[0]
    found = []
    for task, batch, shape in _sampled(shards, sample, seed, batch_size):
        maker = CueMaker(faces, sweep, {timestep: shards}, shape)
        _, restored = maker.restore(batch, [timestep])
        stored = shards.view(task, RECONSTRUCTION)[np.asarray(batch) - task * shards.shard_size]
        allowed = tolerance(shards.entry(task).made, maker.made(), source.fingerprint())
        for row, difference in zip(batch, np.abs(stored.astype(np.int16) - restored[timestep]), strict=True):
            found.append(_Compared(faces.keys[row], int(difference.max()), float((difference > 0).mean()), allowed))
    return found


def _sampled(shards: ShardStore, sample: int, seed: int, batch_size: int | None) -> list[tuple[int, range, int]]:
    """Batches of finished shards, drawn one shard at a time until they hold `sample` faces."""
    draws = np.random.default_rng(seed)
    finished = [task for task in range(shards.tasks) if shards.finished(task)]
    chosen: list[tuple[int, range, int]] = []
    for task in draws.permutation(np.array(finished, dtype=np.int64)).tolist():
        if sum(len(batch) for _, batch, _ in chosen) >= sample:
            break
        shape = batch_size or int(shards.entry(task).made.get("batch_size", shards.shard_size))
        batches = batches_of(shards.task_rows(task), shape)
        chosen.append((task, batches[int(draws.integers(len(batches)))], shape))
    return chosen

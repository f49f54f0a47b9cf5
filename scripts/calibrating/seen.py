"""The faces of a set as a detector sees them, all at once, so that a thousand calibrations cost no further pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.data.importers.source import media_in
from pipelines.errors import AgfasError
from pipelines.progress import track
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.calibration.people import LiveFaces
from pipelines.verdict.crops import as_given
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import Sees

RUNS = 5
"""Runs of neighbouring pictures, which stand for sessions where a set has none."""


@dataclass(frozen=True)
class Seen:
    """N faces of a set.

    Attributes:
        odds, scores, features: see `pipelines.verdict.scorer.Embedded`.
        person: (N,) text.
        session: (N,) text, of a person.
        live: (N,) bool.
    """

    odds: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    person: np.ndarray
    session: np.ndarray
    live: np.ndarray

    def where(self, rows: np.ndarray) -> Seen:
        """Some of the faces."""
        return Seen(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def with_features(self, features: np.ndarray) -> Seen:
        """The same faces with other features."""
        return replace(self, features=features)

    @property
    def persons(self) -> list[str]:
        """Sorted."""
        return sorted(set(self.person.tolist()))

    def live_faces(self, groups: np.ndarray | None = None) -> LiveFaces:
        """For a fit: every face is a picture; groups are the persons, or of one person runs of neighbours."""
        one = len(self.persons) == 1 and groups is None
        if groups is None:
            groups = np.arange(len(self.odds)) * RUNS // len(self.odds) if one else self.person
        names, group = np.unique(groups, return_inverse=True)
        count = len(self.odds)
        return LiveFaces(
            self.odds, self.scores, self.features, np.arange(count), group.reshape(-1),
            [str(name) for name in names], count, one,
        )  # fmt: skip


def joined_sets(first: Seen, second: Seen) -> Seen:
    """Both."""
    names = Seen.__dataclass_fields__
    return Seen(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))


class Faces(NamedTuple):
    """N faces before a detector has judged them; see `seen`."""

    crops: Sequence[np.ndarray]
    person: Sequence[str]
    session: Sequence[str]
    live: Sequence[bool]


def find_faces(detector: FaceAntiSpoofing, folder: Path) -> Faces:
    """The largest face of every picture in FOLDER/bonafide and FOLDER/attack; below them the folder is the person.

    NUAA's file names say the session.
    """
    paths = [path for kind in ("bonafide", "attack") for path in sorted(media_in(folder / kind), key=_natural)]
    cropper, crops, kept = detector.cropper(aligned=False), [], []
    for path in track(paths, f"see {folder.name}", unit="file"):
        try:
            found, _ = cropper(as_given(path)[0].read()[0])
        except AgfasError:
            continue
        crops += [crop.pixels for crop in found[:1]]
        kept += [path] if found else []
    below = [path.relative_to(folder).parts for path in kept]
    sessions = [path.stem.split("_") for path in kept]
    return Faces(
        crops,
        person=[parts[1] if len(parts) > 2 else "" for parts in below],
        session=[parts[2] if len(parts) > 3 else "" for parts in sessions],
        live=[parts[0] == "bonafide" for parts in below],
    )


def see_pictures(detector: FaceAntiSpoofing, folder: Path) -> Seen:
    """Those faces as a detector sees them."""
    return seen(detector, *find_faces(detector, folder))["both"]


def seen(
    detector: FaceAntiSpoofing,
    crops: Sequence[np.ndarray],
    person: Sequence[str],
    session: Sequence[str],
    live: Sequence[bool],
    sees: Sequence[Sees] = ("both",),
) -> dict[Sees, Seen]:
    """What a detector says of crops, by what its features are of."""
    scorer, size = detector.scorer, detector.batch_size
    assert isinstance(scorer, Scorer)
    starts = track(range(0, len(crops), size), "judge", unit="batch")
    parts = [scorer.embed(np.stack(crops[start : start + size]), sees=sees) for start in starts]
    odds, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("odds", "scores"))
    features = {kind: np.concatenate([part.features[kind] for part in parts]) for kind in sees}
    known = np.array(person), np.array(session), np.array(live, dtype=bool)
    return {kind: Seen(odds, scores, values, *known) for kind, values in features.items()}


def _natural(path: Path) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]

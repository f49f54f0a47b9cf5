"""Which pictures a simulation makes: pairs of a live face and an attack by it, before one camera.

What is chosen here follows from the columns of the dataset and the seed alone. A face keeps its person and its split; a
blend takes the second face from another person of the same domain and split, and belongs to the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.alignment import check_landmarks
from pipelines.data.records import BONAFIDE, checked_table
from pipelines.errors import AgfasError, nearest
from pipelines.streams import stream
from pipelines.synthetic.settings import ATTACKS, NEED_LANDMARKS, SimulationSettings

_COLUMNS = ("key", "label", "domain", "subject", "video", "frame", "split", "landmarks")
# Of a face: from the eyes to the mouth, over the distance of the eyes.
_LEAST_HEIGHT = 0.3
_NEEDED = {
    "blend": "a face of another person of its domain and split, both with landmarks",
    **dict.fromkeys(("cutout", "mask_paper", "mask_resin"), "landmarks"),
}


@dataclass(frozen=True)
class SourceFace:
    """A live face: its row and columns, and its landmarks (5, 2) in pixels; None without usable ones."""

    row: int
    key: str
    domain: str
    subject: str
    video: str
    frame: int
    split: str
    landmarks: np.ndarray | None


@dataclass(frozen=True)
class Pair:
    """A live picture and an attack.

    Attributes:
        face: of both.
        number: of the face's pairs, from 0.
        camera: number of the camera.
        kind: of the attack.
        partner: whose face is blended in, or who looks through a cut-out; None without.
    """

    face: SourceFace
    number: int
    camera: int
    kind: str
    partner: SourceFace | None

    def stream(self, seed: int, *name: object) -> np.random.Generator:
        """A random stream of the video's pair, which is the same for all of its frames."""
        return stream(seed, "simulate", self.face.domain, self.face.subject, self.face.video, self.number, *name)

    def of_the_frame(self, seed: int, *name: object) -> np.random.Generator:
        """A random stream of this frame alone."""
        return stream(seed, "simulate", self.face.key, self.number, *name)


@dataclass(frozen=True)
class Plan:
    """The pairs in the order of the dataset, and refused faces: their keys and why."""

    pairs: list[Pair]
    refused: list[tuple[str, str]]


def live_faces(folder: Path, domains: Sequence[str] | None) -> list[SourceFace]:
    """The live faces of a dataset.

    Args:
        folder: of the dataset.
        domains: to take; None for all.

    Raises:
        AgfasError: it is no face dataset, lacks a domain, or has no live face.
    """
    table = checked_table(folder).table
    columns = {name: table.column(name).to_pylist() for name in _COLUMNS}
    there = sorted(set(columns["domain"]))
    for name in domains or ():
        if name not in there:
            raise AgfasError(f"{folder} has no domain '{name}': {nearest(name, there)}")
    rows = [row for row, label in enumerate(columns["label"]) if label == BONAFIDE]
    rows = [row for row in rows if domains is None or columns["domain"][row] in domains]
    if not rows:
        where = f" of the domains {', '.join(domains)}" if domains else ""
        raise AgfasError(
            f"{folder} has no live face{where}, and attacks are simulated from live faces. Give a dataset that has:"
            " `agfas prepare SOURCE --out FACES --importer live` takes a folder of them."
        )
    return [_source_face(columns, row) for row in rows]


def _source_face(columns: Mapping[str, list[Any]], row: int) -> SourceFace:
    key, domain, subject, video, frame, split = (
        columns[name][row] for name in ("key", "domain", "subject", "video", "frame", "split")
    )
    return SourceFace(row, key, domain, subject, video, frame, split, usable(columns["landmarks"][row]))


def usable(landmarks: Any) -> np.ndarray | None:
    """(5, 2) float64 landmarks that form a face; None for others, such as the NaN of crops without detection."""
    try:
        points = check_landmarks(landmarks)
    except (AgfasError, ValueError):
        return None
    if len(points) != 5:
        return None
    across, to_mouth = points[1] - points[0], points[3:].mean(axis=0) - points[:2].mean(axis=0)
    # The mouth lies below the eyes, as far as a part of their distance at least; below is right of left to right.
    below = float(to_mouth @ (-across[1], across[0]))
    return points if below > _LEAST_HEIGHT * float(across @ across) > 0.0 else None


def plan_pairs(faces: Sequence[SourceFace], settings: SimulationSettings) -> Plan:
    """The pairs of live faces; a video's kind and camera are those of all its frames.

    Raises:
        AgfasError: no face can have the attacks that were asked for.
    """
    landmarked = _videos_with_landmarks(faces)
    rivals = _rivals(faces, landmarked)
    pairs: list[Pair] = []
    refused: list[tuple[str, str]] = []
    for face in faces:
        kinds = [kind for kind in settings.attacks or ATTACKS if _fits(kind, face, landmarked, rivals)]
        if not kinds:
            refused.append((face.key, _reason(settings)))
        pairs += [_pair(face, number, kinds, settings, rivals) for number in range(settings.per_face if kinds else 0)]
    if not pairs:
        raise AgfasError(
            f"None of the {len(faces)} live faces fits: {refused[0][1]}. Prepare them with a face detector, which finds"
            " the landmarks (without --aligned), or simulate print and replay, which need none: --attacks print,replay"
        )
    return Plan(pairs, refused)


def _pair(
    face: SourceFace,
    number: int,
    kinds: Sequence[str],
    settings: SimulationSettings,
    rivals: Mapping[tuple[str, str], list[SourceFace]],
) -> Pair:
    drawn = Pair(face, number, 0, "", None).stream(settings.seed, "plan")
    camera, kind = int(drawn.integers(settings.cameras)), kinds[int(drawn.integers(len(kinds)))]
    others = [] if kind not in ("blend", "cutout") else rivals.get((face.domain, face.split), [])
    return Pair(face, number, camera, kind, _other(face, others, float(drawn.random())))


def _other(face: SourceFace, others: Sequence[SourceFace], place: float) -> SourceFace | None:
    """The first face of another person from a place in [0, 1) on."""
    start = int(place * len(others))
    after = (others[(start + step) % len(others)] for step in range(len(others)))
    return next((other for other in after if other.subject != face.subject), None)


def _videos_with_landmarks(faces: Sequence[SourceFace]) -> set[tuple[str, str]]:
    """Domain and video of those whose frames all have landmarks."""
    without = {(face.domain, face.video) for face in faces if face.landmarks is None}
    return {(face.domain, face.video) for face in faces} - without


def _rivals(faces: Sequence[SourceFace], landmarked: set[tuple[str, str]]) -> dict[tuple[str, str], list[SourceFace]]:
    """Faces with landmarks of the domains and splits that have two persons at least."""
    found: dict[tuple[str, str], list[SourceFace]] = defaultdict(list)
    for face in faces:
        if (face.domain, face.video) in landmarked:
            found[face.domain, face.split].append(face)
    return {place: group for place, group in found.items() if len({face.subject for face in group}) > 1}


def _fits(
    kind: str,
    face: SourceFace,
    landmarked: set[tuple[str, str]],
    rivals: Mapping[tuple[str, str], list[SourceFace]],
) -> bool:
    if kind in NEED_LANDMARKS and (face.domain, face.video) not in landmarked:
        return False
    return kind != "blend" or (face.domain, face.split) in rivals


def _reason(settings: SimulationSettings) -> str:
    return "; ".join(f"{kind} needs {_NEEDED[kind]}" for kind in settings.attacks or ATTACKS)


def kinds_of(plan: Plan) -> dict[str, int]:
    """Attacks of each kind."""
    return dict(sorted(Counter(pair.kind for pair in plan.pairs).items()))

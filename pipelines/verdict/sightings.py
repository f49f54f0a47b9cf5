"""What a watched camera or stream answers: verdicts on the faces that are followed, and the state of the connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.verdict.answers import NO_FACE, REFUSED

VERDICT = "verdict"
CONNECTING, CONNECTED, LOST, RECONNECTED, END = "connecting", "connected", "lost", "reconnected", "end"
STATES = (CONNECTING, CONNECTED, VERDICT, NO_FACE, REFUSED, LOST, RECONNECTED, END)
SEEN = (VERDICT, NO_FACE, REFUSED)
"""States that are about a picture; the others are about the connection."""


@dataclass(frozen=True)
class FollowedFace:
    """One face that is followed.

    Attributes:
        id: number of its track, never used again; another one begins wherever it is not sure that the face is the same.
        verdict: `live` or `attack`, by the mean.
        score: mean over the window, in [0, 1], higher is more live.
        newest_score: of its newest frame alone.
        frames: frames of the window.
        threshold: live is score >= threshold; of a decision by class, the mean probability of the likeliest attack.
        box: left, top, width, height in the newest frame; None for a network that sees the whole picture.
        seconds: for which it has been followed.
    """

    id: int
    verdict: str
    score: float
    newest_score: float
    frames: int
    threshold: float
    box: tuple[float, float, float, float] | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "box": None if self.box is None else list(self.box)}


@dataclass(frozen=True)
class Sighting:
    """One answer about a camera or stream.

    Attributes:
        time: UTC, in ISO 8601.
        seconds: since the watch began.
        state: one of `STATES`.
        source: as it may be shown, without a password.
        reason: of `refused`, `lost` and `end`; else empty.
        tracks: the followed faces, the largest first; empty unless the state is `verdict`.
        threshold_origin: the scores that the threshold was chosen on, in words.
        latency: seconds from the arrival of the newest judged picture to this answer; None for a connection's state.
        judged: pictures that were judged so far.
        dropped: pictures that came and were not judged so far.
        notes: caveats on the scores.
        photo: the newest judged picture (H, W, 3) uint8; None for a connection's state.
    """

    time: str
    seconds: float
    state: str
    source: str
    reason: str
    tracks: tuple[FollowedFace, ...]
    threshold_origin: str
    latency: float | None
    judged: int
    dropped: int
    notes: tuple[str, ...] = ()
    photo: np.ndarray | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the photo."""
        plain = {name: value for name, value in vars(self).items() if name != "photo"}
        return {**plain, "tracks": [track.to_dict() for track in self.tracks], "notes": list(self.notes)}

    def lines(self) -> Iterator[str]:
        """For people: a line for each followed face, or one for anything else."""
        clock = self.time[11:19]
        for face in self.tracks:
            box = "" if face.box is None else " at {:.0f}, {:.0f}, {:.0f} x {:.0f}".format(*face.box)
            yield (
                f"{clock}  {face.verdict:<7}  {face.score:.4f}  face {face.id}{box}, mean of {face.frames} frames,"
                f" newest {face.newest_score:.4f}"
            )
        if not self.tracks:
            what = self.reason or ("" if self.state in SEEN else self.source)
            yield f"{clock}  {self.state}: {what}" if what else f"{clock}  {self.state}"

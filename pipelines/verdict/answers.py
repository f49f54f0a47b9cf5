"""Answers for pictures and videos: the verdict in words, its score and threshold; as a table, as JSON and as CSV."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipelines.files import csv_text
from pipelines.verdict.settings import ModelSettings

LIVE, ATTACK, NO_FACE, REFUSED = "live", "attack", "no face", "refused"
ANSWERS = (LIVE, ATTACK, NO_FACE, REFUSED)

RULE = "the largest face decides"
"""How a picture with several faces gets its verdict."""

_NONE = "-"
_BOX = ("left", "top", "width", "height")


@dataclass(frozen=True)
class FaceVerdict:
    """One judged face.

    Attributes:
        verdict: `live` or `attack`.
        score: in [0, 1], higher is more live.
        box: left, top, width, height in pixels of the upright picture; None for a picture that is a crop.
        landmarks: five points x, y in pixels of the upright picture, in the order of `DetectedFace`; None for a crop.
        detection_score: the face detector's confidence in [0, 1]; None for a crop.
        attack_classes: probability of each kind of attack, of a detector that tells several apart; else empty.
        raw_score: the detector's own score, of a detector whose head gave `score`; else None.
        panels: pictures (size, size, 3) uint8 by name: `face`, and the available ones of `restoration`, `cue` and
            `attention`; empty without `panels=True`.
    """

    verdict: str
    score: float
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None
    detection_score: float | None = None
    attack_classes: tuple[float, ...] = ()
    raw_score: float | None = None
    panels: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "verdict": self.verdict,
            "score": self.score,
            "box": None if self.box is None else list(self.box),
            "landmarks": None if self.landmarks is None else [list(point) for point in self.landmarks],
            "detection_score": self.detection_score,
            **({"attack_classes": list(self.attack_classes)} if self.attack_classes else {}),
            **({} if self.raw_score is None else {"raw_score": self.raw_score}),
        }


@dataclass(frozen=True)
class FrameVerdict:
    """One frame of a video.

    Attributes:
        index: position in the video, from 0.
        seconds: time in the video; None if its frame rate is unknown.
        score: of the frame's largest face; None without a face.
        faces: as in `Verdict`.
        photo: the upright frame (H, W, 3) uint8; None without `panels=True`.
    """

    index: int
    seconds: float | None
    score: float | None
    faces: tuple[FaceVerdict, ...]
    photo: np.ndarray | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "index": self.index,
            "seconds": self.seconds,
            "score": self.score,
            "faces": [face.to_dict() for face in self.faces],
        }


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer for one picture or one video.

    Attributes:
        source: path of the file, or `picture N` for pixels.
        verdict: `live`, `attack`, `no face` or `refused`.
        reason: one sentence: score against threshold, or why there is no score.
        score: of the largest face in [0, 1]; for a video the mean over the frames with a face; else None.
        threshold: live is score >= threshold; of a decision by class, the probability of the likeliest attack.
        threshold_origin: the scores that the threshold was chosen on, in words.
        faces: the judged faces of a picture, the largest first: only that one, or all with `all_faces=True`.
        frames: of a video, in order.
        notes: caveats on the score.
        photo: the upright picture (H, W, 3) uint8; None without `panels=True`.
    """

    source: str
    verdict: str
    reason: str
    score: float | None
    threshold: float
    threshold_origin: str
    faces: tuple[FaceVerdict, ...] = ()
    frames: tuple[FrameVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    photo: np.ndarray | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<{self.source}: {self}>"

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    @property
    def panels(self) -> dict[str, np.ndarray]:
        """The panels of the face that decided; empty without a face or without `panels=True`."""
        return self.faces[0].panels if self.faces else {}

    def without_pixels(self) -> Verdict:
        """The same answer without photos and panels, which would fill the memory when there are many answers."""
        frames = tuple(replace(frame, photo=None, faces=_bare(frame.faces)) for frame in self.frames)
        return replace(self, photo=None, faces=_bare(self.faces), frames=frames)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "source": self.source,
            "verdict": self.verdict,
            "reason": self.reason,
            "score": self.score,
            "threshold": self.threshold,
            "threshold_origin": self.threshold_origin,
            "faces": [face.to_dict() for face in self.faces],
            "frames": [frame.to_dict() for frame in self.frames],
            "notes": list(self.notes),
        }


def _bare(faces: tuple[FaceVerdict, ...]) -> tuple[FaceVerdict, ...]:
    return tuple(replace(face, panels={}) for face in faces)


def as_table(verdicts: Sequence[Verdict], settings: ModelSettings, extra: Sequence[str] = ()) -> str:
    """A table for the terminal, then the threshold's origin, the detector, notes and counts.

    Args:
        verdicts: in the order to print.
        settings: of the model.
        extra: further lines.
    """
    rows = [("verdict", "score", "faces", "source"), *(row for verdict in verdicts for row in _rows(verdict))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    notes = Counter(note for verdict in verdicts for note in verdict.notes)
    counts = Counter(verdict.verdict for verdict in verdicts)
    return "\n".join(
        [
            *(line.rstrip() for line in lines),
            "",
            settings.threshold.words,
            f"detector: {settings.label}, {settings.fold}",
            *(f"note: {note}{_times(count, len(verdicts))}" for note, count in notes.items()),
            *extra,
            ", ".join(f"{counts[answer]} {answer}" for answer in ANSWERS if counts[answer]),
        ]
    )


def as_json(verdicts: Sequence[Verdict], settings: ModelSettings, left_out: str, overlays: Sequence[str | None]) -> str:
    """One object: the model, the threshold, and a result for every path.

    Args:
        verdicts: in the order of the results.
        settings: of the model.
        left_out: which files were skipped, in words.
        overlays: path of each verdict's overlay, or None.
    """
    content = {
        "label": settings.label,
        "fold": settings.fold,
        "threshold": settings.threshold.value,
        "threshold_origin": settings.threshold.origin,
        "refused": count_refused(verdicts),
        "left_out": left_out,
        "results": [
            {**verdict.to_dict(), "overlay": overlay} for verdict, overlay in zip(verdicts, overlays, strict=True)
        ],
    }
    return json.dumps(content, indent=2)


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """A row for every judged face of a picture, for every video, and for every path without a score."""
    return csv_text([row for verdict in verdicts for row in _csv_rows(verdict)])


def count_refused(verdicts: Sequence[Verdict]) -> int:
    """The number of refused paths."""
    return sum(verdict.verdict == REFUSED for verdict in verdicts)


def _rows(verdict: Verdict) -> list[tuple[str, str, str, str]]:
    source = verdict.source
    if verdict.verdict == REFUSED:
        # Most reasons begin with the path already.
        source = verdict.reason if verdict.reason.startswith(source) else f"{source}: {verdict.reason}"
    rows = [(verdict.verdict, _score(verdict.score), _faces(verdict), _printable(source))]
    if len(verdict.faces) > 1:
        rows += [(f"  {face.verdict}", _score(face.score), "", f"  {_place(face)}") for face in verdict.faces]
    return rows


def _faces(verdict: Verdict) -> str:
    if verdict.frames:
        return f"{_frames_judged(verdict)} of {len(verdict.frames)} frames"
    return _NONE if verdict.verdict == REFUSED else str(len(verdict.faces))


def _frames_judged(verdict: Verdict) -> int:
    return sum(frame.score is not None for frame in verdict.frames)


def _score(score: float | None) -> str:
    return _NONE if score is None else f"{score:.4f}"


def _place(face: FaceVerdict) -> str:
    left, top, width, height = (round(value) for value in face.box or (0, 0, 0, 0))
    return f"face at {left}, {top}, {width} x {height}"


def _times(count: int, total: int) -> str:
    return f" ({count} of {total})" if total > 1 else ""


def _printable(text: str) -> str:
    """Replace control characters: a stranger's file name must not move the cursor or clear the screen."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _encodable(text: str) -> str:
    """Write bytes of a file name that are not UTF-8 as `\\udcXX`, since the CSV file is UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _csv_rows(verdict: Verdict) -> list[dict[str, Any]]:
    common = {
        "source": _encodable(verdict.source),
        "verdict": verdict.verdict,
        "score": "" if verdict.score is None else verdict.score,
        "threshold": verdict.threshold,
        "threshold_origin": verdict.threshold_origin,
        "frames": len(verdict.frames) or "",
        "frames_judged": _frames_judged(verdict) if verdict.frames else "",
    }
    faces: Sequence[FaceVerdict | None] = verdict.faces or (None,)
    return [
        {**common, **_face_cells(face, place), "reason": _encodable(verdict.reason)}
        for place, face in enumerate(faces, start=1)
    ]


def _face_cells(face: FaceVerdict | None, place: int) -> dict[str, Any]:
    if face is None:
        return {"face": "", "face_verdict": "", "face_score": "", **dict.fromkeys(_BOX, "")}
    box = dict.fromkeys(_BOX, "") if face.box is None else dict(zip(_BOX, face.box, strict=True))
    return {"face": place, "face_verdict": face.verdict, "face_score": face.score, **box}

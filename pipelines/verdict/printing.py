"""Verdicts as a table for the terminal, as JSON and as CSV."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipelines.files import csv_text
from pipelines.verdict.answers import ANSWERS, REFUSED, FaceVerdict, Verdict
from pipelines.verdict.settings import ModelSettings

_NONE = "-"
_BOX = ("left", "top", "width", "height")


def as_table(verdicts: Sequence[Verdict], settings: ModelSettings, extra: Sequence[str] = ()) -> str:
    """Columns for the terminal, then the threshold's origin, the detector and the counts.

    Args:
        verdicts: in the order to print.
        settings: of the model.
        extra: further lines.
    """
    rows: list[tuple[str, ...]] = [("verdict", "score", "faces", "source")]
    for verdict in verdicts:
        rows += _rows(verdict)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    threshold = settings.threshold
    notes = Counter(note for verdict in verdicts for note in verdict.notes)
    return "\n".join(
        [
            *(line.rstrip() for line in lines),
            "",
            f"live where the score is at least {threshold.value:.4f}: {threshold.origin}",
            f"detector: {settings.label}, {settings.fold}",
            *(f"note: {note}{_times(count, len(verdicts))}" for note, count in notes.items()),
            *extra,
            _counts(verdicts),
        ]
    )


def as_json(
    verdicts: Sequence[Verdict], settings: ModelSettings, passed_over: str, overlays: Sequence[str | None]
) -> str:
    """One object: the model, the threshold, and a result for every path.

    Args:
        verdicts: in the order of the results.
        settings: of the model.
        passed_over: what was not looked at, in words.
        overlays: of every verdict; None where it has none.
    """
    content = {
        "label": settings.label,
        "fold": settings.fold,
        "threshold": settings.threshold.value,
        "threshold_origin": settings.threshold.origin,
        "refused": count_refused(verdicts),
        "left_out": passed_over,
        "results": [
            {**verdict.to_dict(), "overlay": overlay} for verdict, overlay in zip(verdicts, overlays, strict=True)
        ],
    }
    return json.dumps(content, indent=2)


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """A row for every judged face of a picture, for every video, and for every path without a score."""
    return csv_text([row for verdict in verdicts for row in _csv_rows(verdict)])


def count_refused(verdicts: Sequence[Verdict]) -> int:
    """How many got no answer."""
    return sum(verdict.verdict == REFUSED for verdict in verdicts)


def _rows(verdict: Verdict) -> list[tuple[str, ...]]:
    source = verdict.source
    if verdict.verdict == REFUSED:
        # Most reasons begin with the path already.
        source = verdict.reason if verdict.reason.startswith(source) else f"{source}: {verdict.reason}"
    rows: list[tuple[str, ...]] = [(verdict.verdict, _score(verdict.score), _faces(verdict), _printable(source))]
    if len(verdict.faces) > 1:
        rows += [(f"  {face.verdict}", _score(face.score), "", f"  {_place(face)}") for face in verdict.faces]
    return rows


def _faces(verdict: Verdict) -> str:
    if verdict.frames:
        return f"{sum(frame.score is not None for frame in verdict.frames)} of {len(verdict.frames)} frames"
    return _NONE if verdict.verdict == REFUSED else str(len(verdict.faces))


def _score(score: float | None) -> str:
    return _NONE if score is None else f"{score:.4f}"


def _place(face: FaceVerdict) -> str:
    left, top, width, height = (round(value) for value in face.box or (0, 0, 0, 0))
    return f"face at {left}, {top}, {width} x {height}"


def _times(count: int, total: int) -> str:
    return f" ({count} of {total})" if total > 1 else ""


def _counts(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[answer]} {answer}" for answer in ANSWERS if counts[answer])


def _printable(text: str) -> str:
    """A stranger's file name must not move the cursor or clear the screen."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _encodable(text: str) -> str:
    """A byte of a file's name that is no UTF-8 cannot be written as UTF-8: it becomes `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _csv_rows(verdict: Verdict) -> list[dict[str, Any]]:
    common = {
        "source": _encodable(verdict.source),
        "verdict": verdict.verdict,
        "score": "" if verdict.score is None else verdict.score,
        "threshold": verdict.threshold,
        "threshold_origin": verdict.threshold_origin,
        "frames": len(verdict.frames) or "",
        "frames_judged": sum(frame.score is not None for frame in verdict.frames) if verdict.frames else "",
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

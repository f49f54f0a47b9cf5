"""From scores to verdicts: the score against the threshold, in words, with its caveats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from oanet.published import CROP, PICTURE
from pipelines.errors import AgfasError
from pipelines.verdict.answers import ATTACK, LIVE, NO_FACE, REFUSED, FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.crops import Crop, Cropper, Look
from pipelines.verdict.settings import ModelSettings


def refusal(settings: ModelSettings, source: str, reason: str) -> Verdict:
    """The verdict for a file that cannot be judged."""
    threshold = settings.threshold
    return Verdict(source, REFUSED, reason, None, threshold.value, threshold.origin)


def face_verdict(
    settings: ModelSettings,
    crop: Crop,
    score: float,
    classes: tuple[float, ...],
    raw: float | None,
    panels: dict[str, np.ndarray],
) -> FaceVerdict:
    """One judged face.

    Args:
        settings: of the model.
        crop: of the face.
        score: in [0, 1].
        classes: probability of each kind of attack.
        raw: the detector's own score, if a calibrated head made another.
        panels: see `FaceVerdict`.

    Raises:
        AgfasError: the score is not finite.
    """
    if not math.isfinite(score):
        raise AgfasError("The detector's score is not finite: its weights are broken. Train it again.")
    verdict, face = _word(score, settings.threshold.limit(classes)), crop.face
    if face is None:
        return FaceVerdict(verdict, score, attack_classes=classes, raw_score=raw, panels=panels)
    left, top, width, height = (float(value) for value in face.box)
    landmarks = tuple((float(x), float(y)) for x, y in face.landmarks)
    place = (left, top, width, height)
    return FaceVerdict(verdict, score, place, landmarks, float(face.score), classes, raw, panels)


def picture_verdict(
    settings: ModelSettings, look: Look, faces: list[FaceVerdict], cropper: Cropper, panels: bool
) -> Verdict:
    """The verdict for a picture: that of its largest face."""
    if look.refused:
        return refusal(settings, look.source, look.refused)
    score, classes = (faces[0].score, faces[0].attack_classes) if faces else (None, ())
    verdict = _answer(settings, look.source, score, classes, cropper)
    notes = _notes(settings, cropper) if faces else ()
    if look.found > len(faces) and not cropper.sees_whole:
        judged = "the largest was" if len(faces) == 1 else f"the {len(faces)} largest were"
        notes += (f"{look.found} faces were found; {judged} judged",)
    notes += (look.note,) if look.note else ()
    return replace(verdict, faces=tuple(faces), photo=look.photo if panels else None, notes=notes)


def video_verdict(settings: ModelSettings, source: str, frames: list[FrameVerdict], cropper: Cropper) -> Verdict:
    """The verdict for a video: the threshold on the mean of its frames."""
    scores = [frame.score for frame in frames if frame.score is not None]
    classes = [frame.faces[0].attack_classes for frame in frames if frame.faces]
    means = tuple(_mean(values) for values in zip(*classes, strict=True))
    verdict = _answer(settings, source, _mean(scores) if scores else None, means, cropper)
    missing = len(frames) - len(scores)
    reason = f"{verdict.reason}, the mean of {len(scores)} frames" if scores else verdict.reason
    notes = _notes(settings, cropper) if scores else ()
    if scores and missing:
        notes += (f"{missing} of {len(frames)} frames show no face that can be judged, and are ignored",)
    return replace(verdict, reason=reason, frames=tuple(frames), notes=notes)


def _answer(
    settings: ModelSettings, source: str, score: float | None, classes: tuple[float, ...], cropper: Cropper
) -> Verdict:
    threshold = settings.threshold
    if score is None:
        name = "no face detector" if cropper.detector is None else cropper.detector.name
        return Verdict(source, NO_FACE, f"{name} found no face", None, threshold.value, threshold.origin)
    limit = threshold.limit(classes)
    sign = ">=" if score >= limit else "<"
    what = f"{limit:.4f} of the likeliest attack" if threshold.by_class else f"threshold {limit:.4f}"
    reason = f"score {score:.4f} {sign} {what}{settings.basis}"
    return Verdict(source, _word(score, limit), reason, score, limit, threshold.origin)


def _word(score: float, limit: float) -> str:
    return LIVE if score >= limit else ATTACK


def _notes(settings: ModelSettings, cropper: Cropper) -> tuple[str, ...]:
    """Caveats on every score of this detector."""
    face, notes = settings.face, []
    if settings.is_control:
        notes.append("this detector is a control of an experiment; do not rely on it")
    if settings.sees == PICTURE and cropper.detector is not None:
        notes.append("the score is of the whole picture, whichever face is in it")
    if settings.sees != CROP:
        return tuple(notes)
    if cropper.detector is not None and not face.template_known:
        notes.append(
            f"the dataset does not record how its crops were aligned; the template '{face.template}' was taken, and"
            " the score is wrong if it was another"
        )
    if cropper.detector is not None and face.detector not in (None, cropper.detector.name):
        notes.append(f"the training's faces were found by {face.detector}, these by {cropper.detector.name}")
    return tuple(notes)


def _mean(values: Sequence[float]) -> float:
    """fsum is exact, so the mean of a video's frames does not depend on how they were batched."""
    return math.fsum(values) / len(values)

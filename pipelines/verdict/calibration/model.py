"""A calibrated detector: the same networks, with a head and a threshold from live pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.evaluation.settings import CALIBRATED_RULE
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.calibration.captures import Captures, find_captures
from pipelines.verdict.calibration.choice import Choice
from pipelines.verdict.calibration.collect import LeftOut, collect
from pipelines.verdict.calibration.enough import ENOUGH_FACES
from pipelines.verdict.calibration.fit import Fitted, calibrate
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import About, ThresholdSettings


@dataclass(frozen=True)
class Calibrated:
    """A calibrated detector, and what was seen on the way.

    Attributes:
        detector: with its head and its threshold.
        left_out: pictures and videos without a usable face.
        note: why there is no head, if one was asked for, or what to look at; else empty.
    """

    detector: FaceAntiSpoofing
    left_out: LeftOut
    note: str = ""


def calibrate_detector(detector: FaceAntiSpoofing, pictures: Path | Captures, choice: Choice) -> Calibrated:
    """Calibrate a detector on live pictures; an earlier calibration is replaced.

    Args:
        detector: a trained or a published one.
        pictures: where they lie, see `pipelines.verdict.calibration.captures`, or what was found there.
        choice: how.

    Raises:
        AgfasError: an unknown or senseless choice, or pictures that are too few or of no known persons.
    """
    choice.check()
    if choice.features is not None and detector.settings.cue is None:
        raise AgfasError(
            f"--features {choice.features} goes with a detector that has a cue beside the face. Leave it out."
        )
    sees = choice.sees
    captures = pictures if isinstance(pictures, Captures) else find_captures(pictures, choice)
    found = collect(detector, captures, choice)
    head, note = not choice.threshold_only, ""
    if head and found.faces.features.shape[1] < 2:
        head = False
        note = f"'{detector.settings.detector}' gives no features but its score: no head, a threshold alone."
    if head and found.faces.different < ENOUGH_FACES:
        note = (
            f"Fewer than {ENOUGH_FACES} different faces: a head ranks faces better than the score does, but where this"
            " was measured its threshold let more attacks through than --threshold-only did: add faces, or compare."
        )
    try:
        fitted = calibrate(found.faces, choice.bpcer, sees, head)
    except AgfasError as error:
        raise AgfasError("\n".join([str(error), *found.left_out.lines()])) from error
    return Calibrated(with_calibration(detector, fitted), found.left_out, note)


def with_calibration(detector: FaceAntiSpoofing, fitted: Fitted) -> FaceAntiSpoofing:
    """The same detector with a head and a threshold; what was measured of it before holds no more."""
    scorer, before = detector.scorer, detector.settings.threshold
    assert isinstance(scorer, Scorer)
    threshold = ThresholdSettings(
        value=fitted.threshold,
        rule=CALIBRATED_RULE,
        selection=before.selection,
        step=before.step,
        origin=fitted.facts.words,
    )
    settings = detector.settings.model_copy(update={"threshold": threshold, "calibration": fitted.facts})
    made = scorer.with_head(fitted.head)
    return FaceAntiSpoofing(settings, made, partial(_describe, detector), detector.loaded, detector.batch_size)


def _describe(detector: FaceAntiSpoofing) -> About:
    return detector.about().model_copy(update={"measured": None})

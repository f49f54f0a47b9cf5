"""A calibrated detector: the same networks, with a head and a threshold from live pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast, get_args

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.settings import CALIBRATED_RULE
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.calibration.collect import collect
from pipelines.verdict.calibration.fit import Fitted, calibrate
from pipelines.verdict.calibration.people import ENOUGH_FACES, check_share
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import About, Sees, ThresholdSettings


@dataclass(frozen=True)
class Choice:
    """How to calibrate.

    Attributes:
        bpcer: share of live pictures and videos that the threshold may reject.
        threshold_only: choose the threshold alone; the score stays the detector's.
        features: what the head's features are of: `face`, `cue` or `both`.
        one_person: all pictures are of one person, and each folder or video is a session.
        aligned: the pictures are aligned, square crops.
        frames: of a video, evenly spaced in time.
    """

    bpcer: float = 0.05
    threshold_only: bool = False
    features: str = "both"
    one_person: bool = False
    aligned: bool = False
    frames: int = 10


@dataclass(frozen=True)
class Calibrated:
    """A calibrated detector, and what was seen on the way.

    Attributes:
        detector: with its head and its threshold.
        left_out: pictures and videos without a usable face, by the reason.
        note: why there is no head, if one was asked for, or what to look at; else empty.
    """

    detector: FaceAntiSpoofing
    left_out: Counter[str]
    note: str = ""


def calibrate_detector(detector: FaceAntiSpoofing, pictures: Path, choice: Choice) -> Calibrated:
    """Calibrate a detector on live pictures; an earlier calibration is replaced.

    Raises:
        AgfasError: an unknown or senseless choice, or pictures that are too few or of no known persons.
    """
    sees = _checked(detector, choice)
    found = collect(
        detector,
        pictures,
        aligned=choice.aligned,
        one_person=choice.one_person,
        frames=choice.frames,
        sees=sees,
    )
    head, note = not choice.threshold_only, ""
    if head and found.faces.features.shape[1] < 2:
        head = False
        note = f"'{detector.settings.detector}' gives no features but its score: no head, a threshold alone."
    if head and found.faces.different < ENOUGH_FACES:
        note = (
            f"Fewer than {ENOUGH_FACES} different faces: a head ranks faces better than the score does, but where this"
            " was measured its threshold let more attacks through than --threshold-only did: add faces, or compare."
        )
    fitted = calibrate(found.faces, choice.bpcer, sees, head)
    return Calibrated(with_calibration(detector, fitted), found.left_out, note)


def _checked(detector: FaceAntiSpoofing, choice: Choice) -> Sees:
    if choice.features not in get_args(Sees):
        raise AgfasError(f"--features {choice.features}: {nearest(choice.features, get_args(Sees))}")
    if choice.features != "both" and (detector.settings.cue is None or choice.threshold_only):
        why = "chooses no head" if choice.threshold_only else "goes with a detector that has a cue beside the face"
        raise AgfasError(f"--features {choice.features} {why}. Leave it out.")
    if choice.frames < 1:
        raise AgfasError(f"--frames must be at least 1, not {choice.frames}.")
    check_share(choice.bpcer)
    return cast(Sees, choice.features)


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

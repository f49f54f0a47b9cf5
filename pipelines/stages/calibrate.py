"""`agfas calibrate`: a detector with a one-class head and a threshold from live pictures before one's own camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError
from pipelines.stages.detect import Place, open_detector

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.calibration.model import Choice


def open_places(
    places: Sequence[Path],
    place: Place,
    face_detector: str | None = None,
    weights: Path | None = None,
    face_weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> tuple[FaceAntiSpoofing, Path]:
    """The detector and the place of the live pictures: `MODEL PICTURES`, or PICTURES and an option for the detector.

    Raises:
        AgfasError: one of both is missing or given twice, or the detector cannot be opened.
    """
    named = (place.run, place.model, place.published) != (None, None, None)
    if len(places) != (1 if named else 2):
        raise AgfasError(
            "Give MODEL and LIVE_PICTURES; or LIVE_PICTURES alone, with the detector as --run, --model or --published."
        )
    if not named:
        place = replace(place, model=places[0])
    return open_detector(place, face_detector, weights, face_weights, parsing_weights), places[-1]


def run(detector: FaceAntiSpoofing, pictures: Path, out: Path, choice: Choice) -> str:
    """Calibrate a detector and save it; returns what to print.

    Args:
        detector: of `open_places`.
        pictures: of live faces, see `pipelines.verdict.calibration.collect`.
        out: folder of the calibrated model.
        choice: of `agfas calibrate`.

    Raises:
        AgfasError: an unknown or senseless choice, pictures that are too few or of no known persons, or a folder that
            holds something else.
    """
    from pipelines.verdict.calibration.model import calibrate_detector
    from pipelines.verdict.folder import check_replaceable

    check_replaceable(out)
    found = calibrate_detector(detector, pictures, choice)
    settings = found.detector.settings
    found.detector.save_pretrained(out)
    assert settings.calibration is not None
    return "\n".join(
        [
            *([found.note] if found.note else []),
            *_left_out(found.left_out),
            settings.threshold.words,
            f"{settings.calibration.promise}; how many attacks pass is not known",
            f"{settings.label}, {settings.fold}: {out}",
        ]
    )


def _left_out(reasons: Counter[str]) -> list[str]:
    return [f"left out: {number} ({reason})" for reason, number in reasons.most_common(3)]

"""`agfas calibrate`: a detector with a one-class head and a threshold from live pictures before one's own camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError
from pipelines.stages.detect import Place, open_detector

if TYPE_CHECKING:
    from pipelines.verdict.calibration.choice import Choice


def run(
    places: Sequence[Path],
    place: Place,
    out: Path,
    choice: Choice,
    face_detector: str | None = None,
    weights: Path | None = None,
    face_weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> str:
    """Calibrate a detector and save it; returns what to print.

    What the choice, the folders' names and a list can say is checked before the detector is opened.

    Args:
        places: `MODEL PICTURES`, or PICTURES alone if `place` names the detector; of the pictures see
            `pipelines.verdict.calibration.captures`.
        place: of the detector.
        out: folder of the calibrated model.
        choice: of `agfas calibrate`.
        face_detector, weights, face_weights, parsing_weights: of `open_detector`.

    Raises:
        AgfasError: one of model and pictures is missing or given twice, an unknown or senseless choice, pictures that
            are too few or of no known persons, a detector that cannot be opened, or a folder that holds something else.
    """
    from pipelines.verdict.calibration.captures import find_captures
    from pipelines.verdict.folder import check_replaceable

    place, pictures = _apart(places, place)
    choice.check()
    check_replaceable(out)
    captures = find_captures(pictures, choice)
    detector = open_detector(place, face_detector, weights, face_weights, parsing_weights)

    from pipelines.verdict.calibration.model import calibrate_detector  # with it torch

    found = calibrate_detector(detector, captures, choice)
    settings = found.detector.settings
    found.detector.save_pretrained(out)
    assert settings.calibration is not None
    return "\n".join(
        [
            *([found.note] if found.note else []),
            *found.left_out.lines(),
            settings.threshold.words,
            f"{settings.calibration.promise}; how many attacks pass is not known",
            f"{settings.label}, {settings.fold}: {out}",
        ]
    )


def _apart(places: Sequence[Path], place: Place) -> tuple[Place, Path]:
    """The place of the detector and that of the live pictures."""
    named = (place.run, place.model, place.published) != (None, None, None)
    if len(places) != (1 if named else 2):
        raise AgfasError(
            "Give MODEL and LIVE_PICTURES; or LIVE_PICTURES alone, with the detector as --run, --model or --published."
        )
    return (place if named else replace(place, model=places[0])), places[-1]

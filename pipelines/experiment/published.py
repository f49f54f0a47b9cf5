"""Detectors with published weights: `detector.weights` names the files, and `train.steps: 0` trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oanet.names import DETECTORS, inference_only
from oanet.published import CROP
from oanet.sources import folder_of
from pipelines.errors import AgfasError
from pipelines.fingerprint import content_sha256


def check_published(detector: str, weights: Any, sees: str | None, steps: int) -> None:
    """Raise ValueError if training and weights contradict each other.

    Args:
        detector: its name.
        weights: `detector.weights`, or None.
        sees: `detector.sees`, or None.
        steps: `train.steps`.
    """
    if steps == 0 and not weights:
        with_weights = [name for name in DETECTORS if "weights" in DETECTORS.options(name)]
        raise ValueError(
            f"train.steps = 0 uses a detector with published weights, but detector.weights of '{detector}' is not"
            f" given; detectors with published weights: {', '.join(with_weights)}. To train one, give 1 step or more"
        )
    if steps > 0 and sees not in (None, CROP):
        raise ValueError(
            f"detector.sees = {sees} is for published weights that are judged as they are; training reads aligned"
            " crops. Leave it out, or set train.steps: 0"
        )
    why = inference_only(detector)
    if steps > 0 and why is not None:
        raise ValueError(f"'{detector}' cannot be trained here: {why}. Give detector.weights and train.steps: 0")


def content_of_weights(detector: dict[str, Any]) -> dict[str, Any]:
    """A detector's settings with the checksums of its weight files, and of the folders of its CLIP and its backbones.

    Raises:
        AgfasError: a file is missing.
    """
    if detector.get("clip") and Path(detector["clip"]).is_dir():
        detector = {**detector, "clip": content_sha256(Path(detector["clip"]))}
    for option in ("backbone", "cue_backbone"):
        folder = folder_of(detector.get(option) or "")
        if folder is not None and folder.is_dir():
            detector = {**detector, option: content_sha256(folder)}
    weights = detector.get("weights")
    if not weights:
        return detector
    paths = [weights] if isinstance(weights, str) else list(weights)
    return {**detector, "weights": sorted(_checksum(Path(path)) for path in paths)}


def _checksum(path: Path) -> str:
    if not path.is_file():
        raise AgfasError(f"No weights at {path}: there is no such file. Check detector.weights.")
    return content_sha256(path)

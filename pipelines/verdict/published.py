"""Opening a published network: its weights and its publisher's input and decision, without a run of this program."""

from __future__ import annotations

import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from oanet.published import Publication, find_weights, publication, published_names
from pipelines.data.crop import DEFAULT_TEMPLATE
from pipelines.errors import AgfasError
from pipelines.evaluation.settings import PUBLISHED_RULE
from pipelines.processes import package_versions
from pipelines.verdict.crops import GivenDetector, Loaded, load_parts
from pipelines.verdict.scorer import Parts, Scorer
from pipelines.verdict.settings import About, FaceSettings, ModelSettings, Part, PublishedFacts, ThresholdSettings

if TYPE_CHECKING:
    from oanet.detectors import Detector

FOLD = "not trained here"
PACKAGES = ("agfas", "torch", "diffusers", "timm")

# How the files of the face detectors are called, where they lie beside the published weights.
_FACE_FILES = {"yunet": "*yunet*.onnx", "insightface": "det_*.onnx", "retinaface": "detection_*.pth"}
# The name of one of YuNet's outputs, which its file holds as text.
_YUNET_MARK = b"kps_32"


def open_published(name: str, place: Path, face_detector: GivenDetector, face_weights: str | Path | None) -> Parts:
    """See `FaceAntiSpoofing.from_published`."""
    known = _publication(name)
    files = _files(name, place)
    if isinstance(face_detector, str) and face_weights is None:
        face_weights = _face_weights(face_detector, place)
    detector = _build(name, files)
    loaded = load_parts(face_detector, face_weights, None)
    settings = published_settings(f"{name} as published", FOLD, detector, loaded)
    return Parts(settings, Scorer(detector, None), partial(_describe, known, settings, detector), loaded)


def published_settings(label: str, fold: str, detector: Detector, loaded: Loaded) -> ModelSettings:
    """Settings of a network that makes its own input and has its publisher's decision."""
    side = len(detector.look_at_nobody())
    return ModelSettings(
        label=label,
        fold=fold,
        detector=detector.name,
        sees=detector.sees,
        face=FaceSettings(size=side, crop_size=side, template=DEFAULT_TEMPLATE, template_known=True),
        cue=None,
        threshold=published_threshold(detector),
        face_detector=loaded.detector_part,
    )


def published_threshold(detector: Detector) -> ThresholdSettings:
    """The publisher's decision.

    Raises:
        AgfasError: the detector has none.
    """
    if detector.decision is None:
        raise AgfasError(f"The detector '{detector.name}' as it is has no published decision: it has other weights.")
    decision = detector.decision
    return ThresholdSettings(
        value=decision.threshold,
        rule=PUBLISHED_RULE,
        selection="last",
        step=0,
        origin=decision.origin,
        by_class=decision.by_class,
    )


def published_facts(name: str) -> PublishedFacts:
    """Where the weights of a network come from that this program did not train."""
    if name not in published_names():
        return PublishedFacts(title=name, trained_on="pictures that its configuration does not name")
    known = publication(name)
    return PublishedFacts(title=known.title, trained_on=known.trained_on)


def _publication(name: str) -> Publication:
    try:
        return publication(name)
    except ValueError as error:
        raise AgfasError(str(error)) from None


def _files(name: str, place: Path) -> str | list[str]:
    try:
        return find_weights(name, place)
    except FileNotFoundError as error:
        raise AgfasError(str(error)) from None
    except (OSError, ValueError) as error:
        others = [other for other in published_names() if other != name and _holds(other, place)]
        hint = f" It holds those of {', '.join(map(repr, others))}: --published {others[0]}." if others else ""
        raise AgfasError(f"{error}{hint}") from None


def _build(name: str, files: str | list[str]) -> Detector:
    from oanet.detectors import build_detector  # imports torch, which a wrong folder does not need

    try:
        return build_detector(name, weights=files).eval()
    except (OSError, ValueError) as error:
        raise AgfasError(str(error)) from None


def _holds(name: str, place: Path) -> bool:
    try:
        return bool(find_weights(name, place))
    except (OSError, ValueError):
        return False


def _face_weights(name: str, place: Path) -> Path | None:
    """The face detector's file in the folder of the published weights; None: the face detector's own default.

    Raises:
        AgfasError: there is none, and the face detector has no default.
    """
    folder = place if place.is_dir() else place.parent
    found = sorted(folder.glob(_FACE_FILES.get(name, "")) if name in _FACE_FILES else [])
    if name == "yunet" and not found:
        found = [path for path in sorted(folder.glob("*.onnx")) if _YUNET_MARK in path.read_bytes()]
        if not found:
            raise AgfasError(
                f"{folder} holds no file of the face detector 'yunet'. Put face_detection_yunet_2023mar.onnx from"
                " models/face_detection_yunet of github.com/opencv/opencv_zoo there, or name it with --face-weights."
            )
    return found[0] if found else None


def _describe(known: Publication, settings: ModelSettings, detector: Detector) -> About:
    parts = [
        Part(what="this program", source="AG-FAS", licence="Apache-2.0"),
        Part(what="detector", source=known.title, licence=known.licence),
    ]
    if settings.face_detector is not None:
        found = settings.face_detector
        parts.append(Part(what="face detector", source=found.name, licence=found.licence))
    return About(
        dataset="",
        dataset_fingerprint="",
        drawn=False,
        train_domains=[],
        counts=[],
        objective="",
        seed=0,
        steps=0,
        parameters=detector.num_parameters(),
        generator=None,
        measured=None,
        parts=parts,
        versions={"python": platform.python_version(), **package_versions(PACKAGES)},
        published=published_facts(detector.name),
    )

"""The licence of every part of a saved folder: ours, and those of weights and faces that were loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.experiment.config import Experiment, PicturesData
from pipelines.experiment.generator import BaselineSettings
from pipelines.verdict.settings import ModelSettings, Part

_OURS = "Apache-2.0, within the terms of the faces it was trained on"
_PUBLISHER = "its publisher's; the configuration names none"
_COLLECTED = "the terms of whoever collected them"
_TAESD = "MIT where they are madebyollin's, else their publisher's"

# Where a weight's name or kind tells who published it.
_KNOWN = (
    ("stable-diffusion-v1-5", "CreativeML OpenRAIL-M"),
    ("sd-vae-ft", "MIT"),
    ("vit_base_patch16_224.orig_in21k", "Apache-2.0"),
    ("resnet18.tv_in1k", "BSD-3-Clause"),
)


def parts_of(experiment: Experiment, card: dict[str, Any], settings: ModelSettings) -> list[Part]:
    """Every part that the folder holds or was made from.

    Args:
        experiment: what was trained.
        card: of its face dataset.
        settings: what is saved.
    """
    parts = [
        Part(what="this program", source="AG-FAS", licence="Apache-2.0"),
        *_faces(experiment, card),
        Part(what="detector", source=f"{settings.detector}, trained by this run", licence=_OURS),
        *_backbone(experiment),
    ]
    if settings.needs_generator:
        parts += _generator(experiment)
    if settings.face_detector is not None:
        found = settings.face_detector
        parts.append(Part(what="face detector", source=found.name, licence=found.licence))
    if settings.needs_mask and settings.face_parser is not None:
        parser = settings.face_parser
        parts.append(Part(what="face parser", source=parser.name, licence=parser.licence))
    return parts


def _faces(experiment: Experiment, card: dict[str, Any]) -> list[Part]:
    """The datasets, under the terms that their importers state."""
    data = experiment.data
    if data.name == "synthetic" or card.get("kind") == "synthetic":
        return [Part(what="training faces", source="drawn by this program", licence="Apache-2.0")]
    if isinstance(data, PicturesData):
        importers: dict[str, str] = {name: source.importer for name, source in data.sources.items()}
    else:
        licence = str(card.get("licence") or _COLLECTED)
        return [Part(what="training faces", source=data.title, licence=licence)]
    return [
        Part(what="training faces", source=name, licence=_importer_licence(importer))
        for name, importer in importers.items()
    ]


def _importer_licence(importer: str) -> str:
    from pipelines.data import importers

    if importer not in importers.IMPORTERS:
        return _COLLECTED
    return str(getattr(importers.importer_module(importer), "LICENCE", _COLLECTED))


def _backbone(experiment: Experiment) -> list[Part]:
    """Pretrained weights that the detector's training began with."""
    options = experiment.detector.options()
    if not options.get("pretrained"):
        return []
    from oanet.presets import detector_preset

    preset = detector_preset(experiment.detector.name, options.get("preset", "base"))
    names = [options.get(key, preset.get(key)) for key in ("backbone", "cue_backbone")]
    return [
        Part(what="pretrained weights of the detector", source=f"timm/{name}", licence=licence_of(name))
        for name in names
        if name
    ]


def _generator(experiment: Experiment) -> list[Part]:
    generator = experiment.generator
    if isinstance(generator, BaselineSettings):
        source = f"{generator.name} of the preset {generator.preset}, trained by this run"
        return [Part(what="generator", source=source, licence=_OURS)]
    parts = [
        Part(what="generator", source=f"U-Net of the preset {generator.preset}, trained by this run", licence=_OURS)
    ]
    if generator.unet_weights:
        parts.append(_loaded("weights that the generator began with", generator.unet_weights))
    autoencoder: Any = generator.autoencoder
    if autoencoder.name == "patch":
        parts.append(Part(what="autoencoder", source="patch transform, fitted by this run", licence=_OURS))
    elif autoencoder.name == "taesd":
        source = f"{autoencoder.encoder.name} and {autoencoder.decoder.name}"
        parts.append(Part(what="autoencoder", source=source, licence=_TAESD))
    else:
        parts.append(_loaded("autoencoder", autoencoder.path))
    return parts + _identity(experiment)


def _identity(experiment: Experiment) -> list[Part]:
    identity: Any = experiment.identity
    if identity.name == "none":
        return []
    if identity.name == "trained":
        return [Part(what="identity encoder", source=f"{identity.preset}, trained by this run", licence=_OURS)]
    licence = "its publisher's; insightface's recognition packs are for non-commercial research alone"
    return [Part(what="identity encoder", source=Path(identity.path).name, licence=licence)]


def _loaded(what: str, place: str) -> Part:
    """Weights from elsewhere, by the last part of their name, so that no folder of this machine is published."""
    hub = not Path(place).exists() and place.count("/") == 1
    return Part(what=what, source=place if hub else Path(place).name, licence=licence_of(place))


def licence_of(name: str) -> str:
    """The licence of published weights, where their name tells it."""
    return next((licence for known, licence in _KNOWN if known in str(name)), _PUBLISHER)

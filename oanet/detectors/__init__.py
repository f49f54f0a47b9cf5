"""The zoo: detectors by name.

A new one is a file with a class derived from `Detector`, and its lines in `oanet.names`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from oanet.detectors.base import Detector, read_config
from oanet.names import DETECTOR_CLASSES, DETECTORS, check_detector, check_name, takes_cue
from oanet.presets import detector_preset

__all__ = ["DETECTORS", "Detector", "build_detector", "detector_class", "load_detector"]


def detector_class(name: str) -> type[Detector]:
    """The class of a detector. Raises ValueError for an unknown name, with the allowed ones."""
    check_name("detector", name, DETECTORS)
    module, class_name = DETECTOR_CLASSES[name].split(":")
    return getattr(import_module(module), class_name)


def build_detector(name: str, *, preset: str = "base", seed: int = 0, **options: Any) -> Detector:
    """A detector with fresh (or pretrained) weights.

    Args:
        name: one of `DETECTORS`.
        preset: `base` or `tiny`, see `oanet.presets`.
        seed: decides the random weights; torch's global stream is left as it was.
        **options: constructor options that override the preset's.

    Raises:
        ValueError: for an unknown name, preset or option, with what is allowed and the nearest.
    """
    check_detector(name, options)
    takes_cue(name, options)
    chosen = {**detector_preset(name, preset), **options}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also reseed the GPUs, whose streams are not put back.
        torch.random.default_generator.manual_seed(seed)
        return detector_class(name)(**chosen)


def load_detector(folder: str | Path) -> Detector:
    """The detector that `Detector.save_pretrained` wrote, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: where the folder holds no detector.
        ValueError: where its files do not fit each other or this version.
    """
    name = read_config(Path(folder))["name"]
    return detector_class(name).from_pretrained(folder)

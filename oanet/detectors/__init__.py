"""Detectors by name: built in, by `module:Class`, or of the entry points `agfas.detectors`; see `oanet.names`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from oanet.detectors.base import Detector, read_config
from oanet.names import DETECTORS, takes_cue
from oanet.presets import detector_preset

__all__ = ["DETECTORS", "Detector", "build_detector", "load_detector"]


def build_detector(name: str, *, preset: str = "base", seed: int = 0, **options: Any) -> Detector:
    """A new detector, with random or pretrained weights.

    Args:
        name: one of `DETECTORS`, or `module:Class`.
        preset: `base`, `tiny` or another one of the detector, see `oanet.presets`.
        seed: seed of the random weights; torch's global random stream is left unchanged.
        **options: constructor options that override the preset's.

    Raises:
        ValueError: unknown name, preset or option; lists the allowed ones.
    """
    DETECTORS.check(name, options)
    found = DETECTORS.load(name, Detector)
    takes_cue(name, options)
    chosen = {**detector_preset(name, preset), **options}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reseed the GPUs, whose streams fork_rng does not restore here.
        torch.random.default_generator.manual_seed(seed)
        return found(**chosen)


def load_detector(folder: str | Path) -> Detector:
    """Load a detector saved by `Detector.save_pretrained`, in eval mode, on the CPU.

    A folder that names its detector by `module:Class` makes this import that module from Python's path.

    Raises:
        FileNotFoundError: the folder holds no detector.
        ValueError: its files do not fit each other or this version.
    """
    name = read_config(Path(folder))["name"]
    return DETECTORS.load(name, Detector).from_pretrained(folder)

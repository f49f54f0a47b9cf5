"""Which built-in detectors are trained, and which always need a cue."""

from __future__ import annotations

from oanet.names import DETECTORS, inference_only, takes_cue

TRAINABLE = tuple(name for name in DETECTORS.builtin if inference_only(name) is None)
WITH_CUE = tuple(name for name in DETECTORS.builtin if takes_cue(name, {}))

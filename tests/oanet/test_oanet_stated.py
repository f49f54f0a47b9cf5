"""Defaults, constants and presets of the detectors' modules are what they were; importing them sends nothing home."""

from __future__ import annotations

import pytest
from stated import assert_reports_are_off, assert_unchanged, before, stated

import oanet
from oanet.names import DETECTORS
from oanet.presets import detector_preset

MODULES = (
    *("oanet.attention", "oanet.batch", "oanet.checkpoints", "oanet.checks", "oanet.clip", "oanet.cue"),
    *("oanet.cue_encoder", "oanet.head", "oanet.model", "oanet.names", "oanet.patches", "oanet.published"),
    *("oanet.registry", "oanet.sources", "oanet.towers", "oanet.trunks", "oanet.presets"),
    *("oanet.detectors", "oanet.detectors.attacknet", "oanet.detectors.auxiliary", "oanet.detectors.base"),
    *("oanet.detectors.cdcn", "oanet.detectors.cnn", "oanet.detectors.dgua", "oanet.detectors.flip"),
    *("oanet.detectors.insightface_liveness", "oanet.detectors.liveness_vit", "oanet.detectors.minifasnet"),
    *("oanet.detectors.ssan", "oanet.detectors.vit", "oanet.objectives", "oanet.objectives.apl"),
    *("oanet.objectives.auxiliary", "oanet.objectives.base", "oanet.objectives.cross_entropy"),
    *("oanet.objectives.depth", "oanet.objectives.dgua", "oanet.objectives.flip_mcl", "oanet.objectives.gd_fas"),
    *("oanet.objectives.sa_fas", "oanet.objectives.ssan", "oanet.objectives.ssdg"),
)
# Of plain ViTs, each preset by one of those that take all its options.
OTHERS = {
    "vit": ("dinov2", "dinov2_small", "dinov2_tiny", "dinov3", "small", "ti"),
    "oanet": ("dinov2", "dinov2_small", "dinov2_tiny", "dinov3"),
    **dict.fromkeys(("livenessnet", "attacknet_v1", "attacknet_v2_1", "attacknet_v2_2"), ("released",)),
    **dict.fromkeys(("ssan_r", "ssan_m"), ("released",)),
}


def presets() -> dict[str, str]:
    """DETECTOR PRESET to its options."""
    names = [(name, preset) for name in DETECTORS.builtin for preset in ("base", "tiny", *OTHERS.get(name, ()))]
    return {f"{name} {preset}": repr(detector_preset(name, preset)) for name, preset in names}


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_states_is_what_it_was(module):
    assert_unchanged(stated(module), before(module))


def test_presets_are_what_they_were():
    assert_unchanged(presets(), before("presets"))


def test_reports_of_other_libraries_are_off_unless_the_user_turned_them_on(monkeypatch):
    assert_reports_are_off(oanet, monkeypatch)

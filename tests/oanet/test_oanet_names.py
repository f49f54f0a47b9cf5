"""Names and options are checked without torch, and agree with the constructors."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from oanet.checks import nearest
from oanet.detectors import Detector
from oanet.names import DETECTORS, OBJECTIVES, PRESETS, inference_only
from oanet.objectives import Objective
from oanet.presets import detector_preset


@pytest.mark.parametrize("name", DETECTORS.builtin)
def test_options_read_from_source_are_the_constructors(name: str) -> None:
    detector = DETECTORS.load(name, Detector)
    assert tuple(inspect.signature(detector).parameters) == DETECTORS.options(name)
    assert detector.name == name
    assert detector.needs_cue == DETECTORS.attribute(name, "needs_cue")
    assert detector.inference_only == inference_only(name)


@pytest.mark.parametrize("name", OBJECTIVES.builtin)
def test_an_objectives_options_follow_detector_and_domains(name: str) -> None:
    parameters = list(inspect.signature(OBJECTIVES.load(name, Objective)).parameters)
    assert parameters[:2] == ["detector", "num_domains"]
    assert tuple(parameters[2:]) == OBJECTIVES.options(name)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", DETECTORS.builtin)
def test_presets_hold_json_values_and_known_options(name: str, preset: str) -> None:
    options = detector_preset(name, preset)
    DETECTORS.check(name, options)
    assert json.loads(json.dumps(options)) == options


def test_a_preset_is_a_copy() -> None:
    detector_preset("oanet", "tiny")["backbone_options"]["depth"] = 99
    assert detector_preset("oanet", "tiny")["backbone_options"]["depth"] != 99


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'image_onli'; did you mean 'image_only'\? Allowed: attacknet_v1, "):
        DETECTORS.check("image_onli")
    with pytest.raises(ValueError, match=r"option of the detector 'oanet'.*did you mean 'cue_stages'"):
        DETECTORS.check("oanet", ["cue_stage"])
    with pytest.raises(ValueError, match="Unknown option of the detector 'image_only'"):
        DETECTORS.check("image_only", ["cue_channels"])
    with pytest.raises(ValueError, match="did you mean 'lambda_triplet'"):
        OBJECTIVES.check("ssdg", ["lambda_triple"])
    with pytest.raises(ValueError, match="Allowed: base, dinov2, dinov2_small, dinov2_tiny, dinov3, tiny"):
        detector_preset("oanet", "huge")
    assert nearest("zzzz", DETECTORS).startswith("Allowed: ")


def test_checking_every_name_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\n\nclass Loss(torch.nn.Module):\n    def __init__(self, a): ...\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from oanet.names import DETECTORS, OBJECTIVES, inference_only, takes_cue
from oanet.presets import detector_preset
for name in DETECTORS.builtin:
    DETECTORS.check(name, detector_preset(name, "tiny"))
    takes_cue(name, {{}}), inference_only(name)
for name in OBJECTIVES.builtin:
    OBJECTIVES.check(name)
OBJECTIVES.check("mine:Loss", ["a"])
sys.exit("torch" in sys.modules or "timm" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

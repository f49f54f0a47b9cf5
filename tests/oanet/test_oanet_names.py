"""The tables that a config is checked with agree with the code, and need no torch."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from oanet.detectors import detector_class
from oanet.names import (
    DETECTOR_OPTIONS,
    DETECTORS,
    DETECTORS_WITH_CUE,
    OBJECTIVE_OPTIONS,
    OBJECTIVES,
    PRESETS,
    check_detector,
    check_objective,
    nearest,
)
from oanet.objectives import objective_class
from oanet.presets import detector_preset


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_table_is_the_constructor(name: str) -> None:
    detector = detector_class(name)
    assert tuple(inspect.signature(detector).parameters) == DETECTOR_OPTIONS[name]
    assert detector.name == name
    assert detector.needs_cue == (name in DETECTORS_WITH_CUE)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_table_is_the_constructor(name: str) -> None:
    parameters = list(inspect.signature(objective_class(name)).parameters)
    assert parameters[:2] == ["detector", "num_domains"]
    assert tuple(parameters[2:]) == OBJECTIVE_OPTIONS[name]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", DETECTORS)
def test_presets_hold_json_values_and_known_options(name: str, preset: str) -> None:
    options = detector_preset(name, preset)
    check_detector(name, options)
    assert json.loads(json.dumps(options)) == options


def test_a_preset_is_a_copy() -> None:
    detector_preset("oanet", "tiny")["backbone_options"]["depth"] = 99
    assert detector_preset("oanet", "tiny")["backbone_options"]["depth"] != 99


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'image_onli'. Did you mean 'image_only'\? Allowed: image_only"):
        check_detector("image_onli")
    with pytest.raises(ValueError, match=r"option of the detector 'oanet'.*Did you mean 'cue_stages'"):
        check_detector("oanet", ["cue_stage"])
    with pytest.raises(ValueError, match="Unknown option of the detector 'image_only'"):
        check_detector("image_only", ["cue_channels"])
    with pytest.raises(ValueError, match="Did you mean 'lambda_triplet'"):
        check_objective("ssdg", ["lambda_triple"])
    with pytest.raises(ValueError, match="Allowed: base, tiny"):
        detector_preset("oanet", "huge")
    assert nearest("zzzz", DETECTORS) is None


def test_names_and_presets_do_not_import_torch() -> None:
    code = "import sys, oanet.names, oanet.presets; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

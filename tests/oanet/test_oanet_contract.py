"""Every detector under every objective: it learns, is saved and loaded equal, repeats, or says why not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detector_names import TRAINABLE, WITH_CUE

from oanet.batch import DetectorOutput, FaceBatch
from oanet.detectors import Detector, build_detector, load_detector
from oanet.head import LinearHead, LivenessHead
from oanet.names import OBJECTIVES
from oanet.objectives import Objective, build_objective
from oanet.patches import PatchDetector

MakeBatch = Callable[..., FaceBatch]

# Every detector once and every objective at least once; the whole product is slow.
DIAGONAL = [
    *((name, "ssdg") for name in TRAINABLE if name != "auxiliary"),
    ("auxiliary", "auxiliary"),
    ("auxiliary", "depth"),
    ("cdcn", "depth"),
    ("flip_mcl", "flip_mcl"),
    ("gd_fas", "gd_fas"),
    ("dual_branch", "apl"),
    ("image_only", "erm"),
    ("oanet", "sa_fas"),
    ("resnet18", "sa_fas"),
    ("residual_only", "label_smoothing"),
    ("ssan_r", "ssan"),
    ("ssan_m", "ssan"),
    ("dgua", "dgua"),
]
# The objectives' parts are as large as the paper's where nothing else is said.
SMALL: dict[str, dict[str, Any]] = {name: {"hidden": 32, "projection_dim": 16} for name in ("flip_mcl", "gd_fas")}
PRODUCT = [(name, objective) for name in TRAINABLE for objective in OBJECTIVES]


def tiny(name: str) -> Detector:
    options: dict[str, Any] = {"cue_channels": 6} if name in WITH_CUE else {}
    return build_detector(name, preset="tiny", **options)


def refusal(detector: Detector, objective: str) -> str | None:
    """What the error must say where the two cannot go together."""
    if objective in ("flip_mcl", "gd_fas"):
        return None if detector.name in ("flip_it", "flip_mcl", "gd_fas") else "compares pictures with words"
    if objective == "dgua":
        return None if detector.name == "dgua" else "has inner maps to replace"
    if objective == "ssan":
        return None if detector.name in ("ssan_r", "ssan_m") else "takes content and style apart"
    if objective == "apl":
        return None if isinstance(detector, PatchDetector) else "gives its patch tokens"
    if objective in ("depth", "auxiliary"):
        return None if detector.name in ("cdcn", "cdcn_pp", "ssan_m", "auxiliary") else "predicts the map 'depth'"
    if objective == "sa_fas" and not isinstance(getattr(detector, "head", None), LivenessHead | LinearHead):
        return "cannot be given a classifier per domain"
    return "does not train" if detector.name == "auxiliary" else None


@pytest.mark.parametrize(("name", "objective_name"), DIAGONAL)
def test_contract(name: str, objective_name: str, make_batch: MakeBatch, tmp_path: Path) -> None:
    check_contract(name, objective_name, make_batch(12, cue_channels=6), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "objective_name"), [pair for pair in PRODUCT if pair not in DIAGONAL])
def test_contract_of_the_product(name: str, objective_name: str, make_batch: MakeBatch, tmp_path: Path) -> None:
    check_contract(name, objective_name, make_batch(12, cue_channels=6), tmp_path)


def check_contract(name: str, objective_name: str, batch: FaceBatch, folder: Path) -> None:
    detector = tiny(name)
    words = refusal(detector, objective_name)
    if words is not None:
        with pytest.raises(ValueError, match=words):
            build_objective(objective_name, detector, num_domains=3)
        return
    objective = build_objective(objective_name, detector, num_domains=3, **SMALL.get(objective_name, {}))
    twin = copy.deepcopy(objective)
    check_output(train(objective, batch, steps=1), objective)
    check_gradients(objective, batch)
    train(twin, batch, steps=1)
    assert_equal(objective, twin)
    check_saved(objective.detector.eval(), batch, folder)


def train(objective: Objective, batch: FaceBatch, steps: int) -> dict[str, Any]:
    """Some steps from a seed; the last one's result."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05)
    result: dict[str, Any] = {}
    for step in range(steps):
        result = objective(batch, 0.5)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        objective.after_step(0.5 + 0.5 * (step + 1) / steps)
    return result


def check_output(result: dict[str, Any], objective: Objective) -> None:
    output = result["output"]
    assert isinstance(output, DetectorOutput)
    assert output.logits.shape == (12, 2)
    assert output.features.shape == (12, objective.detector.feature_dim)
    assert ((output.probability_bonafide >= 0) & (output.probability_bonafide <= 1)).all()
    for part, value in result.items():
        if part not in ("loss", "output"):
            assert value.shape == ()
            assert not value.requires_grad


def check_gradients(objective: Objective, batch: FaceBatch) -> None:
    """One step has woken what starts at zero, such as the cross-attention; from then on everything must learn."""
    weights = copy.deepcopy(objective.state_dict())
    objective.zero_grad()
    objective(batch, 0.5)["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A key's bias shifts all of a query's scores alike, and the softmax takes it out again.
        if not name.endswith(("key.bias", "k_proj.bias")):
            assert parameter.grad.abs().sum() > 0, name
    objective.load_state_dict(weights)


def assert_equal(one: Objective, other: Objective) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@torch.no_grad()
def check_saved(detector: Detector, batch: FaceBatch, folder: Path) -> None:
    detector.save_pretrained(folder)
    loaded = load_detector(folder)
    one, other = (each(batch.image, batch.cue) for each in (detector, loaded))
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.features, other.features)
    assert sorted(detector.map_names) == sorted(other.maps or {})
    for name in detector.map_names:
        assert torch.equal(one.maps[name], other.maps[name])  # type: ignore[index]

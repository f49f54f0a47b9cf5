"""Every detector under every objective on a GPU, by its look-alike: no mixed devices, and no wait in a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from detector_names import TRAINABLE
from lookalike import Lookalike
from test_oanet_contract import SMALL, refusal, tiny

from oanet.batch import FaceBatch
from oanet.cue import form_cue
from oanet.detectors import build_detector
from oanet.names import DETECTORS, OBJECTIVES
from oanet.objectives import Objective, build_objective
from oanet.published import CROP

MakeBatch = Callable[..., FaceBatch]


def check_step(seen: Lookalike, objective: Objective, batch: FaceBatch) -> None:
    """A training step, which waits for nothing; the first one may look up what then is remembered."""
    objective.to("cuda").train()
    for _ in range(2):
        seen.clear()
        result = objective(batch, 0.5)
        result["loss"].backward()
        objective.after_step(0.6)
        if not seen.synchronisations:
            break
    assert seen.synchronisations == [], type(objective).__name__
    assert result["loss"].isfinite()


# OA-Net takes every objective but those of one detector.
@pytest.mark.parametrize(
    "name", [name if name == "oanet" else pytest.param(name, marks=pytest.mark.slow) for name in TRAINABLE]
)
def test_a_step_of_every_objective_waits_for_nothing(lookalike: Lookalike, make_batch: MakeBatch, name: str) -> None:
    batch = make_batch(6, cue_channels=6).to("cuda")
    for objective_name in OBJECTIVES.builtin:
        detector = tiny(name)
        if refusal(detector, objective_name) is None:
            options = SMALL.get(objective_name, {})
            check_step(lookalike, build_objective(objective_name, detector, 3, **options), batch)


def test_maps_and_domains_wait_for_nothing(lookalike: Lookalike, make_batch: MakeBatch) -> None:
    maps = ("depth", "reflection", "mask")
    ones = torch.ones(6, 1, 64, 64)
    batch = replace(make_batch(6), depth=ones, reflection=ones, mask=ones)
    batch.domain[0] = -1
    detector = build_detector("auxiliary", preset="tiny", maps=list(maps))
    options = {f"lambda_{part}": 1.0 for part in (*maps, "domain")}
    check_step(lookalike, build_objective("auxiliary", detector, 3, **options), batch.to("cuda"))


# insightface's add-on is a graph of onnxruntime, which runs beside torch.
@pytest.mark.parametrize("name", [name for name in DETECTORS.builtin if name != "insightface_liveness"])
def test_every_detector_judges_and_shows_its_attention(lookalike: Lookalike, make_batch: MakeBatch, name: str) -> None:
    batch = make_batch(2, cue_channels=6)
    detector = tiny(name).eval()
    if detector.sees != CROP:
        seen = torch.from_numpy(detector.look_at_nobody()).permute(2, 0, 1)
        batch = replace(batch, image=seen.expand(2, -1, -1, -1) / 127.5 - 1)
    with torch.no_grad():
        expected = detector(batch.image, batch.cue).probability_bonafide
        detector.to("cuda")
        image, cue = batch.image.to("cuda"), batch.cue.to("cuda")  # type: ignore[union-attr]
        found = detector(image, cue, need_weights=True)
        lookalike.clear()
        detector(image, cue)
    assert lookalike.synchronisations == []
    torch.testing.assert_close(found.probability_bonafide.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["residual", "compensated", "two_part"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_cue_is_formed_without_waiting(lookalike: Lookalike, form: str, masked: bool) -> None:
    faces = [torch.linspace(-1, 1, 96, device="cuda").view(2, 3, 4, 4) * factor for factor in (1.0, 0.5, 0.25)]
    mask = torch.ones(2, 1, 4, 4, device="cuda") if masked else None
    assert form_cue(*faces, form=form, mask=mask).is_cuda
    assert lookalike.synchronisations == []

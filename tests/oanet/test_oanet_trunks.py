"""Networks from timm: errors that say what to do, and a pretrained stage that starts anew."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from oanet.cue_encoder import CueEncoder
from oanet.objectives.depth import predicted_map
from oanet.trunks import build_resnet, create_timm


def test_what_timm_refuses_is_answered_with_the_fix(monkeypatch):
    with pytest.raises(ValueError, match=r"no model 'resnet180'\. Nearest: .*resnet18"):
        create_timm("resnet180", False)
    with pytest.raises(ValueError, match=r"'resnet18' refuses an option: .*Given: \['colour'\]"):
        create_timm("resnet18", False, colour=3)

    def broken(name, **arguments):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(OSError, match=r"pretrained weights of 'resnet18' could not be loaded \(no route to host\)"):
        create_timm("resnet18", True)
    with pytest.raises(RuntimeError, match="no route"):
        create_timm("resnet18", False)


@pytest.mark.parametrize("stages", [1, 4])
def test_the_last_stage_of_a_pretrained_cue_encoder_starts_anew(monkeypatch, stages):
    """torchvision's initialisation: He's normal, fan out; norms of 1 and 0 without a history."""
    options = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 256]}
    resnet = build_resnet("resnet18", 3, False, options)
    for value in resnet.state_dict().values():
        value.fill_(7)
    monkeypatch.setattr("oanet.cue_encoder.build_resnet", lambda *arguments: resnet)
    encoder = CueEncoder("resnet18", 3, stages, True, options)
    assert encoder.dim == (256 if stages == 4 else 8)
    assert len(encoder.stages) == stages
    assert all((value == 7).all() for value in encoder.stages[0].state_dict().values())
    if stages == 4:
        block = encoder.stages[3][0]
        assert block.conv2.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
        assert block.bn2.weight.unique().tolist() == [1]
        assert block.bn2.bias.unique().tolist() == [0]
        assert (block.bn2.running_mean.unique().tolist(), block.bn2.running_var.unique().tolist()) == ([0], [1])


@pytest.mark.parametrize("stages", [0, 5])
def test_a_resnet_has_one_to_four_stages(stages):
    with pytest.raises(ValueError, match=f"stages = {stages}, but 'resnet18' has 1 to 4 stages"):
        CueEncoder("resnet18", 3, stages, False, {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]})


def test_a_map_that_is_promised_and_not_given_is_named():
    for maps in (None, {"other": torch.zeros(1)}):
        with pytest.raises(ValueError, match="lists the map 'depth' in `map_names`"):
            predicted_map(maps, "depth")
    assert predicted_map({"depth": torch.zeros(1, dtype=torch.bfloat16)}, "depth").dtype == torch.float32

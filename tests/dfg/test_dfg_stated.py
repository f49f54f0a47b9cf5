"""Defaults and constants of the generator's modules are what they were, and importing it sends nothing home."""

from __future__ import annotations

import pytest
from stated import assert_reports_are_off, assert_unchanged, before, stated

import dfg

MODULES = (
    *("dfg.arcface", "dfg.attention", "dfg.autoencoder", "dfg.identity", "dfg.known", "dfg.noise", "dfg.objective"),
    *("dfg.onnx_graph", "dfg.onnx_identity", "dfg.pipeline", "dfg.prediction", "dfg.samplers", "dfg.saved"),
    *("dfg.schedule", "dfg.seals", "dfg.speed", "dfg.state_dict", "dfg.taesd", "dfg.tokens", "dfg.unet"),
    *("dfg.baselines", "dfg.baselines.anoddpm", "dfg.baselines.base", "dfg.baselines.deep_svdd", "dfg.baselines.memae"),
)


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_states_is_what_it_was(module):
    assert_unchanged(stated(module), before(module))


def test_reports_of_other_libraries_are_off_unless_the_user_turned_them_on(monkeypatch):
    assert_reports_are_off(dfg, monkeypatch)

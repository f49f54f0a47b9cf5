"""timm comes without torch's compiler, and the compiler is there as soon as it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from oanet import networks


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in takes the name of a small module, which nothing has imported."""
    monkeypatch.setattr(networks, "_COMPILER", "colorsys")
    monkeypatch.setattr(networks, "_ASKED", "rgb_to_hsv")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    yield
    sys.modules.pop("colorsys", None)


def test_the_one_function_brings_the_module_when_it_is_called(stand_in):
    with networks._without_compiler():
        from colorsys import rgb_to_hsv
    assert "colorsys" not in sys.modules
    assert rgb_to_hsv(0.5, 0.5, 0.5) == (0.0, 0.0, 0.5)
    assert sys.modules["colorsys"].__file__


def test_anything_else_brings_it_at_once(stand_in):
    with networks._without_compiler():
        from colorsys import ONE_THIRD
    assert pytest.approx(1 / 3) == ONE_THIRD
    assert sys.modules["colorsys"].__file__


def test_a_function_is_kept_from_the_compiler_when_it_is_called(stand_in, monkeypatch):
    asked = []
    real = torch.compiler.disable
    monkeypatch.setattr(torch.compiler, "disable", lambda fn, recursive, **options: asked.append(options) or fn)
    ours = torch.compiler.disable
    with networks._without_compiler():
        plain, named = torch.compiler.disable(abs), torch.compiler.disable(reason="none")(abs)
    assert torch.compiler.disable is ours is not real
    assert asked == []
    assert plain(-1) == named(-1) == 1
    assert asked == [{}, {"reason": "none"}]


def test_a_module_that_is_there_stays(stand_in):
    import colorsys

    with networks._without_compiler():
        assert sys.modules["colorsys"] is colorsys
    assert sys.modules["colorsys"] is colorsys


@pytest.mark.slow
def test_timm_comes_without_the_compiler():
    code = (
        "import sys, oanet.trunks; early = 'torch._dynamo' in sys.modules;"
        "from torchvision.ops import roi_align; from torchvision.ops.roi_align import is_compile_supported;"
        "assert is_compile_supported('cpu') is not None; sys.exit(early or 'torch._dynamo' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

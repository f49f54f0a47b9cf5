"""Classes by address and by entry point: their options are read from source, or by import where it does not tell."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oanet.detectors import build_detector, load_detector
from oanet.names import DETECTORS, OBJECTIVES, takes_cue
from oanet.objectives import build_objective
from oanet.presets import detector_preset
from oanet.registry import Registry

WriteModule = Callable[..., None]

MEAN = '''
import torch
from torch import nn
from oanet.batch import DetectorOutput
from oanet.detectors import Detector
from oanet.head import LinearHead
from oanet.objectives import Objective
from oanet.objectives.base import losses


class Mean(Detector):
    """A linear classifier on the mean colour."""

    name = "mean_colour"
    presets = {"tiny": {"bias": False}}

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.feature_dim = 3
        self.shift = nn.Linear(3, 3, bias=bias)
        self.head = LinearHead(3)

    def forward(self, image, cue=None, *, need_weights=False):
        return DetectorOutput(*self.head(self.shift(image.mean(dim=(2, 3)))))


class Cued(Mean):
    name = "cued"
    needs_cue = True


class Margin(Objective):
    def __init__(self, detector, num_domains, margin: float = 1.0) -> None:
        super().__init__(detector, num_domains)
        self.margin = margin

    def loss(self, seen, batch, progress):
        loss = nn.functional.multi_margin_loss(seen.logits, batch.label, margin=self.margin)
        return losses(seen, margin=loss)
'''


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """`write_module(name, source)`: a module that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str = MEAN) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def offer(folder: Path, package: str, group: str, **points: str) -> None:
    """An installed package, as far as its entry points go."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {address}" for name, address in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


def test_a_detector_by_its_address_is_built_saved_and_loaded(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("colours")
    DETECTORS.check("colours:Mean", ["bias"])
    assert "colours" not in sys.modules, "checking parses the source"
    detector: Any = build_detector("colours:Mean", preset="tiny", seed=3)
    assert detector.config == {"bias": False}
    build_objective("colours:Margin", detector, 2, margin=0.5)
    detector.eval().save_pretrained(tmp_path / "saved")
    assert '"name": "colours:Mean"' in (tmp_path / "saved" / "config.json").read_text()
    loaded, image = load_detector(tmp_path / "saved"), torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(image).logits, detector(image).logits)


def test_an_installed_package_offers_names(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("colours")
    offer(tmp_path, "colours-plugin", "agfas.detectors", mean_colour="colours:Mean", vit="colours:Mean")
    assert list(DETECTORS)[-1] == "mean_colour"
    assert DETECTORS.address("vit") == "oanet.detectors.vit:ViT", "built-in names take precedence"
    detector = build_detector("mean_colour")
    detector.save_pretrained(tmp_path / "saved")
    assert '"name": "mean_colour"' in (tmp_path / "saved" / "config.json").read_text()
    assert type(load_detector(tmp_path / "saved")) is type(detector)
    with pytest.raises(ValueError, match="did you mean 'mean_colour'"):
        DETECTORS.check("mean_color")
    offer(tmp_path, "other-plugin", "agfas.detectors", mean_colour="colours:Cued")
    with pytest.raises(ValueError, match=r"Several packages offer .* colours:Cued, colours:Mean"):
        DETECTORS.check("mean_colour")


def test_attributes_and_options_are_inherited(write_module: WriteModule) -> None:
    write_module("colours")
    write_module("package.derived", "from colours import Cued as Base\n\nclass Derived(Base):\n    name = 'derived'\n")
    write_module("package.__init__", "raise ImportError('parsing must not import a package')")
    assert DETECTORS.options("package.derived:Derived") == ("bias",)
    assert takes_cue("package.derived:Derived", {})
    assert not takes_cue("colours:Mean", {})
    assert detector_preset("package.derived:Derived", "tiny") == {"bias": False}
    assert detector_preset("colours:Mean", "base") == {}


def test_what_the_source_does_not_tell_is_imported(write_module: WriteModule) -> None:
    made = "Made = type('Made', (), {'size': 2 + 3, '__init__': lambda self, one, two: None})\n"
    several = "class A:\n    def __init__(self, a, b=1): ...\nclass C: ...\nclass B(C, A):\n    size = 2 + 3\n"
    write_module("made", made + several)
    registry = Registry("thing", "none", {"made": "made:Made"}, supplied=("two",))
    assert registry.options("made") == ("one",)
    assert registry.options("made:B") == ("a", "b")
    assert registry.attribute("made", "size") == registry.attribute("made:B", "size") == 5
    assert registry.load("made:A.__name__") == "A"


def test_what_the_source_tells_is_what_the_class_has(write_module: WriteModule) -> None:
    write_module("base_of_one", "class One:\n    size = 7\n    def __init__(self, a, /, b, *, c): ...\n")
    derived = "class Two(One):\n    other = size = 8\nclass Three(One):\n    size = 2 + 3\n"
    write_module("of_one", f"from base_of_one import One\n{derived}class One(One): ...\n")
    registry = Registry("thing", "none", {}, supplied=("b",))
    assert registry.options("base_of_one:One") == registry.options("of_one:Two") == ("a", "c")
    assert registry.options("of_one:One") == ("a", "c"), "a class may have the name of its base"
    assert [registry.attribute(f"of_one:{name}", "size") for name in ("One", "Two", "Three")] == [7, 8, 5]
    assert registry.attribute("of_one:Two", "other") == 8
    assert registry.attribute("of_one:Two", "third") is None
    assert registry.attribute("math:pi", "real") == math.pi, "of modules that have no source"
    assert registry.attribute("sys:version_info", "major") == 3


def test_relative_imports_and_re_exports_are_followed(write_module: WriteModule) -> None:
    write_module("shelf.__init__", "from .inner.thing import Thing as Public\n")
    write_module("shelf.inner.thing", "from ..base import Base\n\nclass Thing(Base): ...\n")
    write_module("shelf.base", "class Base:\n    def __init__(self, *, width: int): ...\n")
    assert Registry("thing", "none", {}).options("shelf:Public") == ("width",)
    assert "shelf" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Mean", "cannot be imported from nowhere: No module named 'nowhere'.*PYTHONPATH"),
        ("colours:Meen", "cannot be imported from colours: module 'colours' has no attribute 'Meen'"),
        ("colours:", "cannot be imported"),
        ("broken:Loose", r"broken\.py is not valid Python: .*line 2"),
        ("loose:Loose", "takes \\*args or \\*\\*kwargs"),
    ],
)
def test_wrong_addresses_teach(name: str, message: str, write_module: WriteModule) -> None:
    write_module("colours")
    write_module("broken", "class Loose:\n    def __init__(self):")
    write_module("loose", "class Loose:\n    def __init__(self, **options): ...\n")
    with pytest.raises(ValueError, match=message):
        DETECTORS.check(name)


def test_a_class_of_another_kind_is_refused(write_module: WriteModule) -> None:
    write_module("colours")
    with pytest.raises(ValueError, match="'colours:Margin' is no detector"):
        build_detector("colours:Margin")
    with pytest.raises(ValueError, match="'colours:Mean' is no objective"):
        build_objective("colours:Mean", build_detector("colours:Mean"), 1)
    with pytest.raises(ValueError, match="did you mean 'margin'"):
        OBJECTIVES.check("colours:Margin", ["margins"])

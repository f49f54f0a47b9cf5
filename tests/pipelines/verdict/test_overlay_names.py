"""Where overlays go: names of every length and spelling, none over another."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipelines.stages.detect import Medium, Overlays, find_media
from pipelines.verdict import Verdict


@pytest.fixture
def overlays(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.verdict.overlay.draw_overlay", lambda verdict: Image.new("RGB", (4, 4)))
    return Overlays(tmp_path / "out")


def written(overlays: Overlays, *names: str) -> list[str]:
    for name in names:
        overlays.write(Medium(Path(name), name), Verdict(name, "live", "", 0.9, 0.5, "dev"))
    assert all(Path(path).is_file() for path in overlays.written if path)
    return [Path(path).name for path in overlays.written if path]


@pytest.mark.parametrize("name", ["x" * 229, "x" * 251, "\u65e5" * 83, "latin-\udce9", "a::b [c] 100%", "l\nf?*'\""])
def test_a_name_of_any_length_and_letter(overlays, name):
    one, other = written(overlays, f"{name}.png", f"{name}.jpg")
    assert one != other
    assert one[:6] == name[:6]


def test_names_that_some_disks_take_for_one(overlays):
    assert written(overlays, "A.png", "a.png", "Jos\u00e9.png", "Jose\u0301.png") == [
        *("A.png.png", "a.png-2.png", "Jos\u00e9.png.png", "Jose\u0301.png-2.png")
    ]


def test_what_a_mac_adds_is_not_judged(tmp_path):
    for name in ("a.png", "._a.png", ".DS_Store", "__MACOSX/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [medium.name for medium in find_media([tmp_path]).media] == ["a.png"]

"""The three ways to open a detector hand on what they are given; what is stated of published weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from verdict_facts import ABOUT, SETTINGS
from verdict_run import LeftHalf, PaintedFaces

from oanet.published import publication
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing, folder, from_run, published
from pipelines.verdict.crops import Loaded

FINDER, PARSER = PaintedFaces(), LeftHalf()
PLAIN = SETTINGS.model_copy(update={"cue": None})


@pytest.fixture
def opened(monkeypatch) -> list[Any]:
    """What the openers are given; they all open the same."""
    seen: list[Any] = []

    def opening(*given: Any) -> Any:
        seen.append(given)
        return PLAIN, "scorer", lambda: ABOUT, Loaded(FINDER)

    for module, name in ((from_run, "open_run"), (folder, "open_folder"), (published, "open_published")):
        monkeypatch.setattr(module, name, opening)
    return seen


def test_what_is_given_is_handed_on(opened):
    plain = FaceAntiSpoofing.from_run("out")
    whole = FaceAntiSpoofing.from_run("out", "dfg", "to_phone", face_detector=FINDER, face_parser=PARSER, batch_size=3)
    assert opened == [
        (Path("out"), None, None, Loaded()),
        (Path("out"), "dfg", "to_phone", Loaded(FINDER, None, PARSER)),
    ]
    assert (plain.batch_size, whole.batch_size) == (16, 3)
    assert (plain.settings, plain.scorer, plain.loaded, plain.about()) == (PLAIN, "scorer", Loaded(FINDER), ABOUT)
    opened.clear()
    FaceAntiSpoofing.from_pretrained("saved")
    whole = FaceAntiSpoofing.from_pretrained(
        "saved", face_detector="yunet", weights="y.onnx", face_parser="p.pth", batch_size=5
    )
    assert opened == [(Path("saved"), None, None, None), (Path("saved"), "yunet", "y.onnx", "p.pth")]
    assert whole.batch_size == 5
    opened.clear()
    FaceAntiSpoofing.from_published("minifasnet", "weights")
    whole = FaceAntiSpoofing.from_published(
        "minifasnet", "weights", face_detector="yunet", face_weights="y.onnx", batch_size=7
    )
    assert opened == [
        ("minifasnet", Path("weights"), None, None), ("minifasnet", Path("weights"), "yunet", "y.onnx"),
    ]  # fmt: skip
    assert whole.batch_size == 7
    with pytest.raises(AgfasError, match=r"x\.onnx are weights of a face detector without its name"):
        FaceAntiSpoofing.from_run("out", weights="x.onnx")


def test_what_is_saved_is_what_was_opened(opened, monkeypatch):
    saved: list[Any] = []
    monkeypatch.setattr(folder, "save_folder", lambda *given: saved.append(given))
    model = FaceAntiSpoofing.from_run("out")
    model.save_pretrained("new")
    ((place, parts),) = saved
    assert place == Path("new")
    assert (parts.settings, parts.scorer, parts.loaded, parts.describe()) == (PLAIN, "scorer", Loaded(FINDER), ABOUT)


@pytest.mark.parametrize("found", [True, False])
def test_the_facts_of_published_weights(found):
    known = publication("minifasnet")
    detector: Any = SimpleNamespace(name="minifasnet", num_parameters=lambda: 12)
    settings = PLAIN if found else PLAIN.model_copy(update={"face_detector": None})
    about = published._describe(known, settings, detector)
    assert about.model_dump(exclude={"versions", "parts", "published"}) == {
        "dataset": "", "dataset_fingerprint": "", "drawn": False, "train_domains": [], "counts": [], "objective": "",
        "seed": 0, "steps": 0, "parameters": 12, "generator": None, "measured": None, "simulated": [],
    }  # fmt: skip
    parts = [(part.what, part.source, part.licence) for part in about.parts]
    assert parts == [
        ("this program", "AG-FAS", "Apache-2.0"),
        ("detector", known.title, known.licence),
        *([("face detector", "yunet", "MIT")] if found else []),
    ]
    assert (about.published.title, about.published.trained_on) == (known.title, known.trained_on)
    assert {"python", "torch", "timm"} <= set(about.versions)


def test_published_weights_that_are_not_there(tmp_path):
    with pytest.raises(AgfasError, match="did you mean 'minifasnet'"):
        published.open_published("minifasnett", tmp_path, None, None)
    with pytest.raises(AgfasError, match=r"No weights at .*nowhere: there is no such folder"):
        published.open_published("minifasnet", tmp_path / "nowhere", None, None)
    with pytest.raises(AgfasError, match="holds no files of 'minifasnet'"):
        published.open_published("minifasnet", tmp_path, None, None)

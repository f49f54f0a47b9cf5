"""What the program makes of a detector's options: whether there is a cue, how folders are called, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import expand
from pipelines.experiment.untrained import build_detector
from pipelines.experiment.workspace import Workspace
from pipelines.stages import train_detector


def experiment(detector: dict[str, Any], **more: Any) -> Experiment:
    return build_experiment({"detector": detector, "data": {"name": "synthetic"}, **more}, "test")


@pytest.fixture(autouse=True)
def _a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.experiment.workspace.read_card", lambda folder: {"fingerprint": "0"})


def test_a_cue_follows_the_option() -> None:
    plain, given = (experiment({"name": "vit", **cue}) for cue in ({}, {"cue": True}))
    assert [Workspace(one).needs_cue() for one in (plain, given)] == [False, True]
    assert Workspace(plain).detector_key()["cue"] is None
    assert Workspace(given).detector_key()["cue"]["form"] == "residual"
    assert [expand(one)[0].label for one in (plain, given)] == ["vit", "vit dfg t=801 residual"]


def test_new_options_leave_old_names_as_they_were() -> None:
    key = Workspace(experiment({"name": "vit", "preset": "tiny"})).detector_key()
    assert key["detector"] == {"name": "vit", "preset": "tiny"}


def test_the_cues_form_decides_the_channels() -> None:
    given = experiment({"name": "flip_v", "preset": "tiny", "cue": True}, cue={"form": "two_part"})
    assert build_detector(given).config["cue_channels"] == 6


def test_detector_and_objective_by_their_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from oanet.detectors.cnn import SSDGM
from oanet.objectives.cross_entropy import ERM


class Mine(SSDGM):
    name = "mine"


class Loss(ERM):
    def __init__(self, detector, num_domains, weight: float = 1.0) -> None:
        super().__init__(detector, num_domains, [weight, 1.0])
"""
    (tmp_path / "methods_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    given = experiment(
        {"name": "methods_of_mine:Mine", "width": 8}, objective={"name": "methods_of_mine:Loss", "weight": 2.0}
    )
    assert not Workspace(given).needs_cue()
    train_detector.check_options(given)
    detector = build_detector(given)
    assert (type(detector).__name__, detector.config["width"]) == ("Mine", 8)
    with pytest.raises(AgfasError, match="did you mean 'width'"):
        experiment({"name": "methods_of_mine:Mine", "widht": 8})
    with pytest.raises(AgfasError, match="did you mean 'weight'"):
        experiment({"name": "vit"}, objective={"name": "methods_of_mine:Loss", "wieght": 8})


def test_a_clip_counts_by_its_content(tmp_path: Path) -> None:
    for folder, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(weights)
    one, same, other = (
        Workspace(experiment({"name": "flip_it", "clip": str(tmp_path / folder)})).detector() for folder in "abc"
    )
    assert one == same != other
    hub = Workspace(experiment({"name": "flip_it", "clip": "openai/clip-vit-base-patch16"})).detector_key()
    assert hub["detector"]["clip"] == "openai/clip-vit-base-patch16"


@pytest.mark.parametrize("option", ["backbone", "cue_backbone"])
def test_a_backbone_counts_by_its_content(option: str, tmp_path: Path) -> None:
    for folder, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(weights)
    one, same, other = (
        Workspace(experiment({"name": "oanet", option: f"{prefix}{tmp_path / folder}"})).detector()
        for prefix, folder in (("", "a"), ("local-dir:", "b"), ("", "c"))
    )
    assert one == same != other
    for name in ("hf-hub:timm/x@main", "resnet18"):
        assert Workspace(experiment({"name": "oanet", option: name})).detector_key()["detector"][option] == name


def test_a_backbone_that_is_not_there_is_missed_before_the_training(tmp_path: Path) -> None:
    given = experiment({"name": "image_only", "backbone": str(tmp_path / "none"), "pretrained": True})
    with pytest.raises(AgfasError, match=r"The detector cannot be built: The backbone .* has no "):
        train_detector.check_options(given)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ({"name": "vit", "cue_stages": 2}, "needs its option cue: true"),
        ({"name": "ddm"}, "'ddm' is not offered"),
        ({"name": "image_only", "cue": True}, "Unknown option of the detector 'image_only'"),
    ],
)
def test_mistakes_are_answered(detector: dict[str, Any], message: str) -> None:
    with pytest.raises(AgfasError, match=message):
        experiment(detector)


def test_a_clip_that_is_not_there_is_missed_before_the_training(tmp_path: Path) -> None:
    given = experiment({"name": "flip_it", "clip": str(tmp_path / "none" / "clip")})
    with pytest.raises(AgfasError, match=r"The detector cannot be built: CLIP .* could not be opened"):
        train_detector.check_options(given)


def test_words_are_needed_for_flip_mcl() -> None:
    given = experiment({"name": "resnet18", "preset": "tiny"}, objective={"name": "flip_mcl"})
    with pytest.raises(AgfasError, match=r"'resnet18' has no embed_images, embed_prompts, compare.*'flip_mcl'"):
        train_detector.check_options(given)

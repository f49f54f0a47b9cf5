"""Which faces are kept and how they are cut: limits on both sides, and persons followed through a video."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from prepare_stubs import SquareDetector, face_at, scene

from pipelines.data import pose
from pipelines.data.prepare import cutter as cutter_module
from pipelines.data.prepare.cutter import BeyondLimit, Cutter, follow
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.quality import measure_quality
from pipelines.errors import AgfasError

PICTURE = scene((40, 20, 70))
FACE = face_at(40, 20, 70, 70)
FACES_ON_A_RAMP = face_at(70, 70, 60, 60), face_at(-20, 70, 60, 60)


def cutter(**recipe) -> Cutter:
    return Cutter.load(PrepareRecipe(size=64, **recipe), SquareDetector)


def test_the_models_are_those_of_the_recipe():
    assert cutter().fingerprint() == {"detector": {"detector": "squares"}, "parser": None}
    assert cutter(aligned=True).fingerprint() == {"detector": None, "parser": None}
    parser = SimpleNamespace(fingerprint=lambda: "p")
    assert Cutter(PrepareRecipe(), None, parser).fingerprint() == {"detector": None, "parser": "p"}


def test_what_is_a_crop_already_has_neither_landmarks_nor_pose():
    crop = cutter(aligned=True).take(scene(size=(80, 80)))
    assert (crop.landmarks.shape, crop.landmarks.dtype, len(crop.pose)) == ((5, 2), np.float32, 3)
    assert np.isnan([*crop.landmarks.ravel(), *crop.pose]).all()
    assert crop.face is None


@pytest.mark.parametrize("angle", ["yaw", "pitch"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_face_may_be_turned_as_far_as_its_limit(monkeypatch, angle, sign):
    turned = SimpleNamespace(**{"yaw": 1.0, "pitch": 2.0, "roll": 3.0, angle: sign * 30.0})
    monkeypatch.setattr(pose, "head_pose", lambda *_: turned)
    crop = cutter(**{f"max_{angle}": 30}).cut(PICTURE, FACE)
    assert crop.pose == (turned.yaw, turned.pitch, 3.0)
    with pytest.raises(BeyondLimit) as caught:
        cutter(**{f"max_{angle}": 29.9}).cut(PICTURE, FACE)
    assert str(caught.value) == f"The face's {angle} is {sign * 30.0:.1f} degrees, beyond the limit of 29.9."


@pytest.mark.parametrize("limits", [{"max_yaw": 45}, {"max_pitch": 45}])
def test_an_unknown_pose_is_beyond_no_limit_and_refused_by_any(monkeypatch, limits):
    def unknown(*_):
        raise AgfasError("No head fits.")

    monkeypatch.setattr(pose, "head_pose", unknown)
    assert len(cutter().cut(PICTURE, FACE).pose) == 3
    with pytest.raises(AgfasError, match="No head fits"):
        cutter(**limits).cut(PICTURE, FACE)


def test_a_face_may_be_as_poor_as_its_limit(monkeypatch):
    measured = measure_quality(np.zeros((64, 64, 3), np.uint8), "paper")
    monkeypatch.setattr(cutter_module, "measure_quality", lambda *_: replace(measured, score=0.5))
    assert cutter(min_quality=0.5).cut(PICTURE, FACE).quality == 0.5
    monkeypatch.setattr(cutter_module, "measure_quality", lambda *_: replace(measured, score=float("nan")))
    with pytest.raises(BeyondLimit, match=r"quality is nan, below the limit of 0\.5\."):
        cutter(min_quality=0.5).cut(PICTURE, FACE)


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_what_lies_beyond_the_picture_has_no_quality(rule):
    ramp = np.tile(np.linspace(100, 140, 200, dtype=np.uint8)[:, None, None], (1, 200, 3))
    within, beyond = (Cutter.load(PrepareRecipe(size=64), SquareDetector).cut(ramp, face) for face in FACES_ON_A_RAMP)
    assert not (within.picture == 0).any()
    assert (beyond.picture == 0).mean() > 0.1
    assert beyond.quality == pytest.approx(within.quality, abs=0.001)
    assert measure_quality(beyond.picture, rule).score > 2 * beyond.quality  # the edge of the black would be sharpest


def test_a_second_look_needs_the_rule_and_an_enhancement(monkeypatch):
    looks = []
    measured = measure_quality(np.full((64, 64, 3), 90, np.uint8), "paper")

    def measure(crop, rule, inside):
        looks.append(rule)
        return replace(measured, refused="")

    monkeypatch.setattr(cutter_module, "measure_quality", measure)
    for recipe in ({}, {"quality": "paper", "enhance": True}, {"quality": "released"}, {"enhance": True}):
        cutter(**recipe).cut(PICTURE, FACE)
    assert looks == ["paper", "paper", "released", "paper"]
    cutter(quality="released", enhance=True).cut(PICTURE, FACE)
    assert looks[4:] == ["released", "released"]


def test_persons_are_followed_by_their_nearest_last_face():
    """Squares as (left, width), with their tops in one row."""
    frames = [
        [(0, 40), (100, 20)],  # two persons
        [(98, 30), (10, 20)],  # sizes changed places, persons did not
        [(180, 30)],  # further from person 1 than the larger width: somebody new
        [(150, 30), (40, 20), (210, 10)],  # person 2 is within reach of the first and nearer to the last
        [],
        [(42, 20), (44, 20)],  # the nearer one is the known person
    ]
    faces = [(place, [face_at(left, 0, width, width) for left, width in row]) for place, row in enumerate(frames)]
    found = [(position, person, float(face.box[0])) for position, person, face in follow(faces)]
    assert found == [
        *((0, 0, 0.0), (0, 1, 100.0), (1, 0, 10.0), (1, 1, 98.0), (2, 2, 180.0)),
        *((3, 2, 210.0), (3, 3, 150.0), (3, 4, 40.0), (5, 4, 42.0), (5, 5, 44.0)),
    ]


@pytest.mark.parametrize(("apart", "same"), [(39, True), (40, True), (41, False)])
@pytest.mark.parametrize("widths", [(40, 20), (20, 40)])
def test_a_face_within_the_larger_width_is_the_same_person(apart, same, widths):
    one, other = (face_at(0, 0, width, width) for width in widths)
    left, top = one.box[:2] + one.box[2:] / 2 - other.box[2:] / 2
    moved = face_at(int(left), int(top) + apart, widths[1], widths[1])
    persons = [person for _, person, _ in follow([(0, [one]), (1, [moved])])]
    assert persons == ([0, 0] if same else [0, 1])

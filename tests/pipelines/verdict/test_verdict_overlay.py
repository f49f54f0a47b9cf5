"""Overlays can be read whatever the photo's size, and show what was judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from verdict_run import PaintedFaces, paint, shared_run

from pipelines.verdict import FaceAntiSpoofing, FrameVerdict, Verdict
from pipelines.verdict.overlay import draw_attention, draw_cue, draw_overlay, draw_panels

LIVE, ATTACK = (29, 107, 69), (155, 58, 43)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> FaceAntiSpoofing:
    root = shared_run(tmp_path_factory.getbasetemp())
    return FaceAntiSpoofing.from_run(root, "dfg", face_detector=PaintedFaces())


def colours(picture) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


@pytest.mark.parametrize(
    ("width", "height", "face"), [(60, 50, (5, 5, 40)), (2000, 1500, (1000, 450, 450)), (3000, 90, (900, 5, 80))]
)
def test_photo_of_any_size_is_drawn_at_a_size_to_read(detector, width, height, face):
    verdict = detector(paint(width, height, [face]), panels=True)[0]
    picture = draw_overlay(verdict)
    assert 1200 < picture.width < 2000
    assert 250 < picture.height < 900
    assert (LIVE if verdict.verdict == "live" else ATTACK) in colours(picture)


def test_box_lies_where_the_face_is(detector):
    verdict = detector(paint(640, 600, [(320, 300, 200)]), panels=True)[0]
    pixels = np.asarray(draw_overlay(verdict)).astype(int)
    colour = LIVE if verdict.verdict == "live" else ATTACK
    ink = np.argwhere((np.abs(pixels - colour).sum(axis=2) == 0)[:, : 16 + 640])
    below = ink[ink[:, 0] > 300]
    assert below[:, 1].min() == pytest.approx(16 + 320, abs=3)
    assert below[:, 1].max() == pytest.approx(16 + 520, abs=3)


def test_of_a_very_wide_photo_the_part_with_the_face_is_shown(detector):
    photo = paint(4000, 100, [(3800, 10, 80)])
    photo[:, :2000] = (10, 200, 10)
    picture = np.asarray(draw_overlay(detector(photo, panels=True)[0]))[:, : 16 + 640].astype(int)
    green = (np.abs(picture - (10, 200, 10)).sum(axis=2) < 30).mean()
    red = (np.abs(picture - (255, 0, 0)).sum(axis=2) < 60).sum()
    assert green == 0
    assert red > 100


def test_every_face_has_its_row_and_many_are_cut_short(detector):
    faces = [(10 + 70 * place, 20, 60 - place) for place in range(8)]
    photo = paint(600, 120, faces)
    one = draw_overlay(detector(photo, panels=True)[0])
    three = draw_overlay(detector(photo[:, :220], panels=True, all_faces=True)[0])
    eight = draw_overlay(detector(photo, panels=True, all_faces=True)[0])
    assert one.height < three.height < eight.height < 2000


def test_crop_is_drawn_without_a_photo_beside_it(detector):
    crop = paint(64, 64, [])
    with_photo = draw_overlay(detector(paint(64, 64, [(4, 4, 50)]), panels=True)[0])
    alone = draw_overlay(detector(crop, panels=True, aligned=True)[0])
    assert alone.width < with_photo.width - 500


def test_no_face_shows_the_photo(detector):
    photo = np.full((50, 80, 3), (200, 10, 220), np.uint8)
    picture = draw_overlay(detector(photo, panels=True)[0])
    assert (200, 10, 220) in colours(picture)


def test_video_shows_lowest_middle_and_highest_frame(detector):
    frames = []
    for index in range(5):
        found = detector(paint(120, 100, [(10, 10, 60)], seed=index), panels=True)[0]
        frames.append(FrameVerdict(index, index / 10, found.score, found.faces, found.photo))
    frames.append(FrameVerdict(5, 0.5, None, (), paint(120, 100, [])))
    verdict = Verdict("film", "live", "because", 0.5, 0.4, "somewhere", frames=tuple(frames))
    three = draw_overlay(verdict)
    one = draw_overlay(Verdict("film", "live", "because", 0.5, 0.4, "somewhere", frames=tuple(frames[:1])))
    none = draw_overlay(Verdict("film", "no face", "because", None, 0.4, "somewhere", frames=tuple(frames[5:])))
    assert three.height > one.height
    assert none.width < one.width


def test_cue_is_grey_at_zero_and_one_picture_for_each_three_channels():
    cue = np.zeros((6, 4, 5), np.float32)
    cue[3:, 0, 0] = 10.0
    pictures = draw_cue(cue)
    assert list(pictures) == ["cue, part 1", "cue, part 2"]
    assert {picture.shape for picture in pictures.values()} == {(4, 5, 3)}
    assert np.unique(pictures["cue, part 1"]).tolist() == [128]
    assert pictures["cue, part 2"][0, 0].tolist() == [255, 255, 255]
    assert pictures["cue, part 2"][1, 1].tolist() == [128, 128, 128]
    assert list(draw_cue(cue[:3])) == ["cue"]


def test_attention_is_brightest_where_the_tokens_look():
    face = np.full((32, 32, 3), 100, np.uint8)
    weights = torch.zeros(1, 2, 5, 16)
    weights[..., 3] = 1.0  # the upper right of 4 x 4
    seen = draw_attention((weights, weights), face)
    assert seen.shape == face.shape
    brightness = seen.astype(int).sum(axis=2)
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row < 8
    assert column >= 24
    assert brightness[:8, 24:].mean() > brightness[8:, :24].mean() + 100


@pytest.mark.parametrize("attention", [None, (), (torch.ones(1, 2, 5, 15),)])
def test_without_a_square_of_tokens_there_is_no_attention(attention):
    face = np.zeros((8, 8, 3), np.uint8)
    assert draw_attention(attention, face) is None
    assert list(draw_panels(face, None, None, attention)) == ["face"]


def test_attention_and_cue_pixel_by_pixel():
    draws = np.random.default_rng(0)
    blocks = [torch.from_numpy(draws.random((1, 3, 5, 16))) for _ in range(2)]
    face = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    weights = np.array([np.mean([block[0, :, :, place].numpy() for block in blocks]) for place in range(16)])
    level = np.floor(255 * (weights - weights.min()) / (weights.max() - weights.min())).astype(int)
    heat = np.array([[int(part * 255) for part in colormaps["inferno"](int(one))[:3]] for one in level])
    grey = face.reshape(16, 3).mean(axis=1, keepdims=True)
    seen = draw_attention(blocks, face)
    assert np.abs(seen.reshape(16, 3) - (0.55 * heat + 0.45 * grey)).max() <= 1.5
    assert draw_attention([torch.ones(1, 2, 3, 16)], face).reshape(16, 3).tolist() == [
        [round(0.45 * float(value) + 0.55 * part) for part in (0.001462 * 255, 0.000466 * 255, 0.013866 * 255)]
        for value in grey[:, 0]
    ]
    cue = draws.normal(0, 2, (3, 4, 4)).astype(np.float32)
    shares = np.clip(cue / (3 * cue.std()), -1, 1).transpose(1, 2, 0)
    assert np.abs(draw_cue(cue)["cue"] - (shares + 1) * 127.5).max() <= 0.5
    panels = draw_panels(np.concatenate([face, 255 - face], axis=2), face, cue, blocks)
    assert list(panels) == ["face", "face, crop 2", "restoration", "cue", "attention"]
    assert np.array_equal(panels["face, crop 2"], 255 - face)

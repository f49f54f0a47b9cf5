"""Overlays can be read whatever the photo's size, and show what was judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import ImageDraw, ImageFont
from verdict_run import paint

from pipelines.verdict import FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.overlay import _window, draw_attention, draw_cue, draw_overlay, draw_panels

LIVE, ATTACK = (29, 107, 69), (155, 58, 43)


PLAIN = np.arange(192 * 192 * 3, dtype=np.uint32).astype(np.uint8).reshape(192, 192, 3)
POINTS = ((10.0, 20.0),) * 5


def face(verdict: str = "live", score: float = 0.75, box=(100.0, 150.0, 60.0, 80.0), panels: int = 2) -> FaceVerdict:
    names = ("face", "cue", "attention", "restoration", "cue, part 2")[:panels]
    return FaceVerdict(verdict, score, box, POINTS, 0.9, panels=dict.fromkeys(names, PLAIN))


def answer(photo: np.ndarray | None, *faces: FaceVerdict) -> Verdict:
    return Verdict("a", "live", "because", 0.75, 0.5, "dev", faces, photo=photo)


def colours(picture) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


@pytest.mark.parametrize(
    ("width", "height", "place"), [(60, 50, (5, 5, 40)), (2000, 1500, (1000, 450, 450)), (3000, 90, (900, 5, 80))]
)
def test_photo_of_any_size_is_drawn_at_a_size_to_read(width, height, place):
    left, top, side = place
    picture = draw_overlay(answer(paint(width, height, []), face(box=(left, top, side, side), panels=5)))
    assert 1200 < picture.width < 2000
    assert 250 < picture.height < 900
    assert LIVE in colours(picture)


def test_of_a_very_wide_photo_the_part_with_the_face_is_shown():
    photo = paint(4000, 100, [(3800, 10, 80)])
    photo[:, :2000] = (10, 200, 10)
    drawn = draw_overlay(answer(photo, face(box=(3800.0, 10.0, 80.0, 80.0))))
    picture = np.asarray(drawn)[:, : 16 + 640].astype(int)
    green = (np.abs(picture - (10, 200, 10)).sum(axis=2) < 30).mean()
    red = (np.abs(picture - (255, 0, 0)).sum(axis=2) < 60).sum()
    assert green == 0
    assert red > 100


def test_crop_is_drawn_without_a_photo_beside_it():
    photo = paint(64, 64, [])
    with_photo = draw_overlay(answer(photo, face(panels=5)))
    alone = draw_overlay(answer(photo, face(box=None, panels=5)))
    assert (alone.width, with_photo.width) == (16 + 5 * 208 + 16, 16 + 616 + 5 * 208 + 16)


def test_no_face_shows_the_photo():
    photo = np.full((50, 80, 3), (200, 10, 220), np.uint8)
    picture = draw_overlay(answer(photo))
    assert (200, 10, 220) in colours(picture)


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


class Marks:
    """What is written and drawn, in order, on a real picture."""

    def __init__(self, picture):
        self.draw = Draw(picture)

    def text(self, place, text, colour, font):
        log.append(("text", place, text, colour, font.size))

    def rectangle(self, place, **options):
        log.append(("rectangle", place, options))

    def ellipse(self, place, **options):
        log.append(("ellipse", place, options))


Draw = ImageDraw.Draw
log: list[tuple] = []


@pytest.fixture
def marks(monkeypatch):
    """Marks are noted and not drawn, so that what is left are pictures on paper."""
    log.clear()
    monkeypatch.setattr(ImageDraw, "Draw", Marks)
    return log


PAPER, INK, SOFT = (251, 250, 248), (34, 38, 43), (93, 102, 111)


def test_where_everything_lies_in_an_overlay(marks):
    photo = np.random.default_rng(0).integers(0, 256, (600, 640, 3), dtype=np.uint8)
    verdict = Verdict("a", "live", "because", 0.75, 0.5, "dev", (face(),), notes=("dark",), photo=photo)
    picture = np.asarray(draw_overlay(verdict))
    # 16 + photo 640 + 16 + two panels of 192 + 16 each + 16; below the head of 52 + three lines of 20 + 8.
    assert picture.shape == (120 + 600 + 16, 16 + 640 + 16 + 2 * 208 + 16, 3)
    expected = np.full(picture.shape, PAPER, np.uint8)
    expected[120:720, 16:656] = photo
    for left in (672, 880):
        expected[144:336, left : left + 192] = PLAIN
    assert np.array_equal(picture, expected)
    font = ImageFont.load_default(16)
    width = font.getbbox("live 0.75")[2] + 8
    dots = [((7.5, 17.5, 13.5, 23.5), {"fill": (255, 255, 255), "outline": LIVE})] * 5
    assert marks == [
        ("rectangle", (100.0, 150.0, 160.0, 230.0), {"outline": LIVE, "width": 3}),
        *(("ellipse", *dot) for dot in dots),
        ("rectangle", (100.0, 128.0, 100.0 + width, 150.0), {"fill": LIVE}),
        ("text", (104.0, 130.0), "live 0.75", (255, 255, 255), 16),
        ("text", (0, 0), "face 1: live, score 0.7500", LIVE, 16),
        ("text", (0, 220), "face", SOFT, 14),
        ("text", (208, 220), "cue", SOFT, 14),
        ("text", (16, 12), "live", LIVE, 28),
        ("text", (16, 52), "because", INK, 14),
        ("text", (16, 72), "threshold: dev", SOFT, 14),
        ("text", (16, 92), "note: dark", SOFT, 14),
    ]


def test_marks_of_a_scaled_photo_keep_inside_it_and_are_numbered(marks):
    photo = np.zeros((300, 320, 3), np.uint8)
    faces = (
        face("attack", 0.254, (290.0, 5.0, 20.0, 30.0)),
        face("live", 0.5, (-9.0, 11.0, 20.0, 30.0)),
        face("live", 0.5, (20.0, -3.0, 20.0, 30.0)),
    )
    draw_overlay(Verdict("a", "attack", "because", 0.254, 0.5, "dev", faces, photo=photo))
    font = ImageFont.load_default(16)
    widths = [font.getbbox(text)[2] + 8 for text in ("1 attack 0.25", "2 live 0.50", "3 live 0.50")]
    found = {mark[2]: mark[1] for mark in marks if mark[0] == "text"}
    rectangles = [mark[1:] for mark in marks if mark[0] == "rectangle"]
    assert [place for place, options in rectangles if "outline" in options] == [
        (40.0, -6.0, 80.0, 54.0), (-18.0, 22.0, 22.0, 82.0), (580.0, 10.0, 620.0, 70.0),
    ]  # fmt: skip
    assert [place for place, options in rectangles if "fill" in options] == [
        (40.0, 0.0, 40.0 + widths[2], 22.0), (0.0, 0.0, widths[1], 22.0), (640.0 - widths[0], 10.0, 640.0, 32.0),
    ]  # fmt: skip
    assert [options for _, options in rectangles][-1] == {"fill": ATTACK}
    assert found["2 live 0.50"] == (4.0, 2.0)
    ellipses = [mark[1] for mark in marks if mark[0] == "ellipse"]
    assert ellipses[0] == (18.0, 38.0, 24.0, 44.0)  # the centre of pixel 10, 20 at twice the size


@pytest.mark.parametrize(
    ("shape", "box", "window"),
    [
        ((100, 400), (300.0, 10.0, 40.0, 40.0), (slice(0, 100), slice(200, 400))),
        ((100, 400), (150.0, 10.0, 40.0, 40.0), (slice(0, 100), slice(70, 270))),
        ((100, 400), (0.0, 10.0, 40.0, 40.0), (slice(0, 100), slice(0, 200))),
        ((400, 100), (10.0, 150.0, 40.0, 44.0), (slice(72, 272), slice(0, 100))),
        ((400, 100), (10.0, 380.0, 40.0, 44.0), (slice(200, 400), slice(0, 100))),
        ((100, 200), (150.0, 10.0, 40.0, 40.0), (slice(0, 100), slice(0, 200))),
        ((90, 400), None, (slice(0, 90), slice(110, 290))),
    ],
)
def test_the_part_of_a_long_photo_around_its_first_face(shape, box, window):
    photo = np.arange(shape[0] * shape[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(*shape, 3)
    part, left, top = _window(photo, (face(box=box),) if box else ())
    assert (left, top) == (window[1].start, window[0].start)
    assert np.array_equal(part, photo[window])


def test_of_nine_rows_six_are_shown_and_the_rest_is_counted(marks):
    faces = tuple(face(score=place / 10, panels=1 + 4 * (place == 5)) for place in range(9))
    picture = draw_overlay(Verdict("a", "live", "because", 0.75, 0.5, "dev", faces))
    assert picture.size == (16 + 5 * 208 + 16, 100 + 6 * 256 + 20 + 16)
    titles = [mark[1:3] for mark in marks if mark[0] == "text" and mark[2].startswith("face ")]
    assert titles == [((0, 256 * place), f"face {place + 1}: live, score 0.{place}000") for place in range(6)]
    assert ("text", (0, 1536), "and 3 more", SOFT, 14) in marks
    marks.clear()
    picture = draw_overlay(Verdict("a", "live", "because", 0.75, 0.5, "dev", faces[:6]))
    assert picture.size == (16 + 5 * 208 + 16, 100 + 6 * 256 + 16)
    assert titles_of(marks, "and ") == []


def test_lines_are_wrapped_to_the_width_and_no_picture_needs_no_place(marks):
    picture = draw_overlay(Verdict("a", "refused", "word " * 40, None, 0.5, "dev"))
    lines = [mark for mark in marks if mark[4] == 14]
    assert [mark[2] for mark in lines] == [
        ("word " * 19).strip(),
        ("word " * 19).strip(),
        "word word",
        "threshold: dev",
    ]
    assert [mark[1] for mark in lines] == [(16, 52 + 20 * place) for place in range(4)]
    assert [mark[3] for mark in lines] == [INK, SOFT, SOFT, SOFT]
    assert marks[0] == ("text", (16, 12), "refused", INK, 28)
    assert picture.size == (720, 52 + 80 + 8 + 16)


def titles_of(marks: list[tuple], start: str) -> list[str]:
    return [mark[2] for mark in marks if mark[0] == "text" and mark[2].startswith(start)]


def test_frames_of_a_video_by_their_scores(marks):
    photos = [np.full((60, 64, 3), 40 * place, np.uint8) for place in range(5)]
    scores = [0.5, 0.1, 0.9, 0.3, 0.7]
    frames = tuple(
        FrameVerdict(index, None, score, (face(score=score),), photos[index]) for index, score in enumerate(scores)
    )
    picture = np.asarray(draw_overlay(Verdict("film", "live", "because", 0.5, 0.4, "dev", frames=frames)))
    titles = titles_of(marks, "frame ")
    assert titles == [f"frame {index}: live, score {score:.4f}" for index, score in ((1, 0.1), (0, 0.5), (2, 0.9))]
    assert picture[100, 16].tolist() == [0, 0, 0]
    draw_overlay(Verdict("film", "live", "because", 0.5, 0.4, "dev", frames=frames[:2]))
    assert titles_of(marks, "frame ")[3:] == [
        "frame 1: live, score 0.1000", "frame 0: live, score 0.5000",
    ]  # fmt: skip
    empty = FrameVerdict(0, None, None, (), photos[4])
    picture = np.asarray(draw_overlay(Verdict("film", "no face", "because", None, 0.4, "dev", frames=(empty,))))
    assert picture[100, 16].tolist() == [160, 160, 160]

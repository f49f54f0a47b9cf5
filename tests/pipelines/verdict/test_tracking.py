"""Faces are followed by place, size and look; what is not surely the same face has another number and no scores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipelines.verdict.answers import FaceVerdict
from pipelines.verdict.tracking import LEAST_ALIKE, PATIENCE, Tracks, alike, nearness, small_grey

Place = tuple[int, int, int]


def pattern(seed: int) -> np.ndarray:
    """What a face looks like: (6, 6) grey levels."""
    return np.random.default_rng(seed).integers(0, 256, (6, 6)).astype(np.uint8)


def scene(*faces: tuple[Place, int], seed: int = 100) -> np.ndarray:
    """A picture (240, 320, 3) with patterns at (left, top, side), before a background."""
    picture = np.kron(np.random.default_rng(seed).integers(0, 256, (6, 8)), np.ones((40, 40))).astype(np.uint8)
    for (left, top, side), look in faces:
        scaled = np.kron(pattern(look), np.ones((-(-side // 6),) * 2))[:side, :side]
        picture[top : top + side, left : left + side] = scaled
    return np.repeat(picture[..., None], 3, axis=2)


def face(place: Place, score: float = 0.5, classes: tuple[float, ...] = ()) -> FaceVerdict:
    left, top, side = map(float, place)
    return FaceVerdict("live", score, (left, top, side, side), attack_classes=classes)


def followed(tracks: Tracks, time: float, *faces: tuple[Place, int], score: float = 0.5, background: int = 100) -> list:
    tracks.update(time, [face(place, score) for place, _ in faces], scene(*faces, seed=background))
    return [track.number for track in tracks.alive]


HERE, NEAR, FAR = (60, 60, 60), (75, 66, 60), (200, 60, 60)


def test_a_face_that_moves_keeps_its_number_and_its_mean():
    tracks = Tracks(window=3.0)
    for time, place, score in ((0.0, HERE, 0.1), (0.2, NEAR, 0.2), (0.4, (90, 70, 66), 0.3)):
        assert followed(tracks, time, (place, 1), score=score) == [1]
    (track,) = tracks.alive
    assert track.score == 0.6 / 3 != (0.1 + 0.2 + 0.3) / 3  # exact
    assert (len(track.scores), track.began, track.seen, track.face.box) == (3, 0.0, 0.4, (90.0, 70.0, 66.0, 66.0))


def test_the_mean_is_over_the_window_and_exact():
    tracks = Tracks(window=1.0)
    for step in range(30):
        tracks.update(step / 10, [face(HERE, 0.1 if step < 20 else 1e16 * (step == 20))], scene((HERE, 1)))
    (track,) = tracks.alive
    assert [each.time for each in track.scores] == [step / 10 for step in range(20, 30)]
    assert track.score == 1e15


def test_classes_are_averaged_one_by_one():
    tracks = Tracks(window=1.0)
    tracks.update(0.0, [face(HERE, 0.2, (0.5, 0.25))], scene((HERE, 1)))
    tracks.update(0.1, [face(HERE, 0.2, (0.0, 0.75))], scene((HERE, 1)))
    assert tracks.alive[0].classes == (0.25, 0.5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((HERE, 1), (FAR, 1)),  # a jump in place
        ((HERE, 1), ((40, 40, 100), 1)),  # a jump in size
        (((40, 40, 100), 1), (HERE, 1)),
        ((HERE, 1), (HERE, 2)),  # another face in the same place
    ],
    ids=["place", "larger", "smaller", "look"],
)
def test_a_face_in_another_s_place_inherits_nothing(before, after):
    tracks = Tracks(window=3.0)
    for step in range(5):
        assert followed(tracks, step / 5, before, score=0.9) == [1]
    assert 2 in followed(tracks, 1.0, after, score=0.1)
    (new,) = (track for track in tracks.alive if track.number == 2)
    assert (new.score, len(new.scores)) == (0.1, 1)
    assert followed(tracks, 1.0 + PATIENCE + 0.1, after) == [2]


def test_a_cut_ends_every_track_even_where_a_face_looks_alike():
    tracks = Tracks(window=3.0)
    assert followed(tracks, 0.0, (HERE, 1), (FAR, 2)) == [1, 2]
    assert followed(tracks, 0.2, (HERE, 1), (FAR, 2), background=101) == [3, 4]


def test_a_face_may_be_hidden_for_a_moment_only():
    tracks = Tracks(window=3.0)
    assert followed(tracks, 0.0, (HERE, 1)) == [1]
    assert followed(tracks, PATIENCE) == [1]
    assert followed(tracks, PATIENCE + 0.1, (HERE, 1)) == [1]
    assert followed(tracks, 2 * PATIENCE + 0.2) == []
    assert followed(tracks, 2 * PATIENCE + 0.3, (HERE, 1)) == [2]


def test_slow_frames_go_on_until_the_window_is_over():
    tracks = Tracks(window=3.0)
    assert followed(tracks, 0.0, (HERE, 1)) == [1]
    assert followed(tracks, 3.0, (HERE, 1)) == [1]
    assert followed(tracks, 6.1, (HERE, 1)) == [2]


def test_a_window_shorter_than_the_patience_keeps_the_last_score():
    tracks = Tracks(window=0.1)
    followed(tracks, 0.0, (HERE, 1), score=0.25)
    followed(tracks, 0.09)
    followed(tracks, 0.18)
    assert [track.score for track in tracks.alive] == [0.25]


def test_what_was_forgotten_has_another_number():
    tracks = Tracks(window=3.0)
    assert followed(tracks, 0.0, (HERE, 1), (FAR, 2)) == [1, 2]
    tracks.forget()
    assert followed(tracks, 0.1, (HERE, 1)) == [3]


def test_two_faces_pass_each_other():
    """Together the pairs fit best, whatever the order in which faces are found."""
    tracks = Tracks(window=3.0)
    left, right = (60, 60, 60), (120, 60, 60)
    assert followed(tracks, 0.0, (left, 1), (right, 2)) == [1, 2]
    moved = ((95, 60, 60), 2), ((84, 130, 60), 1)
    tracks.update(0.2, [face(place) for place, _ in moved], scene(*moved))
    assert {track.number: track.face.box[0] for track in tracks.alive if track.seen == 0.2 and track.face.box} == {
        2: 95.0, 3: 84.0,
    }  # fmt: skip


def test_of_faces_that_look_alike_the_nearest_goes_on():
    tracks = Tracks(window=3.0)
    left, right = (60, 60, 60), (90, 60, 60)
    tracks.update(0.0, [face(left), face(right)], scene(seed=1))
    tracks.alive[1].look = tracks.alive[0].look = small_grey(scene(((70, 60, 60), 3)), (70.0, 60.0, 60.0, 60.0))
    tracks.update(0.2, [face((70, 60, 60))], scene(((70, 60, 60), 3), seed=1))
    assert [track.number for track in tracks.alive if track.seen == 0.2] == [1]


def test_a_face_may_change_slowly():
    """As a head that turns: each look is like the last one, and not like the first."""
    tracks = Tracks(window=9.0)
    for step in range(5):
        picture = scene()
        picture[60:120, 60:120] = np.kron(pattern(1) * (1 - step / 4) + pattern(2) * (step / 4), np.ones((10, 10)))[
            ..., None
        ]
        tracks.update(step / 5, [face(HERE)], picture)
    assert [(track.number, len(track.scores)) for track in tracks.alive] == [(1, 5)]


def test_what_shows_next_to_nothing_is_like_nothing():
    picture = np.full((48, 48, 3), 100, np.uint8)
    picture[0, 0] = 103
    assert not small_grey(picture, None).any()


def test_the_whole_picture_is_one_face():
    tracks = Tracks(window=3.0)
    whole = FaceVerdict("live", 0.5)
    for time, seed, number in ((0.0, 1, 1), (0.2, 1, 1), (0.4, 2, 2)):
        tracks.update(time, [whole], scene(seed=seed))
        assert [track.number for track in tracks.alive] == [number]


def test_nearness():
    one = (0.0, 0.0, 10.0, 10.0)
    assert nearness(one, one) == 1.0
    assert nearness(one, (5.0, 0.0, 10.0, 10.0)) == pytest.approx(2 / 3)
    assert nearness(one, (5.1, 0.0, 10.0, 10.0)) > 0  # they overlap by more than 0.3
    assert nearness(one, (8.0, 0.0, 10.0, 10.0)) == 0
    assert nearness((0.0, 0.0, 4.0, 25.0), (4.5, 0.0, 4.0, 25.0)) > 0  # beside each other, by less than half a side
    assert nearness(one, (0.0, 0.0, 14.0, 14.0)) > 0
    assert nearness(one, (0.0, 0.0, 14.2, 14.2)) == 0
    assert nearness(one, (0.0, 0.0, 0.0, 10.0)) == 0
    assert nearness(None, None) == 1.0
    assert nearness(None, one) == nearness(one, None) == 0


def test_likeness_knows_neither_brightness_nor_contrast():
    picture = scene((HERE, 1))
    look = small_grey(picture, (60.0, 60.0, 60.0, 60.0))
    assert look.shape == (24, 24)
    assert alike(look, look) == pytest.approx(1.0, abs=1e-6)
    assert alike(look, small_grey(picture // 2 + 60, (60.0, 60.0, 60.0, 60.0))) == pytest.approx(1.0, abs=1e-3)
    assert alike(look, small_grey(255 - picture, (60.0, 60.0, 60.0, 60.0))) == pytest.approx(-1.0, abs=1e-3)
    black = small_grey(np.zeros_like(picture), None)
    assert (alike(black, black), alike(black, look)) == (1.0, 0.0)


@pytest.mark.parametrize("box", [(-30.0, -30.0, 60.0, 60.0), (300.0, 220.0, 60.0, 60.0), (400.0, 300.0, 60.0, 60.0)])
def test_boxes_may_leave_the_picture(box):
    assert np.isfinite(small_grey(scene(), box)).all()


@pytest.mark.realdata
def test_a_print_in_a_person_s_place_is_noticed_nine_times_in_ten():
    """NUAA: a print of the same person in the same box, the hardest swap; docs/cameras.md states these shares."""
    import cv2

    root = os.environ.get("AGFAS_REALDATA", "")
    if not (Path(root) / "nuaa").is_dir():
        pytest.skip("AGFAS_REALDATA names no folder with nuaa/")

    def looks(kind: str) -> Iterator[tuple[str, list[np.ndarray]]]:
        sessions: dict[str, list[np.ndarray]] = {}
        for path in sorted((Path(root) / "nuaa" / kind).glob("*/*.jpg")):
            person, _, session, *_ = path.stem.split("_")
            sessions.setdefault(f"{person} {session}", []).append(small_grey(cv2.imread(str(path)), None))
        yield from sessions.items()

    live, prints = list(looks("bonafide")), list(looks("attack"))
    going_on = [alike(*pair) for _, shots in live + prints for pair in pairwise(shots)]
    swaps = [
        alike(one[step % len(one)], other[(7 * step) % len(other)])
        for person, one in live
        for again, other in prints
        if person.split()[0] == again.split()[0]
        for step in range(10)
    ]
    noticed, broken = np.mean(np.array(swaps) < LEAST_ALIKE), np.mean(np.array(going_on) < LEAST_ALIKE)
    print(f"{noticed:.3f} of {len(swaps)} swaps noticed, {broken:.3f} of {len(going_on)} steps of one face broken")
    assert noticed > 0.88
    assert broken < 0.14

"""One video to its records or refusals: its frames, missed faces, and who is who."""

from __future__ import annotations

from types import SimpleNamespace

from prepare_stubs import SquareDetector, face_at, save_video, scene
from prepare_worker import process

from pipelines.data.prepare.cutter import Cutter, follow
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Refusal
from pipelines.data.prepare.worker import Worker, neighbours_of
from pipelines.errors import AgfasError


def test_frames_of_a_video(tmp_path):
    path = save_video(tmp_path / "a.mp4", [scene((40, 20, 64), seed=n, size=(96, 128)) for n in range(20)])
    records = process(path, frames=5)
    assert [record["frame"] for record in records] == [0, 1, 2, 3, 4]
    assert [record["source_frame"] for record in records] == [2, 6, 10, 14, 18]
    assert [record["key"] for record in records] == [f"d/s/v/{n:03d}" for n in range(5)]
    assert len(process(path, frames=30)) == 20
    square = save_video(tmp_path / "b.mp4", [scene(seed=n, size=(96, 96)) for n in range(4)])
    assert [
        (record["detector"], record["source_frame"], record["frame"], record["video"], record["picture"])
        for record in process(square, frames=2, aligned=True)
    ] == [("none", 1, 0, "v", None), ("none", 3, 1, "v", None)]


def test_a_missed_face_is_looked_for_in_neighbouring_frames(tmp_path):
    shows = [True] * 20
    for index in (6, 5, 7, 4, 12, 13, 14, 15, 16):
        shows[index] = False
    frames = [scene(*([(40, 20, 64)] if face else []), size=(96, 128)) for face in shows]
    path = save_video(tmp_path / "a.mp4", frames)
    outcomes = process(path, frames=5)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    records = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
    # 6 is missed, as are 5, 7; 4 lies beyond the middle to 2, which is 2's; 8 is the middle to 10.
    assert [record["source_frame"] for record in records] == [2, 8, 10, 18]
    assert [record["frame"] for record in records] == [0, 1, 2, 4]
    assert refusals == [Refusal("a.mp4", 14, "No face was found.", "frames 14, 13, 15, 16")]


def test_neighbours_are_decoded_eight_at_a_time_and_damaged_ones_passed_over(tmp_path):
    """The face is in frame 11; the pieces of 9, 11 and so on come after a damaged one."""
    cutter = Cutter.load(PrepareRecipe(size=64), SquareDetector)
    pieces = []

    def read(piece):
        pieces.append(piece)
        if len(pieces) == 1:
            raise AgfasError("damaged")
        return {index: scene((40, 20, 70)) if index == 11 else scene() for index in piece}

    video = SimpleNamespace(read=read)
    searched = [5]
    candidates = list(range(20))
    index, picture, faces = Worker(cutter, tmp_path, tmp_path)._neighbour(video, candidates, searched)
    assert (index, len(faces), picture.shape) == (11, 1, (160, 160, 3))
    assert pieces == [candidates[:8], candidates[8:16]]
    assert searched == [5, 8, 9, 10, 11]
    assert Worker(cutter, tmp_path, tmp_path)._neighbour(video, [12, 13], searched) is None
    assert searched == [5, 8, 9, 10, 11, 12, 13]


def test_neighbours_are_nearest_first_and_never_shared():
    assert neighbours_of(1, [2, 6, 10], 20) == [5, 7, 8]
    assert neighbours_of(0, [2, 6, 10], 20) == [1, 3, 0, 4]
    assert neighbours_of(2, [2, 6, 10], 12) == [9, 11]
    assert neighbours_of(0, [2], 5) == [1, 3, 0, 4]
    assert neighbours_of(0, [0], 1) == []
    assert neighbours_of(0, [4], 10) == [3, 5, 2, 6, 1, 7, 0, 8, 9]
    assert neighbours_of(1, [2, 7], 20) == [6, 8, 5, 9]
    assert neighbours_of(0, [6, 12], 20) == [5, 7, 4, 8, 3, 9]
    for indices, count in (([2, 6, 10, 14, 18], 20), ([1, 4, 7], 9), ([0, 1, 2], 3), ([3, 10, 17], 21)):
        looked = [place for position in range(len(indices)) for place in neighbours_of(position, indices, count)]
        assert len(set(looked) | set(indices)) == len(looked) + len(indices)


def test_further_persons_of_a_video_keep_their_names(tmp_path):
    """The larger face shrinks below the other: the names follow the places, not the sizes."""
    frames = [scene((10, 20, 60 - 4 * n), (90, 20, 44), size=(96, 144)) for n in range(10)]
    records = process(save_video(tmp_path / "a.mp4", frames), frames=10, all_faces=True)
    assert len(records) == 20
    assert {(record["video"], record["box"][0] < 50) for record in records} == {("v", True), ("v-face1", False)}


def test_somebody_new_gets_a_number_of_their_own():
    left, right = face_at(0, 0, 30, 30), face_at(100, 0, 20, 20)
    frames = [(0, [right]), (1, [left, right]), (3, [left])]
    assert [(position, person) for position, person, _ in follow(frames)] == [(0, 0), (1, 0), (1, 1), (3, 1)]

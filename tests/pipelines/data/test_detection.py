"""YuNet finds what the test has drawn, and where it has drawn it; scales and turns of a picture that are searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_graphs import points_at, tiny_scrfd, tiny_yunet, with_red

from pipelines.data.detection import DetectedFace, load_detector
from pipelines.data.detection.scales import SearchScales, enlarge, search_scales, shrink
from pipelines.data.detection.turns import find_turned, look_again
from pipelines.errors import AgfasError


@pytest.fixture(scope="module")
def yunet_file(tmp_path_factory) -> Path:
    return tiny_yunet(tmp_path_factory.mktemp("yunet") / "tiny.onnx")


def test_yunet_finds_a_face_where_it_is(yunet_file):
    faces = load_detector("yunet", yunet_file, sure=0)(with_red(96, 160, (64, 40, 8)))
    assert len(faces) == 1
    np.testing.assert_allclose(faces[0].box, [68 - 16, 44 - 16, 32, 32], atol=1e-3)
    np.testing.assert_allclose(faces[0].landmarks, points_at(68, 44), atol=1e-3)
    assert faces[0].score == pytest.approx(1.0, abs=1e-4)


def test_yunet_is_given_blue_green_red(yunet_file):
    picture = with_red(96, 96, (40, 40, 8))
    detector = load_detector("yunet", yunet_file, sure=0)
    assert len(detector(picture)) == 1
    assert detector(np.ascontiguousarray(picture[:, :, ::-1])) == []


def test_a_large_picture_is_searched_small_and_mapped_back(yunet_file):
    picture = with_red(960, 1280, (512, 320, 16))  # half as large in the copy: one cell at (256, 160)
    faces = load_detector("yunet", yunet_file, sure=0)(picture)
    assert len(faces) == 1
    np.testing.assert_allclose(faces[0].box, [520 - 32, 328 - 32, 64, 64], atol=0.01)
    np.testing.assert_allclose(faces[0].landmarks, points_at(520, 328, enlarged=2), atol=0.01)


def test_a_face_too_small_for_the_copy_is_found_at_full_size(yunet_file):
    picture = with_red(960, 1280, (512, 320, 8))  # a quarter of a cell's light in the copy: below the threshold
    faces = load_detector("yunet", yunet_file, sure=0)(picture)
    np.testing.assert_allclose(faces[0].box, [516 - 16, 324 - 16, 32, 32], atol=0.01)
    assert load_detector("yunet", yunet_file, sure=0, largest_side=640)(picture) == []


def test_the_threshold_decides(yunet_file):
    picture = with_red(96, 96, (40, 40, 8))
    picture[picture == 255] = 150  # a score of 150 / 255 = 0.588
    assert load_detector("yunet", yunet_file, sure=0)(picture) == []
    (face,) = load_detector("yunet", yunet_file, sure=0, score_threshold=0.5)(picture)
    assert face.score == pytest.approx(150 / 255, abs=1e-3)


def test_pictures_of_any_size_and_no_face(yunet_file):
    detector = load_detector("yunet", yunet_file)
    for shape in ((1, 1), (3, 200), (33, 31), (700, 20)):
        assert detector(np.zeros((*shape, 3), np.uint8)) == []
    with pytest.raises(ValueError, match="uint8"):
        detector(np.zeros((8, 8, 3), np.float32))


def test_an_unknown_option_is_answered_with_the_known_ones(yunet_file):
    with pytest.raises(AgfasError) as refusal:
        load_detector("yunet", yunet_file, largest=3)
    assert str(refusal.value) == (
        "The face detector 'yunet' has no option 'largest': did you mean 'largest_side'? Allowed: largest_side,"
        " longer_side, nms_threshold, score_threshold, small_face, sure."
    )


def test_the_fingerprint_tells_all_that_decides(yunet_file, tmp_path):
    prints = [load_detector("yunet", yunet_file).fingerprint(), load_detector("yunet", yunet_file).fingerprint()]
    assert prints[0] == prints[1]
    options = ("score_threshold", 0.5), ("nms_threshold", 0.5), ("longer_side", 320), ("largest_side", 999)
    for option, value in (*options, ("small_face", 9), ("sure", 0.5)):
        assert load_detector("yunet", yunet_file, **{option: value}).fingerprint() != prints[0]
    assert load_detector("yunet", tiny_yunet(tmp_path / "b.onnx", width=24)).fingerprint() != prints[0]


def test_mistakes_are_explained(yunet_file, tmp_path):
    (tmp_path / "junk.onnx").write_bytes(b"not a graph" * 20)
    other = tiny_scrfd(tmp_path / "other.onnx", (64, 64))
    for weights, message in (
        (None, "needs its weight file"),
        (tmp_path / "absent.onnx", "No weight file"),
        (tmp_path / "junk.onnx", "is not a YuNet model"),
        (other, "is not a YuNet model"),
    ):
        with pytest.raises(AgfasError, match=message):
            load_detector("yunet", weights)
    with pytest.raises(AgfasError, match="did you mean 'yunet'"):
        load_detector("yunett")
    with pytest.raises(AgfasError, match="did you mean 'longer_side'"):
        load_detector("yunet", yunet_file, long_side=3)
    with pytest.raises(AgfasError, match="from 0 to 1; got 2"):
        load_detector("yunet", yunet_file, score_threshold=2)
    with pytest.raises(AgfasError, match="longer_side=4000"):
        load_detector("yunet", yunet_file, longer_side=4000, largest_side=640)


def face(left: float, width: float, score: float = 0.9) -> DetectedFace:
    box = np.array([left, 0, width, width], np.float32)
    return DetectedFace(box, np.zeros((5, 2), np.float32) + left, score)


@pytest.mark.parametrize(
    ("own", "sides"), [(200, [200]), (640, [640]), (641, [640, 641]), (4000, [640, 1280, 2560, 4000])]
)
def test_sides_that_are_searched(own, sides):
    seen = []
    picture = np.zeros((own // 4, own, 3), np.uint8)
    search_scales(picture, lambda copy: seen.append(copy.shape[1]) or [], SearchScales())
    assert seen == sides


def test_search_ends_at_a_face_that_is_large_enough():
    seen = []

    def search(copy):
        seen.append(copy.shape[1])
        return [face(10, 20 if copy.shape[1] == 640 else 40), face(100, 90 if copy.shape[1] > 640 else 0)]

    found = search_scales(np.zeros((500, 2560, 3), np.uint8), search, SearchScales())
    assert seen == [640, 1280]
    assert [round(float(one.box[2])) for one in found] == [180, 80]  # twice as large in the picture, the largest first


def test_a_larger_copy_that_loses_the_face_is_not_believed():
    def search(copy):
        return [face(10, 30)] if copy.shape[1] == 640 else [face(500, 6)]

    (found,) = search_scales(np.zeros((500, 1280, 3), np.uint8), search, SearchScales())
    assert float(found.box[2]) == 60


def test_faces_without_place_or_area_are_left_out():
    broken = DetectedFace(np.array([0, 0, 5, 5], np.float32), np.full((5, 2), np.nan, np.float32), 0.9)
    found = search_scales(
        np.zeros((50, 50, 3), np.uint8), lambda copy: [broken, face(1, 0), face(2, 5)], SearchScales()
    )
    assert [float(one.box[0]) for one in found] == [2]


def test_shrinking_counts_every_pixel():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(shrink(stripes, 16)).tolist() == [100]
    assert shrink(stripes, 100) is stripes


# A head as coloured spots: left eye red, right eye green, mouth blue. Landmarks follow from the three.
SPOTS = np.array([[-20, -15], [20, -15], [0, 25]], float)


def draw_head(angle: float, centre: tuple[int, int] = (150, 120)) -> tuple[np.ndarray, np.ndarray]:
    """A picture with the head turned clockwise by `angle` degrees, and its spots in pixels."""
    turn = np.radians(angle)
    spots = SPOTS @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + centre
    picture = np.zeros((240, 300, 3), np.uint8)
    for channel, (x, y) in enumerate(spots.round().astype(int)):
        picture[y - 4 : y + 5, x - 4 : x + 5, channel] = 255
    return picture, spots


def find_head(copy: np.ndarray) -> list[DetectedFace]:
    """Sure of an upright head and of where its spots are; of another, unsure, and wrong about them."""
    if any((copy[:, :, channel] > 127).sum() < 30 for channel in range(3)):
        return []
    spots = np.array([np.argwhere(copy[:, :, channel] > 127).mean(axis=0)[::-1] for channel in range(3)])
    centre, eyes = spots.mean(axis=0), spots[1] - spots[0]
    off = abs(np.degrees(np.arctan2(eyes[1], eyes[0])))
    if off > 23:
        spots = SPOTS + centre
    box = np.array([*(centre - 35), 70, 70], np.float32)
    landmarks = np.array([spots[0], spots[1], centre, spots[2], spots[2]], np.float32)
    return [DetectedFace(box, landmarks, 0.95 - 0.3 * off / 180)]


@pytest.mark.parametrize("angle", [0, 45, 90, 135, 180, 225, 270, 315])
def test_a_face_on_its_side_is_looked_at_again(angle):
    picture, spots = draw_head(angle)
    first = find_head(picture)
    (found,) = look_again(picture, first, find_head, sure=0.93)
    np.testing.assert_allclose(found.landmarks[[0, 1, 3]], spots, atol=1.5)
    assert np.abs(found.box[:2] + found.box[2:] / 2 - spots.mean(axis=0)).max() < 2
    assert look_again(picture, first, find_head, sure=0.0) == first


def test_a_large_face_is_looked_at_small_and_mapped_back():
    picture, spots = draw_head(180)
    large = np.repeat(np.repeat(picture, 5, axis=0), 5, axis=1)
    (found,) = look_again(large, [enlarge(one, (5, 5)) for one in find_head(picture)], find_head_small, sure=0.93)
    np.testing.assert_allclose(found.landmarks[[0, 1, 3]], spots * 5 + 2, atol=8)


def find_head_small(copy: np.ndarray) -> list[DetectedFace]:
    assert max(copy.shape[:2]) <= 257
    return find_head(copy)


def test_a_picture_without_a_face_is_searched_in_its_quarter_turns():
    picture, spots = draw_head(90, centre=(200, 100))
    (found,) = find_turned(picture, lambda copy: [one for one in find_head(copy) if one.score > 0.9])
    np.testing.assert_allclose(found.landmarks[[0, 1, 3]], spots, atol=1)

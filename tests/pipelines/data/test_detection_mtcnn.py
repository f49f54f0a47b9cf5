"""MTCNN against the slow computation of each of its stages, by loops over places and boxes, with random weights."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.data.detection import load_detector
from pipelines.data.detection import mtcnn as module
from pipelines.data.detection.mtcnn import candidates, cut, moved, placed, pyramid, square, suppress
from pipelines.data.detection.mtcnn_networks import LAYOUTS, StageNet
from pipelines.errors import AgfasError

State = dict[str, np.ndarray]
REALDATA = os.environ.get("AGFAS_REALDATA")


def write_weights(folder: Path, seed: int = 3) -> dict[str, State]:
    """The three files with random tensors, of sizes that keep the values of each layer alike."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = torch.Generator().manual_seed(seed)
    states = {}
    for name, layout in LAYOUTS.items():
        state = StageNet(layout).state_dict()
        for key, tensor in state.items():
            if key.startswith("prelu"):
                state[key] = torch.full_like(tensor, 0.25)
            elif key.endswith("weight"):
                spread = math.sqrt(2 / tensor[0].numel()) * (0.1 if key.endswith("_2.weight") else 1)
                state[key] = torch.randn(tensor.shape, generator=draws) * spread
            else:
                state[key] = torch.randn(tensor.shape, generator=draws) * 0.05
        torch.save(state, folder / f"{name}.pt")
        states[name] = {key: tensor.numpy().astype(np.float64) for key, tensor in state.items()}
    return states


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, dict[str, State]]:
    folder = tmp_path_factory.mktemp("mtcnn")
    return folder, write_weights(folder)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# The slow computation, in float64


def slow_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    side = weight.shape[2]
    height, width = x.shape[1] - side + 1, x.shape[2] - side + 1
    out = np.zeros((len(weight), height, width))
    for down in range(side):
        for across in range(side):
            seen = x[:, down : down + height, across : across + width]
            out += np.tensordot(weight[:, :, down, across], seen, axes=1)
    return out + bias[:, None, None]


def slow_prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, x * slope.reshape(-1, *[1] * (x.ndim - 1)))


def slow_pool(x: np.ndarray, side: int) -> np.ndarray:
    """Maximum of squares every 2 pixels; the last ones may hang over the edge, but start inside."""
    rows, columns = (math.ceil((length - side) / 2) + 1 for length in x.shape[1:])
    out = np.zeros((len(x), rows, columns))
    for row in range(rows):
        for column in range(columns):
            out[:, row, column] = x[:, 2 * row : 2 * row + side, 2 * column : 2 * column + side].max(axis=(1, 2))
    return out


def slow_network(name: str, state: State, x: np.ndarray) -> list[np.ndarray]:
    """(3, H, W) to the two classes' softmax of a face and the other outputs."""
    pools = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}[name]
    for number, pool in enumerate(pools, start=1):
        x = slow_convolution(x, state[f"conv{number}.weight"], state[f"conv{number}.bias"])
        x = slow_prelu(x, state[f"prelu{number}.weight"])
        x = slow_pool(x, pool) if pool else x
    if name == "pnet":
        outputs = [slow_convolution(x, state[f"{o}.weight"], state[f"{o}.bias"]) for o in ("conv4_1", "conv4_2")]
    else:
        first = {"rnet": 4, "onet": 5}[name]
        # Caffe's order, in which the weights were trained: x, then y, then channel.
        flat = np.array([x[c, y, w] for w in range(3) for y in range(3) for c in range(len(x))])
        hidden = state[f"dense{first}.weight"] @ flat + state[f"dense{first}.bias"]
        hidden = slow_prelu(hidden, state[f"prelu{first}.weight"])
        names = [f"dense{first + 1}_{place}" for place in range(1, 4) if f"dense{first + 1}_{place}.bias" in state]
        outputs = [state[f"{o}.weight"] @ hidden + state[f"{o}.bias"] for o in names]
    classes = np.exp(outputs[0] - outputs[0].max(axis=0))
    return [(classes / classes.sum(axis=0))[1], *outputs[1:]]


def slow_resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) to (3, height, width): each new pixel is the mean of all old ones that it touches."""
    out = np.zeros((3, height, width))
    for row in range(height):
        top, bottom = row * picture.shape[0] // height, -(-(row + 1) * picture.shape[0] // height)
        for column in range(width):
            left, right = column * picture.shape[1] // width, -(-(column + 1) * picture.shape[1] // width)
            out[:, row, column] = picture[top:bottom, left:right].astype(np.float64).mean(axis=(0, 1))
    return (out - 127.5) * 0.0078125


def slow_overlap(one: np.ndarray, other: np.ndarray, end: int) -> tuple[float, float, float]:
    """Common area and both areas."""
    sides = [max(0.0, min(one[2 + a], other[2 + a]) - max(one[a], other[a]) + end) for a in (0, 1)]
    areas = [(box[2] - box[0] + end) * (box[3] - box[1] + end) for box in (one, other)]
    return sides[0] * sides[1], areas[0], areas[1]


def slow_suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, of_smaller: bool = False) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda n: -scores[n]):
        for better in kept:
            both, first, second = slow_overlap(boxes[better], boxes[place], int(of_smaller))
            whole = min(first, second) if of_smaller else first + second - both
            if both / whole > threshold:
                break
        else:
            kept.append(place)
    return kept


def slow_square(box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    left, top = (left + right) / 2 - side / 2, (top + bottom) / 2 - side / 2
    return np.array([left, top, left + side, top + side])


def slow_moved(box: np.ndarray, offsets: np.ndarray, end: int) -> np.ndarray:
    width, height = box[2] - box[0] + end, box[3] - box[1] + end
    return box + offsets * (width, height, width, height)


def slow_cut(picture: np.ndarray, box: np.ndarray, side: int, edges: str) -> np.ndarray | None:
    """The box's pixels, counted from 1 to its end."""
    left, top, right, bottom = (int(value) for value in box)
    if min(right, picture.shape[1]) < max(left, 1) or min(bottom, picture.shape[0]) < max(top, 1):
        return None
    if edges == "pad":
        whole = np.zeros((bottom - top + 1, right - left + 1, 3))
        for row in range(max(top, 1), min(bottom, picture.shape[0]) + 1):
            for column in range(max(left, 1), min(right, picture.shape[1]) + 1):
                whole[row - top, column - left] = picture[row - 1, column - 1]
        return slow_resize(whole, side, side)
    left, top, right, bottom = max(left, 1), max(top, 1), min(right, picture.shape[1]), min(bottom, picture.shape[0])
    return slow_resize(picture[top - 1 : bottom, left - 1 : right], side, side)


def slow_faces(picture: np.ndarray, states: dict[str, State], least: tuple, size: int, edges: str) -> list:
    """(box, score, landmarks) of every face, box as left, top, right, bottom."""
    height, width = picture.shape[:2]
    boxes, scores, offsets = [], [], []
    scale = 12 / size
    while min(height, width) * scale >= 12:
        copy = slow_resize(picture, int(height * scale + 1), int(width * scale + 1))
        score, offset = slow_network("pnet", states["pnet"], copy)
        rows, columns = (part.tolist() for part in np.nonzero(score >= least[0]))
        places = list(zip(rows, columns, strict=True))
        corners = [[math.floor((2 * n + m) / scale) for m in (1, 12) for n in (c, r)] for r, c in places]
        here = np.array(corners, dtype=float).reshape(-1, 4)
        found = np.array([score[place] for place in places])
        for n in slow_suppress(here, found, 0.5):
            boxes.append(here[n])
            scores.append(found[n])
            offsets.append(offset[:, places[n][0], places[n][1]])
        scale *= 0.709
    kept = slow_suppress(np.array(boxes), np.array(scores), 0.7)
    squares = [slow_square(slow_moved(boxes[n], offsets[n], 0)) for n in kept]
    for name, side, threshold in (("rnet", 24, least[1]), ("onet", 48, least[2])):
        looked = [(box, slow_network(name, states[name], part)) for box in squares
                  if (part := slow_cut(picture, box, side, edges)) is not None]  # fmt: skip
        passed = [(box, outputs) for box, outputs in looked if outputs[0] > threshold]
        if name == "rnet":
            kept = slow_suppress(np.array([b for b, _ in passed]), np.array([o[0] for _, o in passed]), 0.7)
            squares = [slow_square(slow_moved(passed[n][0], passed[n][1][1], 1)) for n in kept]
    faces = []
    for box, (score, offset, points) in passed:
        sides = box[2] - box[0] + 1, box[3] - box[1] + 1
        marks = [[points[n] * sides[0] + box[0] - 1, points[5 + n] * sides[1] + box[1] - 1] for n in range(5)]
        faces.append((slow_moved(box, offset, 1), score, np.array(marks)))
    kept = slow_suppress(np.array([face[0] for face in faces]), np.array([face[1] for face in faces]), 0.7, True)
    return [faces[n] for n in kept]


# Each stage


@pytest.mark.parametrize(("name", "shape"), [("pnet", (15, 22)), ("rnet", (24, 24)), ("onet", (48, 48))])
def test_a_network_computes_what_the_loops_compute(weights, name, shape):
    folder, states = weights
    network = module._load(folder / f"{name}.pt", name)
    x = np.random.default_rng(1).uniform(-1, 1, (3, *shape))
    outputs = network(torch.from_numpy(x)[None].float())
    wanted = slow_network(name, states[name], x)
    assert len(outputs) == len(wanted)
    for found, right in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(found[0].numpy(), right, rtol=1e-4, atol=1e-5)


def test_the_pyramid_ends_where_the_picture_is_smaller_than_a_window():
    # 40 * 12/20 = 24; 24 * .709 = 17.0; 12.06; 8.6 is below 12.
    np.testing.assert_allclose(pyramid(40, 20, 0.709), [0.6, 0.6 * 0.709, 0.6 * 0.709**2])
    assert pyramid(19, 20, 0.709) == []
    assert pyramid(20, 20, 0.5) == [0.6]


def test_windows_in_pixels_of_the_picture():
    scores = np.array([[0.1, 0.6, 0.2], [0.3, 0.59, 0.9]], np.float32)
    offsets = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    rows = candidates(scores, offsets, 0.6, 0.6)
    # The window (row 0, column 1): x from (2 + 1) / .6 = 5 to (2 + 12) / .6 = 23.3; y from 1 / .6 to 12 / .6 = 20.
    np.testing.assert_allclose(rows[:, :4], [[5, 1, 23, 20], [8, 5, 26, 23]])
    np.testing.assert_allclose(rows[:, 4], [0.6, 0.9], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 5:], [[1, 7, 13, 19], [5, 11, 17, 23]])


def test_overlapping_boxes_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 24, 24], [20, 20, 40, 40]], np.float32)
    scores = np.array([0.9, 0.8, 0.95, 0.7], np.float32)
    # Union: 80/100; 16/400. Of the smaller: 99/99 and 25/25, both ends counted.
    assert suppress(boxes, scores, 0.79).tolist() == [2, 0, 3]
    assert suppress(boxes, scores, 0.81).tolist() == [2, 0, 1, 3]
    assert suppress(boxes, scores, 0.7, of_smaller=True).tolist() == [2, 0]
    equal = np.full(2, 1, np.float32)
    assert suppress(boxes[:2], equal, 0.7).tolist() == [0]
    assert suppress(boxes[:2], equal, 0.7, of_smaller=True).tolist() == [1]
    assert suppress(boxes[:0], scores[:0], 0.5).shape == (0,)


@pytest.mark.parametrize("of_smaller", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_overlapping_boxes_by_loops(threshold, of_smaller):
    draws = np.random.default_rng(2)
    corners = draws.uniform(0, 30, (60, 2))
    boxes = np.concatenate([corners, corners + draws.uniform(5, 25, (60, 2))], axis=1).astype(np.float32)
    scores = draws.permutation(60).astype(np.float32) / 60
    wanted = slow_suppress(boxes, scores, threshold, of_smaller)
    assert suppress(boxes, scores, threshold, of_smaller).tolist() == wanted
    assert 2 <= len(wanted) < 60


def test_boxes_are_moved_and_made_square_by_hand():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    offsets = np.array([[0.1, -0.1, 0.2, 0.5]], np.float32)
    np.testing.assert_allclose(moved(boxes, offsets, 0), [[12, 16, 34, 80]], rtol=1e-6)
    np.testing.assert_allclose(moved(boxes, offsets, 1), [[12.1, 15.9, 34.2, 80.5]], rtol=1e-6)
    np.testing.assert_allclose(square(boxes), [[0, 20, 40, 60]])
    np.testing.assert_allclose(square(np.array([[0, 0, 9, 4]], np.float32)), [[0, -2.5, 9, 6.5]])


@pytest.mark.parametrize("edges", ["pad", "stretch"])
def test_squares_at_the_edge(edges):
    picture = noise(20, 30)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    boxes = np.array(
        [[3.9, 2.2, 13.9, 12.2], [-4, -6, 8, 6], [25, 15, 40, 30], [-20, 0, -5, 9], [31, 1, 40, 9]], np.float32
    )
    parts, kept = cut(pixels, boxes, 4, edges)
    assert kept.tolist() == boxes[:3].tolist()
    for part, box in zip(parts, boxes, strict=False):
        wanted = slow_cut(picture, box, 4, edges)
        np.testing.assert_allclose((part.numpy() - 127.5) * 0.0078125, wanted, rtol=1e-5, atol=1e-5)
    # The first box: columns 3 to 13, counted from 1.
    np.testing.assert_allclose(parts[0, :, 0, 0], picture[1:4, 2:5].mean(axis=(0, 1)), rtol=1e-6)
    assert [len(part) for part in cut(pixels, boxes[3:], 4, edges)] == [0, 0]


def test_landmarks_by_hand():
    points = np.array([[0, 0.25, 0.5, 0.75, 1, 0, 0.1, 0.2, 0.3, 0.4]], np.float32)
    (found,) = placed(points, np.array([[11, 21, 30, 60]], np.float32))  # 20 wide, 40 high
    np.testing.assert_allclose(found, [[10, 20], [15, 24], [20, 28], [25, 32], [30, 36]], rtol=1e-6)


# The whole


@pytest.mark.parametrize("edges", ["pad", "stretch"])
def test_it_finds_what_the_slow_cascade_finds(weights, edges):
    folder, states = weights
    picture = noise(40, 52, seed=3)
    least = (0.5, 0.3, 0.5)
    names = ("pnet_threshold", "rnet_threshold", "onet_threshold")
    thresholds = dict(zip(names, least, strict=True))
    detector = load_detector("mtcnn", folder, min_face_size=24, edges=edges, **thresholds)
    wanted = [face for face in slow_faces(picture, states, least, 24, edges) if (face[0][2:] > face[0][:2]).all()]
    real = sorted(wanted, key=lambda face: -(face[0][2] - face[0][0]) * (face[0][3] - face[0][1]))
    found = detector(picture)
    assert len(found) == len(real) >= 2
    for face, (box, score, landmarks) in zip(found, real, strict=True):
        np.testing.assert_allclose(face.box, [*box[:2], *(box[2:] - box[:2])], rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(face.landmarks, landmarks, rtol=1e-3, atol=1e-2)
        assert face.score == pytest.approx(score, abs=1e-4)


def test_pictures_without_a_face(weights):
    detector = load_detector("mtcnn", weights[0], onet_threshold=1.0)
    assert detector(noise(40, 40)) == []
    assert load_detector("mtcnn", weights[0], pnet_threshold=1.0)(noise(40, 40)) == []
    for height, width in ((1, 1), (19, 500), (3, 200)):
        assert detector(noise(height, width)) == []


def test_a_larger_picture_is_searched_small_and_mapped_back(weights):
    options = {"min_face_size": 24, "pnet_threshold": 0.5, "rnet_threshold": 0.3, "onet_threshold": 0.5}
    picture = noise(40, 52, seed=3)
    large = picture.repeat(2, axis=0).repeat(2, axis=1)
    small = load_detector("mtcnn", weights[0], **options)(picture)
    found = load_detector("mtcnn", weights[0], largest_side=52, **options)(large)
    assert len(found) == len(small)
    np.testing.assert_allclose(found[0].landmarks, small[0].landmarks * 2, rtol=1e-3, atol=1e-2)


def test_the_fingerprint_tells_all_that_decides(weights, tmp_path):
    write_weights(tmp_path, seed=1)
    options = (
        {},
        {"edges": "stretch"},
        {"min_face_size": 40},
        {"factor": 0.5},
        {"pnet_threshold": 0.5},
        {"largest_side": 1000},
    )
    prints = [load_detector("mtcnn", weights[0], **option).fingerprint() for option in options]
    prints.append(load_detector("mtcnn", tmp_path).fingerprint())
    assert len({str(sorted(one.items())) for one in prints}) == len(prints)
    assert load_detector("mtcnn", weights[0]).fingerprint() == prints[0]


def test_weights_are_found_in_an_installed_package_that_never_runs(weights, tmp_path, monkeypatch):
    package = tmp_path / "facenet_pytorch"
    write_weights(package / "data")
    (package / "__init__.py").write_text("raise RuntimeError('its code ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    same = load_detector("mtcnn", weights[0]).fingerprint()
    assert load_detector("mtcnn").fingerprint() == same
    for place in (tmp_path, package, package / "data"):
        assert load_detector("mtcnn", place).fingerprint() == same


def test_mistakes_are_explained(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(AgfasError, match=r"needs its weights.*pip install --no-deps facenet-pytorch==2\.6\.0"):
        load_detector("mtcnn")
    with pytest.raises(AgfasError, match=r"No weights of the face detector 'mtcnn' in .*onet\.pt"):
        load_detector("mtcnn", tmp_path)
    write_weights(tmp_path)
    (tmp_path / "rnet.pt").write_bytes((tmp_path / "pnet.pt").read_bytes())
    with pytest.raises(AgfasError, match=r"rnet\.pt does not fit StageNet: it lacks"):
        load_detector("mtcnn", tmp_path)
    (tmp_path / "rnet.pt").write_bytes(b"rubbish")
    with pytest.raises(AgfasError, match="weights of MTCNN cannot be loaded"):
        load_detector("mtcnn", tmp_path)
    for options in ({"min_face_size": 11}, {"factor": 1.0}, {"factor": 0.0}):
        with pytest.raises(AgfasError, match="min_face_size of at least 12 and factor between 0 and 1"):
            load_detector("mtcnn", weights[0], **options)
    with pytest.raises(AgfasError, match="must be pad or stretch; got cut"):
        load_detector("mtcnn", weights[0], edges="cut")
    with pytest.raises(AgfasError, match="rnet_threshold must be from 0 to 1"):
        load_detector("mtcnn", weights[0], rnet_threshold=2)


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")
@pytest.mark.parametrize("pattern", ["live/utkface/*.jpg", "nuaa/*/*/*.jpg"])
def test_its_landmarks_are_those_that_yunet_finds(pattern):
    from pipelines.data.images import read_picture

    try:
        mtcnn = load_detector("mtcnn")
    except AgfasError:
        pytest.skip("facenet-pytorch, whose wheel carries the weights, is not installed")
    yunet = load_detector("yunet", Path(str(REALDATA)).parent / "weights" / "yunet.onnx")
    paths = sorted(Path(str(REALDATA)).glob(pattern))
    near = 0
    for path in paths[:: len(paths) // 20][:20]:
        picture = np.asarray(read_picture(path))
        one, other = mtcnn(picture), yunet(picture)
        if one and other:
            eyes = np.linalg.norm(other[0].landmarks[1] - other[0].landmarks[0])
            near += np.abs(one[0].landmarks - other[0].landmarks).mean() < 0.1 * eyes
    assert near >= 17

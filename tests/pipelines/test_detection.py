"""Face detectors: small real graphs and weights that find what the test has drawn, and where it has drawn it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipelines.data.detection import DETECTORS, DetectedFace, load_detector
from pipelines.data.detection.scales import SearchScales, enlarge, search_scales, shrink
from pipelines.data.detection.turns import find_turned, look_again
from pipelines.errors import AgfasError

REALDATA = os.environ.get("AGFAS_REALDATA")
needs_realdata = pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")
# Of the drawn faces, in pixels from the middle of the cell that shows one: eyes, nose, corners of the mouth.
OFFSETS = np.array([[-8, -8], [8, -8], [0, 0], [-6, 8], [6, 8]], np.float32)
RED = (255, 0, 0)


# --- graphs whose faces are red cells of 8 x 8 pixels -----------------------------------------------------------------


class Graph:
    """Collects the nodes of a small ONNX graph over the input `input` (1, 3, H, W)."""

    def __init__(self, spatial: tuple[object, object]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.spatial = spatial

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def cells(self, stride: int) -> str:
        name = f"cells_{stride}"
        node = helper.make_node("AveragePool", ["input"], [name], kernel_shape=[stride] * 2, strides=[stride] * 2)
        self.nodes.append(node)
        return name

    def head(self, name: str, cells: str, weight: np.ndarray, bias: np.ndarray, shape: list[int], clip: bool) -> None:
        """A 1 x 1 convolution, its channels last, reshaped; between 0 and 1 where `clip`."""
        kernel = self.constant(f"{name}_w", weight.astype(np.float32)[:, :, None, None])
        offset = self.constant(f"{name}_b", bias.astype(np.float32))
        self.nodes.append(helper.make_node("Conv", [cells, kernel, offset], [f"{name}_conv"]))
        last = f"{name}_conv"
        if clip:
            low, high = (self.constant(f"{name}_{end}", np.array(end, np.float32)) for end in (0, 1))
            self.nodes.append(helper.make_node("Clip", [last, low, high], [f"{name}_clip"]))
            last = f"{name}_clip"
        self.nodes.append(helper.make_node("Transpose", [last], [f"{name}_last"], perm=[0, 2, 3, 1]))
        size = self.constant(f"{name}_shape", np.array(shape, np.int64))
        self.nodes.append(helper.make_node("Reshape", [f"{name}_last", size], [name]))
        dimensions = [f"n_{name}" if side == -1 else side for side in shape]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions))

    def save(self, path: Path) -> Path:
        entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *self.spatial])
        graph = helper.make_graph(self.nodes, "tiny", [entry], self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def tiny_yunet(path: Path, width: float = 32.0) -> Path:
    """A YuNet whose faces are red cells: boxes of `width` around them, landmarks at `OFFSETS`."""
    graph = Graph(("height", "width"))
    zero = np.zeros((1, 3))
    red = np.array([[0, 0, 1 / 255]])  # blue, green, red
    for kind in ("cls", "obj"):
        for stride in (8, 16, 32):
            weight = red if stride == 8 else zero
            graph.head(f"{kind}_{stride}", graph_cells(graph, stride), weight, np.zeros(1), [1, -1, 1], clip=True)
    box = np.array([0.5, 0.5, np.log(width / 8), np.log(width / 8)])
    for stride in (8, 16, 32):
        graph.head(f"bbox_{stride}", graph_cells(graph, stride), np.zeros((4, 3)), box, [1, -1, 4], clip=False)
    for stride in (8, 16, 32):
        points = (0.5 + OFFSETS / 8).ravel()
        graph.head(f"kps_{stride}", graph_cells(graph, stride), np.zeros((10, 3)), points, [1, -1, 10], clip=False)
    return graph.save(path)


def graph_cells(graph: Graph, stride: int) -> str:
    name = f"cells_{stride}"
    return name if any(name in node.output for node in graph.nodes) else graph.cells(stride)


def tiny_scrfd(path: Path, spatial: tuple[object, object], landmarks: bool = True) -> Path:
    """An SCRFD whose faces are red cells: boxes of 32 from their corner -12, landmarks at `OFFSETS`."""
    graph = Graph(spatial)
    red = np.array([[0.5, 0, 0]] * 2)  # red, green, blue in [-1, 1], for the two anchors of a cell
    for stride in (8, 16, 32):
        weight, bias = (red, np.full(2, 0.5)) if stride == 8 else (np.zeros((2, 3)), np.zeros(2))
        graph.head(f"score_{stride}", graph.cells(stride), weight, bias, [-1, 1], clip=True)
    for stride in (8, 16, 32):  # distances from the cell's corner to the four sides, in strides
        bias = np.array([12, 12, 20, 20] * 2) / 8
        graph.head(f"box_{stride}", f"cells_{stride}", np.zeros((8, 3)), bias, [-1, 4], clip=False)
    for stride in (8, 16, 32) if landmarks else ():
        bias = np.tile((4 + OFFSETS).ravel() / 8, 2)
        graph.head(f"points_{stride}", f"cells_{stride}", np.zeros((20, 3)), bias, [-1, 10], clip=False)
    return graph.save(path)


def with_red(height: int, width: int, *cells: tuple[int, int, int]) -> np.ndarray:
    """A black picture with red squares (left, top, side)."""
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, side in cells:
        picture[top : top + side, left : left + side] = RED
    return picture


def points_at(x: float, y: float, enlarged: float = 1) -> np.ndarray:
    """The landmarks of a face whose cell has its middle at x, y."""
    return enlarged * OFFSETS + np.array([x, y])


# --- YuNet ------------------------------------------------------------------------------------------------------------


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


# --- scales -----------------------------------------------------------------------------------------------------------


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


# --- turns ------------------------------------------------------------------------------------------------------------

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


# --- insightface ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(64, 64), ("height", "width")], ids=["fixed", "free"])
def test_insightface_detector_by_folder(tmp_path, spatial):
    tiny_scrfd(tmp_path / "det.onnx", spatial)
    detector = load_detector("insightface", tmp_path, longer_side=64, largest_side=256)
    (found,) = detector(with_red(64, 64, (24, 32, 8)))
    np.testing.assert_allclose(found.box, [12, 20, 32, 32], atol=1e-3)
    np.testing.assert_allclose(found.landmarks, points_at(28, 36), atol=1e-3)
    (large,) = detector(with_red(96, 128, (48, 64, 16)))
    np.testing.assert_allclose(large.landmarks, points_at(56, 72, enlarged=2), atol=0.01)
    assert detector(np.zeros((64, 64, 3), np.uint8)) == []
    assert detector.fingerprint()["fixed_side"] == (64 if spatial == (64, 64) else None)


def test_insightface_archives_with_an_inner_folder(tmp_path):
    (tmp_path / "pack" / "pack").mkdir(parents=True)
    tiny_scrfd(tmp_path / "pack" / "pack" / "det.onnx", (64, 64))
    assert len(load_detector("insightface", tmp_path / "pack")(with_red(64, 64, (24, 32, 8)))) == 1


def test_insightface_mistakes_are_explained(tmp_path, monkeypatch):
    for name in ("empty", "junk", "blind", "no_detector"):
        (tmp_path / name).mkdir()
    (tmp_path / "junk" / "a.onnx").write_bytes(b"nothing")
    tiny_scrfd(tmp_path / "blind" / "a.onnx", (64, 64), landmarks=False)
    graph = Graph((112, 112))
    graph.head("embedding", graph.cells(112), np.ones((4, 3)), np.zeros(4), [1, 4], clip=False)
    graph.save(tmp_path / "no_detector" / "a.onnx")
    for name, message in (
        ("absent", "No insightface pack"),
        ("empty", "no ONNX file"),
        ("junk", "cannot be opened"),
        ("blind", "gives no landmarks"),
        ("no_detector", "holds no face detector"),
    ):
        with pytest.raises(AgfasError, match=message):
            load_detector("insightface", tmp_path / name)
    with pytest.raises(AgfasError, match="did you mean 'buffalo_l'"):
        load_detector("insightface", pack="bufalo_l")
    with pytest.raises(AgfasError, match="multiple of 32"):
        load_detector("insightface", tmp_path, longer_side=600)

    def refuse(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("requests.get", refuse)
    with pytest.raises(AgfasError, match=r"cannot be downloaded \(no route to host\).*name the folder"):
        load_detector("insightface", root=tmp_path / "home")


# --- RetinaFace -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retinaface_file(tmp_path_factory) -> Path:
    """A RetinaFace of facexlib's with random weights, saved as parallel training saves."""
    import torch
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("retinaface") / "mobile.pth"
    state = RetinaFace("mobile0.25", device="cpu").state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    return path


def test_retinaface_gives_what_facexlib_gives(retinaface_file):
    import torch
    from facexlib.detection.retinaface import RetinaFace

    net = RetinaFace("mobile0.25", device="cpu")
    net.load_state_dict(
        {k.removeprefix("module."): v for k, v in torch.load(retinaface_file, weights_only=True).items()}
    )
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    with torch.no_grad():
        rows = net.eval().detect_faces(picture[:, :, ::-1], conf_threshold=0.49, nms_threshold=0.4)
    faces = load_detector("retinaface", retinaface_file.parent, score_threshold=0.49)(picture)
    assert len(faces) == len(rows) > 1
    ours = np.array([[*one.box[:2], *(one.box[:2] + one.box[2:]), one.score, *one.landmarks.ravel()] for one in faces])
    rows, ours = (table[np.lexsort(table.T)] for table in (rows, ours))  # the order of equal areas is ours alone
    np.testing.assert_allclose(ours, rows, rtol=1e-4, atol=1e-3)
    assert [one.area for one in faces] == sorted((one.area for one in faces), reverse=True)


def test_retinaface_searches_a_large_picture_small(retinaface_file):
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    large = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)
    options = {"score_threshold": 0.49, "longer_side": 128, "small_face": 0}
    small_faces, large_faces = (load_detector("retinaface", retinaface_file, **options)(p) for p in (picture, large))
    assert len(small_faces) == len(large_faces)
    np.testing.assert_allclose(large_faces[0].landmarks, small_faces[0].landmarks * 2, rtol=1e-4)


def test_retinaface_mistakes_are_explained(retinaface_file, tmp_path, monkeypatch):
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({"a": Path("x")}, tmp_path / "objects.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for weights, message in (
        (tmp_path / "absent", "neither a file nor a folder"),
        (tmp_path, "holds 3 files"),
        (tmp_path / "junk.pth", "can be read safely"),
        (tmp_path / "objects.pth", "can be read safely"),
        (tmp_path / "other.pth", "does not fit RetinaFace: it lacks"),
    ):
        with pytest.raises(AgfasError, match=message):
            load_detector("retinaface", weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def refuse(*_, **__):
        raise OSError("name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(AgfasError, match=r"cannot be downloaded \(name or service not known\)"):
        load_detector("retinaface")


def test_every_detector_names_its_licence():
    from importlib import import_module

    for entry in DETECTORS.values():
        module, kind = entry.split(":")
        assert getattr(import_module(module), kind).licence
    assert "non-commercial" in import_module("pipelines.data.detection.insightface").LICENCE


# --- real pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def yunet():
    return load_detector("yunet", Path(str(REALDATA)).parent / "weights" / "yunet.onnx")


def real(pattern: str, count: int) -> list[np.ndarray]:
    from pipelines.data.images import read_picture

    paths = sorted(Path(str(REALDATA)).glob(pattern))
    return [np.asarray(read_picture(path)) for path in paths[:: max(1, len(paths) // count)][:count]]


def in_order(landmarks: np.ndarray) -> bool:
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    return bool(
        left_eye[0] < right_eye[0]
        and left_mouth[0] < right_mouth[0]
        and max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    )


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("pattern", ["live/utkface/*.jpg", "nuaa/*/*/*.jpg", "replay/attack/*"])
def test_yunet_finds_real_faces_with_landmarks_in_order(yunet, pattern):
    found = [yunet(picture) for picture in real(pattern, 20)]
    assert sum(bool(faces) for faces in found) >= 19
    assert sum(in_order(faces[0].landmarks) for faces in found if faces) >= 18


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_yunet_finds_faces_of_sideways_phone_pictures(yunet, quarters):
    good = 0
    for picture in real("live/utkface/*.jpg", 12):
        upright = yunet(picture)[0].landmarks
        turned = yunet(np.ascontiguousarray(np.rot90(picture, quarters)))[0].landmarks
        x, y, side = turned[:, 0], turned[:, 1], picture.shape[0] - 1
        back = {1: (side - y, x), 2: (side - x, side - y), 3: (y, side - x)}[quarters]
        error = np.abs(np.stack(back, axis=1) - upright).mean() / np.linalg.norm(upright[1] - upright[0])
        good += error < 0.12
    assert good >= 10


@pytest.mark.realdata
@needs_realdata
def test_yunet_finds_every_face_of_a_large_group_picture(yunet):
    import cv2

    picture = np.full((3000, 4000, 3), 120, np.uint8)
    places = [(200, 1500, 900), (1500, 400, 500), (2400, 1600, 300), (3000, 600, 240)]
    for (left, top, side), one in zip(places, real("live/utkface/*.jpg", 4), strict=True):
        picture[top : top + side, left : left + side] = cv2.resize(one, (side, side))
    faces = yunet(picture)
    assert len(faces) == 4
    for found, (left, top, side) in zip(faces, places, strict=True):  # the largest first
        assert np.abs(found.box[:2] + found.box[2:] / 2 - (left + side / 2, top + side / 2)).max() < side * 0.15

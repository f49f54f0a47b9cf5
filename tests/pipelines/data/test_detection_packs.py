"""insightface's and facexlib's detectors, on small packs and weights of the same form; what every detector names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_graphs import Graph, points_at, tiny_scrfd, with_red

from pipelines.data.detection import DETECTORS, load_detector
from pipelines.errors import AgfasError


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
        (tmp_path / "absent", "no file or folder"),
        (tmp_path, "holds 3 files"),
        (tmp_path / "junk.pth", "cannot be read safely"),
        (tmp_path / "objects.pth", "cannot be read safely"),
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

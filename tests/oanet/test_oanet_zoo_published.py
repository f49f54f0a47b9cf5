"""Published networks: weights read safely; inputs, scores and decisions as of their own programs, written here anew."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from public_programs import TRANSFORM, Published, public_minifasnet
from published_parts import save_liveness
from torch import nn

from oanet.detectors import build_detector, load_detector
from oanet.detectors.base import Detector
from oanet.detectors.liveness_vit import read_published
from oanet.detectors.minifasnet import SCALES, MiniFASNetwork, crop_box
from oanet.published import RejectedInput, find_weights, sight


@pytest.fixture
def realdata() -> Path:
    """The folder with `weights`, named by AGFAS_REALDATA; the test is skipped without it."""
    folder = os.environ.get("AGFAS_REALDATA")
    if not folder:
        pytest.skip("needs published weights: set AGFAS_REALDATA to the folder that holds weights/")
    return Path(folder)


def save_published(path: Path, network: nn.Module, **changes: object) -> str:
    content = {"model": network.state_dict(), "cfg": {"model": {"nhead": 4}}, "threshold": np.float64(0.12)}
    torch.save({**content, **changes}, path)
    return str(path)


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height))


def judge(detector: Detector, picture: np.ndarray, **place: Any) -> torch.Tensor:
    """What a detector answers to one picture, on the only path there is: look, map to [-1, 1], forward."""
    seen = torch.from_numpy(np.ascontiguousarray(detector.look(picture, **place)))
    return detector(seen.permute(2, 0, 1)[None].float() / 127.5 - 1)


@pytest.mark.parametrize("size", [(300, 400), (401, 299), (180, 180), (256, 256)])
def test_liveness_vit_scores_a_picture_as_its_script(size: tuple[int, int], tmp_path: Path) -> None:
    network = Published().eval()
    detector = build_detector("liveness_vit", weights=save_published(tmp_path / "model.pt", network)).eval()
    detector.save_pretrained(tmp_path / "saved")
    (tmp_path / "model.pt").unlink()
    with torch.no_grad():
        expected = network(TRANSFORM(picture(*size))[None]).softmax(dim=1)[0].tolist()
        for one in (detector, load_detector(tmp_path / "saved")):
            spoof, live = judge(one, np.asarray(picture(*size))).logits.softmax(dim=1)[0].tolist()
            assert [live, spoof] == pytest.approx(expected, abs=1e-6)
            assert one.decision is not None
            assert one.decision.threshold == pytest.approx(1 - 0.12)


def test_liveness_vit_sees_the_crop_where_it_is_trained(tmp_path: Path) -> None:
    path = save_published(tmp_path / "model.pt", Published())
    crop = np.zeros((64, 48, 3), np.uint8)
    assert build_detector("liveness_vit").look(crop) is crop
    assert build_detector("liveness_vit", weights=path, sees="crop").look(crop) is crop
    assert build_detector("liveness_vit", weights=path).look(crop).shape == (224, 224, 3)
    assert sight("liveness_vit", {}) == sight("liveness_vit", {"weights": path, "cue": True}) == "crop"
    assert (sight("liveness_vit", {"weights": path}), sight("minifasnet", {})) == ("picture", "box")
    assert sight("insightface_liveness", {}) == "points"
    with pytest.raises(ValueError, match="Unknown sees 'box'"):
        build_detector("liveness_vit", weights=path, sees="box")
    with pytest.raises(ValueError, match="set sees: crop"):
        build_detector("liveness_vit", preset="tiny", cue=True, sees="picture")
    with pytest.raises(ValueError, match="takes 224 x 224 pixels"):
        build_detector("liveness_vit", weights=path)(torch.zeros(1, 3, 256, 256))


def test_what_would_run_is_not_read(tmp_path: Path) -> None:
    torch.save({"model": {}, "cfg": Path("x")}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        build_detector("liveness_vit", weights=str(tmp_path / "model.pt"))
    (tmp_path / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read safely"):
        build_detector("liveness_vit", weights=str(tmp_path / "model.pt"))


def test_the_threshold_is_the_options_else_the_checkpoints_else_the_published_one(tmp_path: Path) -> None:
    network = Published()
    path = save_published(tmp_path / "model.pt", network)
    torch.save({"model": network.state_dict()}, tmp_path / "plain.pth")
    for weights, given, expected in ((path, 0.3, 0.7), (path, None, 0.88), (str(tmp_path / "plain.pth"), None, 0.8801)):
        detector = build_detector("liveness_vit", weights=weights, threshold=given)
        assert detector.decision is not None
        assert detector.decision.threshold == pytest.approx(expected)
        assert not detector.decision.by_class
    assert build_detector("liveness_vit", weights=path, sees="crop").decision is None
    assert build_detector("liveness_vit", preset="tiny", threshold=0.3).decision is None
    with pytest.raises(ValueError, match=r"threshold = 1\.1"):
        build_detector("liveness_vit", preset="tiny", threshold=1.1)
    assert type(detector).recognises(Path(path))
    assert type(detector).recognises(tmp_path / "plain.pth")


def test_liveness_vit_starts_small_and_its_plug_has_its_epsilon() -> None:
    detector: Any = build_detector("liveness_vit", preset="tiny", cue=True, dropout=0.2)
    assert detector.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert not detector.class_token.any()
    assert {layer.norm.eps for layer in detector.cross_attention} == {1e-5}
    assert {part.p for part in detector.modules() if isinstance(part, nn.Dropout)} == {0.2}


def test_a_checkpoint_without_settings_is_taken_by_its_shapes(tmp_path: Path) -> None:
    network = Published()
    path = save_published(tmp_path / "model.pt", network, cfg=None)
    assert torch.equal(build_detector("liveness_vit", weights=path).class_token, network.cls_token)
    broken = {**network.state_dict(), "head.weight": 3.0}
    with pytest.raises(ValueError, match=r"head\.classifier\.weight"):
        build_detector("liveness_vit", weights=save_published(tmp_path / "odd.pt", network, model=broken))


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = save_published(tmp_path / "model.pt", Published())
    with pytest.raises(ValueError, match="has another shape in class_token"):
        build_detector("liveness_vit", preset="tiny", weights=path)
    with pytest.raises(ValueError, match=r"in excess layers\.1"):
        build_detector("liveness_vit", depth=1, weights=path)
    with pytest.raises(ValueError, match="num_heads: 4 instead of 8"):
        build_detector("liveness_vit", num_heads=8, weights=path)
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no face-liveness-vit checkpoint"):
        build_detector("liveness_vit", weights=str(tmp_path / "other.pt"))
    with torch.device("meta"), pytest.raises(ValueError, match="has another shape"):
        build_detector("liveness_vit", preset="tiny", weights=path)
    with torch.device("meta"):
        assert build_detector("liveness_vit", weights=path).positions.is_meta


def make_fasnet(kind: str, seed: int) -> MiniFASNetwork:
    """Random weights and running statistics."""
    torch.random.default_generator.manual_seed(seed)
    network = MiniFASNetwork(kind).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return network


def save_fasnet(path: Path, network: nn.Module) -> str:
    """As published: every name behind `module.`, left there by parallel training."""
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def fasnets(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, MiniFASNetwork], Detector, Detector]:
    """Both networks, the detector of their files, and it saved and loaded."""
    folder = tmp_path_factory.mktemp("fasnets")
    networks = {kind: make_fasnet(kind, seed) for seed, kind in enumerate(SCALES)}
    paths = [save_fasnet(folder / f"{kind}.pth", networks[kind]) for kind in ("v1se", "v2")]
    detector = build_detector("minifasnet", weights=paths)
    detector.save_pretrained(folder / "saved")
    return networks, detector, load_detector(folder / "saved")


@pytest.mark.parametrize(
    "box", [(100, 90, 60, 80), (0, 0, 50, 40), (230, 170, 70, 60), (20, 5, 250, 200), (-9.5, 30.25, 80.5, 99.75)]
)
def test_minifasnet_judges_a_picture_as_its_program(
    box: tuple[float, ...], fasnets: tuple[dict[str, MiniFASNetwork], Detector, Detector]
) -> None:
    networks, *detectors = fasnets
    photo = np.asarray(picture(300, 240))
    expected = public_minifasnet(networks, photo, box) / 2
    for one in detectors:
        found = judge(one, photo, box=np.float32(box))
        assert found.probability_bonafide.item() == pytest.approx(expected[1], abs=2e-5)
        assert found.attack_classes[0].tolist() == pytest.approx([expected[0], expected[2]], abs=2e-5)
        assert one.decision is not None
        assert one.decision.by_class


def test_one_of_the_networks_alone_and_other_files(tmp_path: Path) -> None:
    path = save_fasnet(tmp_path / "b.pth", make_fasnet("v1se", 0))
    alone = build_detector("minifasnet", weights=path)
    assert list(alone.networks) == ["v1se"]
    alone.save_pretrained(tmp_path / "saved")
    assert list(load_detector(tmp_path / "saved").networks) == ["v1se"]
    with pytest.raises(ValueError, match="both of the network 'v1se'"):
        build_detector("minifasnet", weights=[path, path])
    with pytest.raises(ValueError, match="of v1se, but networks = v2"):
        build_detector("minifasnet", weights=[path], networks=["v2"])
    torch.save({"conv1.conv.weight": torch.zeros(1)}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match="does not fit MiniFASNetwork"):
        build_detector("minifasnet", weights=[str(tmp_path / "c.pth")])
    torch.save([1, 2], tmp_path / "d.pth")
    with pytest.raises(ValueError, match="none of the published MiniFASNet files"):
        build_detector("minifasnet", weights=[str(tmp_path / "d.pth")])


def test_minifasnet_refuses_training() -> None:
    detector = build_detector("minifasnet", networks=["v2"])
    assert not detector.training
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    with pytest.raises(ValueError, match="inference only: its training needs two crops"):
        detector.train()
    assert detector.eval() is detector


@pytest.mark.parametrize(
    ("box", "scale", "expected"),
    [
        # 40 x 50 about (120, 125): 108 x 135 pixels, 66 .. 174 and 57.5 .. 192.5; the last pixel is inside.
        ((100, 100, 40, 50), 2.7, (66, 57, 175, 193)),
        # 160 x 200 about (120, 125), which fits as it is: 40 .. 200 and 25 .. 225.
        ((100, 100, 40, 50), 4.0, (40, 25, 201, 226)),
        # At the left upper corner, centre (20, 25): -34 .. 74 and -42.5 .. 92.5 are moved to begin at 0.
        ((0, 0, 40, 50), 2.7, (0, 0, 109, 136)),
        # At the right lower one, centre (380, 275): 326 .. 434 and 207.5 .. 342.5 are moved to end at 399 and 299.
        ((360, 250, 40, 50), 2.7, (291, 164, 400, 300)),
        # 200 high grows by (300 - 1) / 200 = 1.495 alone: 149.5 x 299 about (200, 150): 125.25 .. 274.75, 0 .. 299.
        ((150, 50, 100, 200), 4.0, (125, 0, 275, 300)),
    ],
)
def test_crops_by_hand(box: tuple[int, int, int, int], scale: float, expected: tuple[int, int, int, int]) -> None:
    assert crop_box(400, 300, box, scale) == expected


@pytest.mark.parametrize(
    ("box", "message"),
    [
        *((box, "no extent") for box in ((0, 0, 0, 9), (0, 0, 9, 0), (0, 0, -1, 9), (0, 0, 9, -1))),
        *((box, "outside") for box in ((400, 0, 9, 9), (0, 300, 9, 9), (-9, 0, 9, 9), (0, -9, 9, 9))),
        ((0, 0, math.nan, 9), "not finite"),
    ],
)
def test_boxes_that_are_none(box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_box(400, 300, box, 2.7)


def test_boxes_that_just_touch_the_picture_are_cut() -> None:
    for box in ((399, 299, 9, 9), (-8, -8, 9, 9), (0, 0, 1, 1)):
        left, top, right, bottom = crop_box(400, 300, box, 2.7)
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300


def test_minifasnet_takes_nothing_but_its_own_crops() -> None:
    detector = build_detector("minifasnet")
    with pytest.raises(ValueError, match="takes its own crops"):
        detector(torch.zeros(1, 3, 80, 80))
    with pytest.raises(ValueError, match="the face's box, which is missing"):
        detector.look(np.zeros((90, 90, 3), np.uint8))


FACE = np.array([(32.03, 38.06), (47.89, 37.98), (40.01, 47.08), (33.50, 56.36), (46.63, 56.29)])


def placed(scale: float, turn: float, x: float, y: float) -> np.ndarray:
    """The five points of a face, scaled, turned and moved so that the middle of its crop is at x, y."""
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return ((FACE - 39.5) @ rotation * scale + (x, y)).astype(np.float32)


@pytest.mark.parametrize("place", [(1, 0, 100, 100), (1.7, 0.4, 120, 90), (0.6, -0.5, 60, 130), (2.4, 0.1, 130, 100)])
def test_the_liveness_addon_scores_a_face_as_insightface(place: tuple[float, ...], tmp_path: Path) -> None:
    addon = pytest.importorskip("insightface.addons.liveness")
    path, photo = save_liveness(tmp_path / "any.onnx"), np.asarray(picture(240, 200))
    points = placed(*place) + np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    expected = addon.Liveness(path).predict(photo[..., ::-1].copy(), points)["live_score"]
    assert 0.05 < expected < 0.95
    detector = build_detector("insightface_liveness", weights=path)
    detector.save_pretrained(tmp_path / "saved")
    Path(path).unlink()
    for one in (detector, load_detector(tmp_path / "saved")):
        found = judge(one, photo, points=points)
        assert found.probability_bonafide.item() == pytest.approx(expected, abs=1e-5)
        assert one.num_parameters() == 4 * 3 * 25 + 4 + 1 + 1


def test_the_liveness_addon_rejects_a_face_at_the_edge_as_insightface(tmp_path: Path) -> None:
    addon = pytest.importorskip("insightface.addons.liveness")
    path, photo = save_liveness(tmp_path / "any.onnx"), np.asarray(picture(240, 200))
    detector, theirs = build_detector("insightface_liveness", weights=path), addon.Liveness(path)
    # A crop of 80 whose middle is x pixels from the left edge has 40 - x of 80 columns outside: 30 % at x = 16.
    for x, rejected in ((20, False), (17, False), (14, True)):
        status = theirs.predict(photo[..., ::-1].copy(), placed(1, 0, x, 100))["status"]
        assert (status == "input_rejected") == rejected
        if rejected:
            with pytest.raises(RejectedInput, match=r"3\d% of the crop around the face lies outside"):
                detector.look(photo, points=placed(1, 0, x, 100))
        else:
            detector.look(photo, points=placed(1, 0, x, 100))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (None, "five finite points"),
        (np.zeros((4, 2)), "five finite points"),
        (np.full((5, 2), np.nan), "five finite points"),
        (FACE + [[1.2e9, 0]] * 5, "five finite points"),
        (FACE - [[0, 1.2e9]] * 5, "five finite points"),
        (np.full((5, 2), 7.0), "coincide"),
        (FACE * 0.9e-7, "coincide"),
    ],
)
def test_points_that_are_no_face(points: np.ndarray | None, message: str, tmp_path: Path) -> None:
    detector = build_detector("insightface_liveness", weights=save_liveness(tmp_path / "any.onnx"))
    with pytest.raises(ValueError, match=message):
        detector.look(np.zeros((90, 90, 3), np.uint8), points=points)


def test_other_graphs_and_scores_that_are_no_probability(tmp_path: Path) -> None:
    wrong = build_detector("insightface_liveness", weights=save_liveness(tmp_path / "wrong.onnx", scale=9))
    with pytest.raises(ValueError, match="no probability of a live face"):
        wrong(torch.ones(1, 3, 80, 80))
    with pytest.raises(ValueError, match="takes its own crops"):
        wrong(torch.ones(1, 3, 64, 64))
    with pytest.raises(ValueError, match="for inference only"):
        wrong.train()
    with pytest.raises(ValueError, match="has no graph"):
        build_detector("insightface_liveness")(torch.ones(1, 3, 80, 80))
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ValueError, match=r"text\.onnx is not insightface's liveness add-on"):
        build_detector("insightface_liveness", weights=str(tmp_path / "text.onnx"))
    with pytest.raises(FileNotFoundError, match="No weights at"):
        build_detector("insightface_liveness", weights=str(tmp_path / "none.onnx"))


def test_published_files_are_known_by_their_content(tmp_path: Path) -> None:
    for number, kind in enumerate(SCALES):
        save_fasnet(tmp_path / f"{number}.pth", make_fasnet(kind, number))
    save_published(tmp_path / "x.pt", Published())
    save_liveness(tmp_path / "y.onnx")
    (tmp_path / "notes.pth").write_text("hello")
    (tmp_path / "folder.pth").mkdir()
    assert find_weights("minifasnet", tmp_path) == [str(tmp_path / "0.pth"), str(tmp_path / "1.pth")]
    assert find_weights("liveness_vit", tmp_path) == str(tmp_path / "x.pt")
    assert find_weights("insightface_liveness", tmp_path) == str(tmp_path / "y.onnx")
    (tmp_path / "1.pth").unlink()
    with pytest.raises(ValueError, match=r"holds 1 files of 'minifasnet' \(0\.pth\); 2 needed: 2\.7_80x80"):
        find_weights("minifasnet", tmp_path)
    with pytest.raises(ValueError, match="holds no files of 'minifasnet'; 2 needed"):
        find_weights("minifasnet", tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        find_weights("minifasnet", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="did you mean 'minifasnet'"):
        find_weights("minifas", tmp_path)


@pytest.mark.realdata
def test_the_real_networks_judge_pictures_as_their_programs(realdata: Path) -> None:
    vit = build_detector("liveness_vit", weights=find_weights("liveness_vit", realdata / "weights")).eval()
    network = Published().eval()
    network.load_state_dict(read_published(find_weights("liveness_vit", realdata / "weights"))["model"])
    fasnet = build_detector("minifasnet", weights=find_weights("minifasnet", realdata / "weights"))
    parts = dict(fasnet.networks.items())
    for path in sorted((realdata / "data" / "replay").glob("*/1?.jpg")):
        photo = np.asarray(Image.open(path).convert("RGB"))
        height, width = photo.shape[:2]
        box = (width / 4, height / 4, width / 2.5, height / 2)
        with torch.no_grad():
            spoof = network(TRANSFORM(Image.fromarray(photo))[None]).softmax(dim=1)[0, 1].item()
            classes = public_minifasnet(parts, photo, box) / 2
            of_vit, of_fasnet = judge(vit, photo), judge(fasnet, photo, box=np.array(box))
        assert of_vit.probability_bonafide.item() == pytest.approx(1 - spoof, abs=1e-5)
        assert of_fasnet.probability_bonafide.item() == pytest.approx(classes[1], abs=1e-4)

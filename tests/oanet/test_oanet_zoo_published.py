"""Published weights: read safely, scored as their own scripts score, and the crops of MiniFASNet by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import transforms

from oanet.detectors import build_detector, load_detector
from oanet.detectors.liveness_vit import read_published
from oanet.detectors.minifasnet import SCALES, MiniFASNetwork, crop_around, crop_box


@pytest.fixture
def realdata() -> Path:
    """The folder with `weights`, named by AGFAS_REALDATA; the test is skipped without it."""
    folder = os.environ.get("AGFAS_REALDATA")
    if not folder:
        pytest.skip("needs published weights: set AGFAS_REALDATA to the folder that holds weights/")
    return Path(folder)


class Published(nn.Module):
    """face-liveness-vit in plain torch, under the names of its checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 128, 16, 16)})
        self.pos_embed = nn.Parameter(torch.randn(1, 197, 128) * 0.02)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 128) * 0.02)
        layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, batch_first=True)
        self.encoder = nn.ModuleDict({"transformer_encoder": nn.TransformerEncoder(layer, 2)})
        self.head = nn.Linear(128, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed
        return self.head(self.encoder["transformer_encoder"](tokens)[:, 0])


TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def save_published(path: Path, network: nn.Module, **changes: object) -> str:
    content = {"model": network.state_dict(), "cfg": {"model": {"nhead": 4}}, "threshold": np.float64(0.12)}
    torch.save({**content, **changes}, path)
    return str(path)


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height))


def picture_tensor(picture: Image.Image) -> torch.Tensor:
    """(1, 3, H, W) in [-1, 1]: resized by Pillow in 8 bits, as the public script does, before it becomes numbers."""
    small = transforms.Resize(256)(picture)
    return transforms.ToTensor()(small)[None] * 2 - 1


@pytest.mark.parametrize("size", [(300, 400), (401, 299), (180, 180)])
def test_liveness_vit_scores_a_picture_as_its_script(size: tuple[int, int], tmp_path: Path) -> None:
    network = Published().eval()
    detector = build_detector("liveness_vit", weights=save_published(tmp_path / "model.pt", network)).eval()
    with torch.no_grad():
        spoof, live = detector(picture_tensor(picture(*size))).logits.softmax(dim=1)[0].tolist()
        expected = network(TRANSFORM(picture(*size))[None]).softmax(dim=1)[0].tolist()
    assert [live, spoof] == pytest.approx(expected, abs=1e-5)
    assert read_published(tmp_path / "model.pt")["threshold"] == pytest.approx(0.12)


def test_liveness_vit_is_saved_without_the_path(tmp_path: Path) -> None:
    detector = build_detector("liveness_vit", weights=save_published(tmp_path / "model.pt", Published()))
    detector.save_pretrained(tmp_path / "saved")
    (tmp_path / "model.pt").unlink()
    loaded = load_detector(tmp_path / "saved")
    assert loaded.config["weights"] is None
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(image).logits, detector.eval()(image).logits)


def test_what_would_run_is_not_read(tmp_path: Path) -> None:
    torch.save({"model": {}, "cfg": Path("x")}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        build_detector("liveness_vit", weights=str(tmp_path / "model.pt"))
    (tmp_path / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read safely"):
        build_detector("liveness_vit", weights=str(tmp_path / "model.pt"))


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


def slow_fasnet(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The network straight from the names of a published file."""

    def norm(name: str, places: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        shape = (1, -1, *[1] * (places.ndim - 2))
        return (places - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)

    def conv(name: str, places: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> torch.Tensor:
        places = norm(f"{name}.bn", F.conv2d(places, state[f"{name}.conv.weight"], None, stride, padding, 1, groups))
        slope = state.get(f"{name}.prelu.weight")
        return places if slope is None else torch.where(places > 0, places, places * slope.view(1, -1, 1, 1))

    def block(name: str, places: torch.Tensor, stride: int) -> torch.Tensor:
        inner = conv(f"{name}.conv", places)
        inner = conv(f"{name}.project", conv(f"{name}.conv_dw", inner, stride, 1, inner.shape[1]))
        if f"{name}.se_module.fc1.weight" in state:
            gate = inner.mean(dim=(2, 3), keepdim=True)
            gate = norm(f"{name}.se_module.bn1", F.conv2d(gate, state[f"{name}.se_module.fc1.weight"])).relu()
            gate = norm(f"{name}.se_module.bn2", F.conv2d(gate, state[f"{name}.se_module.fc2.weight"])).sigmoid()
            inner = inner * gate
        return inner if stride == 2 else places + inner

    places = conv("conv2_dw", conv("conv1", pixels, 2, 1), 1, 1, 32)
    for halving, stage, count in (("conv_23", "conv_3", 4), ("conv_34", "conv_4", 6), ("conv_45", "conv_5", 2)):
        places = block(halving, places, 2)
        for number in range(count):
            places = block(f"{stage}.model.{number}", places, 1)
    places = conv("conv_6_dw", conv("conv_6_sep", places), groups=512)
    return norm("bn", places.flatten(1) @ state["linear.weight"].T) @ state["prob.weight"].T


def test_minifasnet_is_the_mean_of_both_in_bgr_bytes(tmp_path: Path) -> None:
    networks = {kind: make_fasnet(kind, seed) for seed, kind in enumerate(SCALES)}
    paths = [save_fasnet(tmp_path / f"{kind}.pth", networks[kind]) for kind in ("v1se", "v2")]
    detector = build_detector("minifasnet", weights=paths)
    image = torch.rand(3, 3, 80, 80) * 2 - 1
    bgr = (image[:, [2, 1, 0]] + 1) * 127.5
    expected = sum(
        slow_fasnet(dict(network.state_dict()), bgr).softmax(dim=1)[:, 1] / 2 for network in networks.values()
    )
    torch.testing.assert_close(detector(image).probability_bonafide, expected, rtol=1e-3, atol=1e-5)
    detector.save_pretrained(tmp_path / "saved")
    assert torch.equal(load_detector(tmp_path / "saved")(image).logits, detector(image).logits)


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
    values = np.arange(300 * 400 * 3, dtype=np.int64).reshape(300, 400, 3) % 256
    crop = crop_around(values.astype(np.uint8), box, scale)
    left, top, right, bottom = expected
    assert crop.shape == (1, 3, bottom - top, right - left)
    first = torch.from_numpy(values[top, left]).float() / 127.5 - 1
    torch.testing.assert_close(crop[0, :, 0, 0], first)


@pytest.mark.parametrize(("box", "message"), [((0, 0, 0, 9), "no extent"), ((500, 0, 9, 9), "outside the image")])
def test_boxes_that_are_none(box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_box(400, 300, box, 2.7)


def test_each_network_judges_its_own_crop() -> None:
    detector = build_detector("minifasnet")
    near, far = torch.rand(1, 3, 90, 70) * 2 - 1, torch.rand(1, 3, 130, 110) * 2 - 1
    both = detector.classify_crops([near, far]).probability_bonafide
    alone = [
        network((F.interpolate(crop, size=(80, 80), mode="bilinear").flip(1) + 1) * 127.5)[0].softmax(dim=1)[:, 1]
        for network, crop in zip(detector.networks.values(), (near, far), strict=True)
    ]
    torch.testing.assert_close(both, sum(alone) / 2)
    with pytest.raises(ValueError, match="zip"):
        detector.classify_crops([near])


@pytest.mark.realdata
def test_the_real_liveness_vit(realdata: Path) -> None:
    path = realdata / "weights" / "face-liveness-vit.pt"
    detector = build_detector("liveness_vit", weights=str(path)).eval()
    network = Published().eval()
    network.load_state_dict(read_published(path)["model"])
    with torch.no_grad():
        expected = network(TRANSFORM(picture(300, 400))[None]).softmax(dim=1)[0, 0].item()
        assert detector(picture_tensor(picture(300, 400))).probability_bonafide.item() == pytest.approx(
            expected, abs=1e-5
        )
    assert read_published(path)["threshold"] == pytest.approx(0.1199, abs=1e-4)


@pytest.mark.realdata
def test_the_real_minifasnet(realdata: Path) -> None:
    paths = [str(path) for path in sorted((realdata / "weights").glob("*MiniFASNet*.pth"))]
    detector = build_detector("minifasnet", weights=paths)
    assert list(detector.networks) == ["v2", "v1se"]
    image = torch.rand(2, 3, 80, 80) * 2 - 1
    bgr = (image[:, [2, 1, 0]] + 1) * 127.5
    parts = [
        slow_fasnet(dict(network.state_dict()), bgr).softmax(dim=1)[:, 1] for network in detector.networks.values()
    ]
    torch.testing.assert_close(detector(image).probability_bonafide, (parts[0] + parts[1]) / 2, rtol=1e-3, atol=1e-5)

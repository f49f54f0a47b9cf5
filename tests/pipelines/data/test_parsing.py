"""Face parsing: BiSeNet with random weights for the loading, a stand-in of known classes for the masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.data.parsing import CLASSES, FACE_CLASSES, FaceParser
from pipelines.errors import AgfasError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    from facexlib.parsing.bisenet import BiSeNet

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bisenet") / "parsing_bisenet.pth"
    torch.save(BiSeNet(num_class=19).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def parser(weights) -> FaceParser:
    return FaceParser(weights)


class ByGrey(nn.Module):
    """A net whose class is the grey level of the normalised input over 10; it records what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        self.inputs.append(x)
        classes = ((x[:, 0] * 0.229 + 0.485) * 255 / 10).round().long().clamp(0, 18)
        return (nn.functional.one_hot(classes, 19).permute(0, 3, 1, 2).float(),)


@pytest.fixture
def by_grey(parser, monkeypatch) -> ByGrey:
    net = ByGrey()
    monkeypatch.setattr(parser, "net", net)
    return net


@pytest.fixture
def small_net(monkeypatch) -> None:
    """The net at 128 pixels, for speed where its size is not the question."""
    monkeypatch.setattr("pipelines.data.parsing._SIZE", 128)


def test_face_is_skin_brows_eyes_glasses_ears_nose_mouth_and_lips():
    assert len(CLASSES) == 19
    assert [CLASSES.index(name) for name in FACE_CLASSES] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]
    others = ("background", "earring", "neck", "necklace", "cloth", "hair", "hat")
    assert tuple(name for name in CLASSES if name not in FACE_CLASSES) == others


def test_every_class_becomes_face_or_not(parser, by_grey, small_net):
    pictures = (
        np.repeat(np.arange(19)[:, None], 64, axis=1).reshape(19, 8, 8, 1).repeat(3, axis=3).astype(np.uint8) * 10
    )
    masks = parser(pictures)
    assert (masks.shape, masks.dtype) == ((19, 8, 8), np.uint8)
    assert [int(mask.min()) for mask in masks] == [int(mask.max()) for mask in masks]
    assert [CLASSES[index] for index in range(19) if masks[index].max()] == list(FACE_CLASSES)
    assert [len(x) for x in by_grey.inputs] == [8, 8, 3]  # no more than eight at once


def test_the_net_sees_512_pixels_normalised_as_on_imagenet(parser, by_grey):
    picture = np.zeros((1, 40, 30, 3), np.uint8)
    picture[...] = (10, 120, 250)
    parser(picture)
    (seen,) = by_grey.inputs
    assert tuple(seen.shape) == (1, 3, 512, 512)
    expected = (np.array([10, 120, 250]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(seen.mean(dim=(0, 2, 3)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("every", "face"), [(1, 1), (2, 1), (4, 0)])
def test_a_pixel_is_face_if_half_of_its_area_is(parser, small_net, monkeypatch, every, face):
    """The net says skin in every nth column; a pixel of the picture is 4 x 4 of the net's."""

    def columns(x: torch.Tensor) -> tuple[torch.Tensor]:
        classes = (torch.arange(x.shape[3]) % every == 0).long().expand(x.shape[0], x.shape[2], -1)
        return (nn.functional.one_hot(classes, 19).permute(0, 3, 1, 2).float(),)

    monkeypatch.setattr(parser, "net", columns)
    assert parser(np.zeros((1, 32, 32, 3), np.uint8)).tolist() == [[[face] * 32] * 32]


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (128, 128), (300, 200)])
def test_masks_lie_where_the_face_is(parser, by_grey, small_net, size):
    height, width = size
    pictures = np.zeros((1, height, width, 3), np.uint8)
    pictures[:, height // 4 : height // 2, width // 3 : width // 2] = 100  # nose on background
    expected = pictures[:, :, :, 0] > 0
    wrong = parser(pictures) != expected
    # Blending between the two classes passes through others, in a rim of a pixel or two.
    rim = 4 * (height + width) // 2
    assert wrong.sum() <= rim
    inside = parser(pictures)[0, height // 4 + 2 : height // 2 - 2, width // 3 + 2 : width // 2 - 2]
    assert inside.min() == 1


def test_the_loaded_net_is_the_saved_one(parser, weights, small_net):
    from facexlib.parsing.bisenet import BiSeNet

    net = BiSeNet(num_class=19)
    net.load_state_dict(torch.load(weights, weights_only=True))
    picture = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    values = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        classes = net.eval()(torch.from_numpy(values.transpose(0, 3, 1, 2)).float())[0].argmax(dim=1).numpy()
    expected = np.isin(classes, [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13])
    found = parser(picture)
    assert 0 < expected.mean() < 1
    assert (found != expected).mean() < 1e-4  # rounding decides where two classes are equal


def test_no_pictures_and_wrong_ones(parser):
    assert parser(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 16, 16)
    for wrong in (np.zeros((16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8, not"):
            parser(wrong)


def test_fingerprint_is_of_the_weights(parser, weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    state["conv_out.conv_out.weight"] += 1
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "other.pth")
    other = FaceParser(tmp_path)  # by folder
    assert other.fingerprint() != parser.fingerprint()
    assert (
        FaceParser(weights).fingerprint()
        == parser.fingerprint()
        == {
            "parser": "bisenet",
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "size": 512,
            "classes": [
                *("skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear"),
                *("nose", "mouth", "upper lip", "lower lip"),
            ],
        }
    )
    assert torch.equal(other.net.state_dict()["conv_out.conv_out.weight"], state["conv_out.conv_out.weight"])


def test_mistakes_are_explained(weights, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.pth").write_bytes(weights.read_bytes()[:5000])
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    state = torch.load(weights, weights_only=True)
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "extra.pth")
    state.pop("extra")
    state["conv_out.conv_out.weight"] = torch.zeros(11, 256, 1, 1)
    torch.save(state, tmp_path / "eleven.pth")
    for place, message in (
        ("absent.pth", "no file or folder"),
        ("empty", "holds 0 files"),
        ("", "holds 4 files"),
        ("junk.pth", "cannot be read safely"),
        ("list.pth", "no state dict"),
        ("extra.pth", "has the unknown extra"),
        ("eleven.pth", "has another shape in conv_out.conv_out.weight"),
    ):
        with pytest.raises(AgfasError, match=message):
            FaceParser(tmp_path / place)

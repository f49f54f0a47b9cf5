"""APL against a slow computation, beside every base, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from oanet.objectives.apl import attention_patch_loss, patch_labels
from oanet.objectives.base import Share

MakeBatch = Callable[..., FaceBatch]


def objective(name: str = "image_only", **options: Any):
    cue = {"cue_channels": 3} if name == "oanet" else {}
    return build_objective("apl", build_detector(name, preset="tiny", **cue), 3, **options)


def test_the_loss_is_a_weighted_mean_over_patches():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, generator=draw)
    attention = torch.rand(3, 4, generator=draw).requires_grad_()
    labels = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    expected = []
    for face in range(3):
        mean = sum(attention[face].tolist()) / 4
        total = 0.0
        for patch in range(4):
            shares = logits[face, patch].exp() / logits[face, patch].exp().sum()
            total += attention[face, patch].item() / mean * -shares[labels[face, patch]].log().item()
        expected.append(total / 4)
    found = attention_patch_loss(logits.requires_grad_(), labels, attention)
    torch.testing.assert_close(found, torch.tensor(expected))
    found.sum().backward()
    assert attention.grad is None
    uniform = attention_patch_loss(logits, labels, torch.full((3, 4), 0.01))
    torch.testing.assert_close(
        uniform, F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(3, 4).mean(1)
    )


@pytest.mark.parametrize("base", [{}, {"name": "ssdg", "lambda_triplet": 2.0}, {"name": "label_smoothing"}])
def test_it_adds_the_patches_to_its_base(base, make_batch):
    batch = make_batch(12)
    ours = objective(base=base, weight=0.5)
    options = {key: value for key, value in base.items() if key != "name"}
    alone = build_objective(base.get("name", "erm"), build_detector("image_only", preset="tiny"), 3, **options)
    found, expected = ours.eval()(batch, 0.5), alone.eval()(batch, 0.5)
    torch.testing.assert_close(found["loss"], expected["loss"] + 0.5 * found["patches"])
    assert set(found) == {*expected, "patches"}
    names = {name for name in ours.state_dict() if not name.startswith("detector.")}
    assert names == {f"base.{name}" for name in alone.state_dict() if not name.startswith("detector.")} | {
        "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_patches_of_a_mixed_face_have_their_own_labels(make_batch):
    batch = make_batch(4)
    ours = objective().eval()
    rows, columns = ours.detector.patch_grid
    assert torch.equal(patch_labels(batch, (rows, columns)), batch.label[:, None].repeat(1, rows * columns))
    patches = batch.label[:, None].repeat(1, rows * columns)
    patches[0, :5] = 1
    mixed = replace(batch, patches=patches)
    output = ours.detector.see_patches(batch.image)
    weights = output.patch_attention / output.patch_attention.mean(1, keepdim=True)
    shares = ours.classifier(output.patches).log_softmax(-1)
    picked = torch.stack([shares[face, range(rows * columns), patches[face]] for face in range(4)])
    torch.testing.assert_close(ours(mixed, 0.5)["patches"], -(weights * picked).mean())
    assert ours(mixed, 0.5)["patches"] != ours(batch, 0.5)["patches"]
    with pytest.raises(ValueError, match=r"4 patches, and the detector has .* Leave train.augment.pda.grid out"):
        ours(replace(batch, patches=patches[:, :4]), 0.5)


def test_the_cosine_head_sees_directions(make_batch):
    head = objective(head="cosine").classifier.requires_grad_(False)
    tokens = torch.randn(2, 3, head.weight.shape[1])
    slow = [[[16 * F.cosine_similarity(token, row, dim=0) for row in head.weight] for token in face] for face in tokens]
    torch.testing.assert_close(head(tokens), torch.tensor(slow))
    torch.testing.assert_close(head(tokens * 7), head(tokens))


def test_a_detector_with_a_cue_is_asked_for_its_patches_with_it(make_batch):
    assert torch.isfinite(objective("oanet", base={"name": "ssdg"})(make_batch(12), 0.5)["loss"])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet18", {}, "gives its patch tokens; 'resnet18' has no see_patches, patch_dim"),
        ("image_only", {"base": {"name": "sa_fas"}}, "its base 'sa_fas' looks at them otherwise"),
        ("image_only", {"base": {"name": "apl"}}, "its base 'apl' looks at them otherwise"),
        ("image_only", {"base": {"name": "ssdgg"}}, "did you mean 'ssdg'"),
        ("image_only", {"base": {"lambda_triplet": 1}}, "Unknown option of the objective 'erm'"),
        ("image_only", {"base": "ssdg"}, "base = 'ssdg' of the objective 'apl'; give a block such as"),
        ("image_only", {"head": "cosin"}, "did you mean 'cosine'"),
        ("image_only", {"scale": 0.0}, r"scale = 0.0; it must be in \(0, inf\)"),
        ("image_only", {"weight": -1.0}, r"weight = -1.0; it must be in \[0, inf\)"),
    ],
)
def test_mistakes_are_answered(name, options, words):
    with pytest.raises(ValueError, match=words):
        objective(name, **options)


def test_it_asks_for_what_its_base_asks_for(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    base: Any = build_objective("erm", build_detector("image_only", preset="tiny"), 3)
    asks = {"needs_both_labels": True, "trained_maps": ("a",), "wanted_maps": ("b",), "needed_maps": ("c",)}
    for name, value in asks.items():
        setattr(base, name, value)
    steps: list[float] = []
    base.after_step = steps.append
    monkeypatch.setattr("oanet.objectives.apl._build", lambda *_: base)
    ours: Any = objective("image_only", head="cosine")
    assert {name: getattr(ours, name) for name in asks} | {"trained_maps": ("a",)} == asks
    ours.after_step(0.7)
    assert steps == [0.7]
    share = ours.share = Share()
    ours.observe(make_batch(2))
    assert base.share is share
    assert ours.classifier.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_patches_are_told_apart_in_full_precision(make_batch: MakeBatch) -> None:
    ours = objective()
    seen: list[torch.dtype] = []
    ours.classifier.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = ours.observe(make_batch(2))
    assert seen == [torch.float32]
    assert found.output.patches is None
    assert found.output.patch_attention is None

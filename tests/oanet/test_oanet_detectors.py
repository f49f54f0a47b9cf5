"""Every detector: it learns, is saved, loaded and built by name."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detector_names import TRAINABLE, WITH_CUE

from oanet.batch import FaceBatch
from oanet.detectors import Detector, build_detector, load_detector
from oanet.detectors.base import check_cue
from oanet.detectors.vit import ImageOnly
from oanet.head import normalize_feature
from oanet.objectives import build_objective
from oanet.objectives.base import Share
from oanet.objectives.flip_mcl import MultimodalContrast
from oanet.trunks import detail

MakeBatch = Callable[..., FaceBatch]

# These fit in every run, the others in the slow one.
QUICK = ("image_only", "oanet", "livenessnet", "ssdg_r")
FITTED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TRAINABLE]

# CLIP's two towers at once are upset by large steps, and the scale of their logits is large already.
RATES = dict.fromkeys(("flip_it", "flip_mcl", "gd_fas"), 5e-4)


def tiny(name: str, cue_channels: int = 3, seed: int = 0) -> Detector:
    options: dict[str, Any] = {"cue_channels": cue_channels} if name in WITH_CUE else {}
    return build_detector(name, preset="tiny", seed=seed, **options)


@pytest.mark.parametrize("name", FITTED)
def test_a_few_steps_fit_a_batch(name: str, make_batch: MakeBatch) -> None:
    batch = make_batch(8)
    assert batch.cue is not None
    scale = torch.where(batch.label == 1, 0.3, 1.0).view(-1, 1, 1, 1)
    batch = replace(batch, image=batch.image * scale, cue=batch.cue * scale)
    # A map beside the logits is trained with them.
    objective = build_objective("auxiliary" if name == "auxiliary" else "erm", tiny(name), num_domains=1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=RATES.get(name, 2e-3))
    losses = []
    for _ in range(15):
        loss = objective(batch, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", TRAINABLE)
def test_save_and_load_are_equal(name: str, make_batch: MakeBatch, tmp_path: Path) -> None:
    detector = tiny(name, cue_channels=6).train()
    batch = make_batch(4, cue_channels=6)
    detector(batch.image, batch.cue)  # moves the running statistics
    detector.eval().save_pretrained(tmp_path / "d")
    loaded = load_detector(tmp_path / "d")
    assert type(loaded) is type(detector)
    assert loaded.config == detector.config
    assert not loaded.training
    assert torch.equal(loaded(batch.image, batch.cue).logits, detector(batch.image, batch.cue).logits)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces(tmp_path: Path, make_batch: MakeBatch) -> None:
    image = make_batch(2).image
    for seed in (1, 2):
        detector = tiny("image_only", seed=seed).eval()
        detector.save_pretrained(tmp_path)
        assert torch.equal(load_detector(tmp_path)(image).logits, detector(image).logits)
    tiny("oanet").save_pretrained(tmp_path)
    assert load_detector(tmp_path).name == "oanet"


def test_saving_that_fails_leaves_the_old_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = tiny("image_only")
    detector.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full_disk(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("oanet.detectors.base.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        tiny("image_only", seed=9).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_pretrained_is_not_fetched_again(tmp_path: Path) -> None:
    detector = tiny("image_only")
    detector.config["pretrained"] = True
    detector.save_pretrained(tmp_path)
    assert load_detector(tmp_path).config["pretrained"] is False


def test_loading_errors_teach(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no detector"):
        load_detector(tmp_path)
    tiny("residual_only").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds the detector 'residual_only', not 'image_only'"):
        ImageOnly.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use `load_detector`"):
        Detector.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "embedding_dim": 7}))
    with pytest.raises(ValueError, match="not what was saved together"):
        load_detector(tmp_path)
    config.pop("checksum")
    (tmp_path / "config.json").write_text(json.dumps({**config, "cue_chanels": 3}))
    with pytest.raises(ValueError, match="did you mean 'cue_channels'"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "embedding_dim": 7}))
    with pytest.raises(ValueError, match=r"does not fit its config\.json"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_detector(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="missing beside"):
        load_detector(tmp_path)


def test_building_is_seeded_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, same, other = (tiny("dual_branch", seed=seed).state_dict() for seed in (3, 3, 4))
    build_objective("ssdg", tiny("image_only"), 3)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_config_is_the_constructors_arguments() -> None:
    detector = build_detector("oanet", preset="tiny", cue_channels=6)
    assert detector.config["cue_channels"] == 6
    assert detector.config["image_size"] == 64
    assert detector.config["layer_norm_eps"] == 1e-6
    assert "preset" not in detector.config


def test_options_and_cues_are_checked() -> None:
    with pytest.raises(ValueError, match="did you mean 'dual_branch'"):
        build_detector("dualbranch")
    with pytest.raises(ValueError, match="did you mean 'embedding_dim'"):
        build_detector("image_only", embeding_dim=4)
    for name in WITH_CUE:
        with pytest.raises(ValueError, match=f"{name}' needs a cue"):
            tiny(name)(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="at least one domain"):
        build_objective("erm", tiny("image_only"), 0)
    with pytest.raises(ValueError, match="did you mean 'ssdg'"):
        build_objective("sdg", tiny("image_only"), 2)


def test_image_only_does_not_look_at_the_cue(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    detector = tiny("image_only").eval()
    assert torch.equal(detector(batch.image, batch.cue).logits, detector(batch.image).logits)


def test_residual_only_does_not_look_at_the_image(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    detector = tiny("residual_only").eval()
    other = detector(torch.zeros_like(batch.image), batch.cue)
    assert torch.equal(detector(batch.image, batch.cue).logits, other.logits)


def test_the_checksum_is_of_config_and_weights(tmp_path: Path) -> None:
    tiny("image_only").save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2) + "\n"
    assert next(iter(config)) == "name"
    checksum = config.pop("checksum")
    content = json.dumps(config, sort_keys=True).encode() + (tmp_path / "model.safetensors").read_bytes()
    assert checksum == hashlib.sha256(content).hexdigest()


def test_a_grey_picture_stands_for_nobody() -> None:
    seen: list[Any] = []
    Detector.look_at_nobody(SimpleNamespace(look=lambda *given: seen.extend(given)))  # type: ignore[arg-type]
    picture, box, points = seen
    assert Detector.look(SimpleNamespace(), picture) is picture  # type: ignore[arg-type]
    assert (picture.shape, picture.dtype, picture.min(), picture.max()) == ((128, 128, 3), "uint8", 128, 128)
    assert box.tolist() == [32, 32, 64, 64]
    expected = [[54.4, 49.92], [74.24, 49.92], [64, 64], [56.32, 78.08], [71.68, 78.08]]
    assert points.tolist() == [pytest.approx(point) for point in expected]


def test_files_and_their_folder_are_on_the_disk_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, int]] = []
    plain = os.fsync

    def flush(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), descriptor))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    tiny("image_only").save_pretrained(tmp_path / "a" / "b")
    assert [folder for folder, _ in flushed] == [False, True, False, True]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(flushed[-1][1])


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"image_size": 64}'])
def test_a_config_without_a_name_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json does not name a detector"):
        load_detector(tmp_path)


def test_a_cue_is_a_batch_of_pictures() -> None:
    cue = torch.zeros(2, 3, 8, 8)
    assert check_cue(cue, "x", 3) is cue
    for other in (cue[:, :, 0], cue[None], cue[:, :2]):
        with pytest.raises(ValueError, match="built with cue_channels = 3 but the cue has the shape"):
            check_cue(other, "x", 3)


def test_the_streams_of_gpus_are_left_alone(
    make_batch: MakeBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restoring them would wait for every GPU there is."""
    asked: list[Any] = []
    plain = torch.random.fork_rng

    def fork(**options: Any) -> Any:
        asked.append(options)
        return plain(**options)

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    detector = tiny("image_only")
    detector.save_pretrained(tmp_path)
    load_detector(tmp_path)
    build_objective("erm", detector, 1)
    contrast: Any = SimpleNamespace(share=Share(), min_area=0.5, colours=torch.nn.Identity())
    MultimodalContrast._view(contrast, make_batch(1))
    assert asked == [{"devices": []}] * 4


@pytest.mark.parametrize("name", ["resnet18", "cdcn", "minifasnet", "ssan_r"])
def test_the_embedding_is_the_feature_before_it_is_scaled(name: str, make_batch: MakeBatch) -> None:
    detector = build_detector("minifasnet", networks=["v2"]) if name == "minifasnet" else tiny(name)
    image = torch.rand(3, 3, 80, 80) * 2 - 1 if name == "minifasnet" else make_batch(3).image
    with torch.no_grad():
        output = detector.eval()(image)
        embedding = detector.embedding(output)
    scaled = embedding if name == "ssan_r" else normalize_feature(embedding)
    torch.testing.assert_close(scaled, output.features)
    assert name == "ssan_r" or not torch.allclose(embedding, output.features)


def test_a_high_pass_sees_detail_but_neither_light_nor_colour(make_batch: MakeBatch) -> None:
    image = 0.5 * make_batch(3).image
    lit = image + torch.tensor([0.3, 0.1, -0.2]).view(1, 3, 1, 1)
    plain, passed = (build_detector("resnet18", preset="tiny", high_pass=side).eval() for side in (0, 5))
    with torch.no_grad():
        torch.testing.assert_close(passed(lit).logits, passed(image).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(plain(lit).logits, plain(image).logits, atol=1e-3)
        soft = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
        assert not torch.allclose(passed(soft).logits, passed(image).logits, atol=1e-3)


def test_the_detail_of_a_picture_is_what_its_surroundings_lack() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 0, 0] = 4.0
    seen = detail(image, 3)[0, 0]
    assert seen[0, 0] == 3.0  # of a corner, four pixels are in the picture
    assert seen[1, 1] == pytest.approx(-4 / 9)
    assert seen[3:, 3:].eq(0).all()


@pytest.mark.parametrize("side", [-3, 1, 4, 99])
def test_a_high_pass_without_a_middle_or_larger_than_the_picture_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=r"it must be 0, or odd and from 3 to image_size = 64"):
        build_detector("resnet18", preset="tiny", high_pass=side)

"""FLIP: logits and losses against slow computations, weights and tokenizers of a CLIP, the two views."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from slow_losses import shuffle_norms, slow_contrast, slow_cross_entropy, slow_mlp, values
from torchvision.transforms import v2
from transformers import CLIPModel, CLIPTokenizer

from oanet.batch import FaceBatch
from oanet.clip import VIT_B_16, _word_ids, clip_config, embed_text, prompt_ids, sizes_of, text_length
from oanet.detectors import build_detector, load_detector
from oanet.detectors.flip import PROMPTS
from oanet.objectives import build_objective
from oanet.objectives.flip_mcl import deal, simclr, view_of
from oanet.presets import detector_preset
from oanet.trunks import resize_as_pillow

MakeBatch = Callable[..., FaceBatch]

EVERY_PROMPT = [text for texts in PROMPTS for text in texts]


def tiny(name: str = "flip_it", **options: Any) -> Any:
    return build_detector(name, preset="tiny", **options)


def save_clip(folder: Path) -> CLIPModel:
    """A small CLIP and a tokenizer of single letters, in the layout of a hub's folder."""
    letters = sorted({letter for text in EVERY_PROMPT for letter in text.lower() if letter != " "})
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    options = detector_preset("flip_it", "tiny")["clip_options"]
    options["text"] |= {"vocab_size": len(pieces), "max_position_embeddings": 48}
    model = CLIPModel(clip_config(None, options))
    model.save_pretrained(folder)
    return model.eval()


def test_positions_are_numbered_whatever_transformers_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_clip(tmp_path)
    monkeypatch.setattr(CLIPModel, "initialize_weights", lambda self: None)
    clip = build_detector("flip_it", clip=str(tmp_path)).clip
    for embeddings in (clip.vision_model.embeddings, clip.text_model.embeddings):
        assert embeddings.position_ids[0].tolist() == list(range(embeddings.position_embedding.num_embeddings))


def test_six_prompts_a_class_none_twice() -> None:
    assert [len(texts) for texts in PROMPTS] == [6, 6]
    assert len({text.lower() for text in EVERY_PROMPT}) == 12


def test_logits_are_scaled_cosines_of_picture_and_words(make_batch: MakeBatch) -> None:
    """Once more with transformers' own forward, one picture and one prompt at a time, and float64 sums by hand."""
    detector = tiny(seed=3).eval()
    image = make_batch(3).image
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (((image.permute(0, 2, 3, 1) + 1) / 2 - mean) / deviation).permute(0, 3, 1, 2)
    classes = [[0.0] * 64 for _ in range(2)]
    with torch.no_grad():
        answer = detector(image)
        for place, ids in enumerate(detector.prompt_ids):
            end = ids.tolist().index(31) + 1
            out = detector.clip(input_ids=ids[None, :end], pixel_values=pixels[:1])
            states = out.text_model_output.last_hidden_state[0, end - 1]
            for column, value in enumerate(detector.clip.text_projection(states).tolist()):
                classes[place // 6][column] += value / 6
        for row in range(3):
            out = detector.clip(input_ids=detector.prompt_ids[:1], pixel_values=pixels[row : row + 1])
            face = out.image_embeds[0].tolist()
            for label, words in enumerate(classes):
                length = math.sqrt(sum(w * w for w in words)) * math.sqrt(sum(f * f for f in face))
                cosine = sum(w * f for w, f in zip(words, face, strict=True)) / length
                expected = math.exp(detector.clip.logit_scale.item()) * cosine
                assert answer.logits[row, label].item() == pytest.approx(expected, abs=2e-4)
    torch.testing.assert_close(answer.features.norm(dim=1), torch.ones(3))


def test_words_are_embedded_once_until_the_weights_change(make_batch: MakeBatch) -> None:
    detector, other = tiny(seed=1).eval(), tiny(seed=2).eval()
    image, calls = make_batch(2).image, []
    detector.clip.text_model.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            words = detector.embed_prompts()
            rounded = detector.compare(words[0], words)
        assert torch.equal(rounded.logits, detector.compare(words[0], words).logits)
        first = detector(image).logits
        assert torch.equal(detector(image).logits, first)
        assert len(calls) == 1
        assert torch.equal(words, detector._embed())
        calls.pop()
        wrapped = torch.nn.ModuleDict({"detector": detector})  # weights may come through what owns it
        wrapped.load_state_dict({f"detector.{name}": value for name, value in other.state_dict().items()})
        assert torch.equal(detector(image).logits, other(image).logits)
        assert len(calls) == 2
        detector.train()
        detector.clip.text_projection.weight[:, 0].add_(0.5)
        assert not torch.allclose(detector.eval()(image).logits, other(image).logits)
        assert detector.double().prompt_ids.dtype == torch.int64
        assert detector._embedded is None
    detector.float()(image).logits.sum().backward()
    assert detector.clip.text_projection.weight.grad.abs().sum() > 0, "with gradients nothing is remembered"


def test_what_follows_the_end_of_a_prompt_does_not_count() -> None:
    detector = tiny().eval()
    ids = detector.prompt_ids.clone()
    with torch.no_grad():
        whole = detector.clip.text_projection(detector.clip.text_model(input_ids=ids).pooler_output)
        torch.testing.assert_close(embed_text(detector.clip, ids[:, : text_length(ids)]), whole)


def test_weights_sizes_and_words_come_from_a_folder(tmp_path: Path, make_batch: MakeBatch) -> None:
    model = save_clip(tmp_path / "clip")
    image = make_batch(2).image
    for name in ("flip_it", "flip_v"):
        detector = build_detector(name, clip=str(tmp_path / "clip"), seed=8).eval()
        for part, value in model.vision_model.state_dict().items():
            tower = detector.tower if name == "flip_v" else detector.clip.vision_model
            assert torch.equal(tower.state_dict()[part], value), part
        detector.save_pretrained(tmp_path / name)
        saved = json.loads((tmp_path / name / "config.json").read_text())
        assert saved["clip"] is None
        assert saved["clip_options"] == sizes_of(model.config)
        loaded = load_detector(tmp_path / name)
        with torch.no_grad():
            assert torch.equal(loaded(image).logits, detector(image).logits)
    config = clip_config(str(tmp_path / "clip"), None)
    ids = prompt_ids(str(tmp_path / "clip"), config, ["a real face"])
    letters = json.loads((tmp_path / "clip" / "tokenizer.json").read_text())["model"]["vocab"]
    spelled = ["<|startoftext|>", "a</w>", "r", "e", "a", "l</w>", "f", "a", "c", "e</w>", "<|endoftext|>"]
    assert ids[0, : len(spelled)].tolist() == [letters[piece] for piece in spelled]
    assert set(ids[0, len(spelled) :].tolist()) == {letters["<|endoftext|>"]}


def test_folders_that_are_not_a_whole_clip_are_refused(tmp_path: Path) -> None:
    save_clip(tmp_path)
    clip = str(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="does not know the prompts' words"):
        build_detector("flip_it", clip=clip)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(OSError, match="its tokenizer cannot be loaded"):
        build_detector("flip_it", clip=clip)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"its weights cannot be loaded .*\. Check the folder\.$"):
        build_detector("flip_v", clip=clip)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="is a 'bert'; a CLIP is needed"):
        build_detector("flip_v", clip=clip)


def test_weights_of_half_precision_are_taken_in_full_and_all_must_be_there(tmp_path: Path) -> None:
    save_clip(tmp_path)
    state = {name: value.half() for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    clip = build_detector("flip_it", clip=str(tmp_path)).clip
    for parameter in clip.parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.untyped_storage().filename, "a file that someone may cut stands behind it"
    state.pop("logit_scale")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lack logit_scale: they belong to another model"):
        build_detector("flip_it", clip=str(tmp_path))


def test_simclr_is_its_equation() -> None:
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(2))
    both = torch.cat([first, second]).double()
    unit = [row / row.norm() for row in both]
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = sum(math.exp(float(unit[i] @ unit[k]) / 0.1) for k in range(10) if k != i)
        total -= math.log(math.exp(float(unit[i] @ unit[partner]) / 0.1) / others)
    assert simclr(first, second, 0.1).item() == pytest.approx(total / 10, rel=1e-5)


def test_each_face_deals_half_of_its_prompts() -> None:
    first, second = deal(200, 6)
    assert (first.sum(dim=1) == 3).all()
    assert (first + second == 1).all()
    assert len(torch.unique(first, dim=0)) == 20, "every half comes up among so many faces"


def test_the_public_code_deals_with_replacement() -> None:
    first, second = deal(4000, 6, released=True)
    assert (first.sum(dim=1) == 3).all()
    assert torch.equal(second, (first == 0).long())
    repeated = (first > 1).any(dim=1).double().mean().item()
    assert repeated == pytest.approx(1 - 6 * 5 * 4 / 6**3, abs=0.03)  # 44 % of the draws


def test_every_part_of_flip_mcl_is_its_equation(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six faces with two other pictures as their views; the first view is given the first three prompts."""
    batch = make_batch(6)
    options = {"hidden": 16, "projection_dim": 8, "lambda_contrastive": 0.5, "lambda_consistency": 3.0}
    objective: Any = build_objective("flip_mcl", tiny("flip_mcl"), 2, **options)
    shuffle_norms(objective.projector)
    pictures = [batch.image.flip(-1), -batch.image]
    given, half = iter(pictures), torch.arange(6).lt(3).long().expand(6, 6)
    monkeypatch.setattr(objective, "_view", lambda batch: next(given))
    monkeypatch.setattr("oanet.objectives.flip_mcl.deal", lambda count, prompts, released: (half, 1 - half))
    result = objective(batch, 0.0)

    detector = objective.detector
    with torch.no_grad():
        views = [values(detector.embed_images(picture)) for picture in pictures]
        prompts, logits = values(detector.embed_prompts()), values(detector(batch.image).logits)
    squares = []
    for first, second, label in zip(*views, batch.label.tolist(), strict=True):
        halves = prompts[label, :3].mean(axis=0), prompts[label, 3:].mean(axis=0)
        one, other = (
            face @ half / np.linalg.norm(face) / np.linalg.norm(half)
            for face, half in zip((first, second), halves, strict=True)
        )
        squares.append((one - other) ** 2)
    projected = np.concatenate([slow_mlp(view, objective.projector) for view in views])
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    expected = {
        "cross_entropy": np.mean(slow_cross_entropy(logits, batch.label.tolist())),
        "contrastive": slow_contrast(unit @ unit.T / 0.1, [*range(6), *range(6)]),
        "consistency": np.mean(squares),
    }
    for name, value in expected.items():
        assert result[name].item() == pytest.approx(value, rel=1e-3, abs=1e-9), name
    total = expected["cross_entropy"] + 0.5 * expected["contrastive"] + 3.0 * expected["consistency"]
    assert result["loss"].item() == pytest.approx(total, rel=1e-4)


def test_the_mlp_of_flip_mcl_has_the_published_sizes() -> None:
    with torch.device("meta"):
        objective = build_objective("flip_mcl", build_detector("flip_mcl"), 3)
    sizes = [tuple(layer.weight.shape) for layer in objective.projector if isinstance(layer, torch.nn.Linear)]  # type: ignore[operator, union-attr]
    assert sizes == [(4096, 512), (4096, 4096), (256, 4096)]


def test_views_stay_pictures_differ_and_repeat(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    batch.image[1] = batch.image[0]
    objective: Any = build_objective("flip_mcl", tiny("flip_mcl"), 1, hidden=8)
    torch.manual_seed(5)
    first, second = objective._view(batch), objective._view(batch)
    torch.manual_seed(5)
    assert torch.equal(objective._view(batch), first)
    assert not torch.allclose(first, second, atol=0.05)
    assert not torch.allclose(first[0], first[1], atol=0.05), "equal faces are seen differently"
    assert first.abs().max() <= 1 + 1e-6


def test_a_view_is_that_of_the_public_code(make_batch: MakeBatch) -> None:
    colours = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    crop, jitter, grey, blur, mirror = view_of(224, 0.08, colours).transforms  # type: ignore[attr-defined]
    assert (tuple(crop.size), crop.scale, crop.ratio) == ((224, 224), (0.08, 1.0), (3 / 4, 4 / 3))
    assert (jitter.p, grey.p, blur.p, mirror.p) == (0.8, 0.2, 0.5, 0.5)
    assert jitter.transforms == [colours]
    assert (tuple(blur.transforms[0].kernel_size), blur.transforms[0].sigma) == ((13, 13), [0.1, 2.0])
    assert crop.antialias
    face = make_batch(1).image[0] / 2 + 0.5
    small: Any = view_of(64, 0.08, colours)
    assert tuple(small.transforms[3].transforms[0].kernel_size) == (5, 5)
    assert small.transforms[3].transforms[0].sigma == pytest.approx([0.1 * 64 / 224, 2.0 * 64 / 224])
    seen = torch.stack([small(face) for _ in range(60)])
    assert seen.shape == (60, 3, 64, 64)
    assert ((seen.amax(1) - seen.amin(1)).amax((1, 2)) < 1e-5).any(), "grey ones are among them"


def test_views_are_made_of_pictures_from_zero_to_one(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(3)
    asked: list[Any] = []
    objective: Any = build_objective("flip_mcl", tiny("flip_mcl"), 1, hidden=8, min_area=0.3, jitter=2.0)
    assert objective.colours.brightness == objective.colours.contrast == objective.colours.saturation
    assert objective.colours.brightness == pytest.approx((0.2, 1.8))
    assert objective.colours.hue == pytest.approx((-0.2, 0.2))

    def halved(*given: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        asked.append(given)
        return lambda face: face.clamp(0.25, 0.75)

    monkeypatch.setattr("oanet.objectives.flip_mcl.view_of", halved)
    torch.testing.assert_close(objective._view(batch), batch.image.clamp(-0.5, 0.5))
    assert asked == [(64, 0.3, objective.colours)]


def test_words_are_numbered_between_two_marks() -> None:
    assert _word_ids(["a B", "b c"], 6) == [[4, 1, 2, 5], [4, 2, 3, 5]]
    with pytest.raises(ValueError, match="vocab_size = 5; the prompts have 3 words, so at least 6 is needed"):
        _word_ids(["a B", "b c"], 5)
    exact = clip_config(None, {"text": {"vocab_size": 23, "max_position_embeddings": 10}})
    ids = prompt_ids(None, exact, EVERY_PROMPT)
    assert ids.shape == (12, 10)
    assert (ids[:, 0].unique().tolist(), int(ids.max()), text_length(ids)) == ([21], 22, 10)
    with pytest.raises(ValueError, match="reads 9 tokens and has a vocabulary of 23; the prompts need 10 and 23"):
        prompt_ids(None, clip_config(None, {"text": {"vocab_size": 23, "max_position_embeddings": 9}}), EVERY_PROMPT)


def test_sizes_without_a_clip_are_those_of_vit_b_16() -> None:
    text, whole = VIT_B_16["text"], sizes_of(clip_config(None, None))
    more = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    assert whole == {"vision": VIT_B_16["vision"] | more, "text": text | more, "projection_dim": 512}
    for given, end in (({"vocab_size": 50}, 49), ({"vocab_size": 50, "eos_token_id": 7}, 7)):
        found = clip_config(None, {"text": given, "projection_dim": 8})
        assert (found.text_config.eos_token_id, found.text_config.bos_token_id) == (end, 48)
        assert found.projection_dim == 8


def test_a_clip_that_cannot_be_opened_says_where_to_look() -> None:
    with pytest.raises(OSError, match=r"could not be opened: .*Use a folder with its files, or connect"):
        clip_config("no/such/folder/clip", None)


def test_pictures_are_made_smaller_as_pillow_makes_them() -> None:
    pixels = torch.randint(256, (48, 48, 3), dtype=torch.uint8)
    expected = torch.from_numpy(np.array(Image.fromarray(pixels.numpy()).resize((42, 42)))).permute(2, 0, 1)
    found = resize_as_pillow((pixels.permute(2, 0, 1) / 127.5 - 1)[None], 42)[0]
    assert ((found + 1) * 127.5 - expected).abs().max() < 1.01  # a tie of Pillow's fixed point


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"min_area": 0.0}, "min_area = 0.0"),
        ({"jitter": 6.0}, "jitter = 6.0"),
        ({"lambda_consistency": -1.0}, "lambda_consistency = -1.0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_objective("flip_mcl", tiny("flip_mcl"), 2, **options)

"""What every baseline promises: a cue is a function of its face, options have names, what is saved loads equal."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch

from dfg.baselines import (
    BASELINE_PRESETS,
    BASELINES,
    BASELINES_WITH_TIMESTEP,
    baseline_class,
    build_baseline,
    load_baseline,
)
from dfg.baselines.anoddpm import AnoDdpmObjective
from dfg.baselines.deep_svdd import DeepSvddObjective
from dfg.baselines.memae import MemAEObjective
from dfg.baselines.one_call import OneCallObjective

SMALL: dict[str, dict[str, Any]] = {
    "memae": {"channels": (4, 8, 8), "slots": 20, "shrink": 0.03},
    "deep_svdd": {"channels": (4, 8, 8), "bottleneck": 8},
    "anoddpm": {"channels": (4, 8), "norm_num_groups": 4},
    "one_call": {"channels": (8, 16)},
}
OBJECTIVES: dict[str, Any] = {
    "memae": MemAEObjective,
    "deep_svdd": DeepSvddObjective,
    "anoddpm": AnoDdpmObjective,
    "one_call": lambda model: OneCallObjective(model, lambda image, keys: image / 2),
}
STEPS = {"anoddpm": {"timestep": 40, "calls": 3}}


@pytest.fixture(params=BASELINES)
def name(request) -> str:
    return request.param


@pytest.fixture
def model(name):
    return build_baseline(name, "tiny", 32, **SMALL[name])


def restore(model, image: torch.Tensor, keys: list[str]) -> torch.Tensor:
    return model.reconstruct(image, keys, **STEPS.get(model.name, {}))


def batch_of(image: torch.Tensor) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    timesteps = torch.tensor([0, 10, 500, 999])[: len(image)]
    noise = torch.randn(image.shape, generator=generator)
    return {"image": image, "noise": noise, "timesteps": timesteps, "keys": [""] * len(image)}


def test_options_are_the_constructors(name):
    signature = inspect.signature(baseline_class(name).__init__)
    assert next(iter(list(signature.parameters)[1:])) == "image_size"
    for preset in BASELINE_PRESETS[name].values():
        assert tuple(signature.parameters)[2:] == tuple(preset)
    assert set(BASELINES_WITH_TIMESTEP) == {
        other for other in BASELINES if "timestep" in inspect.signature(baseline_class(other).reconstruct).parameters
    }


def test_the_paper_preset_is_the_constructors_default(name):
    given = inspect.signature(baseline_class(name).__init__).parameters
    paper = BASELINE_PRESETS[name]["compact" if name == "one_call" else "paper"]
    assert {option: given[option].default for option in paper} == paper
    assert given["image_size"].default == 256


@pytest.mark.parametrize(
    ("which", "count"), [("memae", 2511491), ("deep_svdd", 18840035), ("anoddpm", 118931459), ("one_call", 2386480)]
)
def test_the_paper_preset_has_its_size(which, count):
    with torch.device("meta"):
        model = baseline_class(which)()
    assert sum(p.numel() for p in model.parameters()) == count
    if which == "anoddpm":
        assert not model._alphas_cumprod.is_meta, "the schedule has values wherever the network is built"


def test_a_restoration_is_a_function_of_its_face(model, faces, keys):
    model.eval()
    whole = restore(model, faces, keys)
    assert whole.shape == faces.shape
    assert whole.dtype == torch.float32
    assert whole.abs().max() <= 1
    assert torch.equal(whole, restore(model, faces, keys))
    singles = torch.cat([restore(model, faces[i : i + 1], keys[i : i + 1]) for i in (2, 0, 1, 3)])
    torch.testing.assert_close(whole[[2, 0, 1, 3]], singles, atol=2e-5, rtol=0)


def test_training_mode_does_not_change_it_and_stays(model, faces, keys):
    # Batch statistics must differ from the initial ones, or both modes would be alike.
    OBJECTIVES[model.name](model)(batch_of(faces))
    model.train()
    trained = restore(model, faces, keys)
    assert model.training
    assert not trained.requires_grad
    model.eval()
    assert torch.equal(trained, restore(model, faces, keys))


def test_saved_and_loaded_is_the_same(model, faces, keys, tmp_path):
    OBJECTIVES[model.name](model)(batch_of(faces))
    if model.name == "deep_svdd":
        model.fix_center([faces])
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").is_file()
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    loaded = load_baseline(tmp_path / "model")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert torch.equal(restore(loaded, faces, keys), restore(model, faces, keys))
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_every_parameter_learns(model, faces):
    if model.name == "deep_svdd":
        model.fix_center([faces])
    if model.name == "one_call":
        torch.nn.init.normal_(model.head[2].weight)  # its zeros stop the gradient of the first step
    objective = OBJECTIVES[model.name](model.train())
    assert all(key.startswith("model.") for key in objective.state_dict())
    parts = objective(batch_of(faces), 0.5)
    assert all(value.ndim == 0 and value.isfinite() for value in parts.values())
    parts["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    # One gradient may vanish by chance, not all of a layer.
    assert sum(bool(p.grad.any()) for p in model.parameters()) > 0.9 * len(list(model.parameters()))


def test_training_lowers_the_loss(model, faces):
    objective = OBJECTIVES[model.name](model.train())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = objective(batch_of(faces))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_weights_follow_from_the_seed_alone(name):
    torch.manual_seed(5)
    first = build_baseline(name, "tiny", 32, seed=3, **SMALL[name]).state_dict()
    drawn = torch.rand(1)
    second = build_baseline(name, "tiny", 32, seed=3, **SMALL[name]).state_dict()
    other = build_baseline(name, "tiny", 32, seed=4, **SMALL[name]).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize(
    ("shape", "scale", "words"),
    [((2, 3, 48, 48), 1.0, "32x32"), ((2, 1, 32, 32), 1.0, "float tensors"), ((2, 3, 32, 32), 200.0, r"\[-1, 1\]")],
)
def test_what_are_no_such_faces_is_refused(model, shape, scale, words):
    with pytest.raises(ValueError, match=words):
        restore(model, torch.ones(shape) * scale, ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("memea", "tiny", 32), {}, "did you mean 'memae'"),
        (("memae", "large", 32), {}, "preset of memae 'large'"),
        (("memae", "tiny", 32), {"slot": 3}, "did you mean 'slots'"),
        (("memae", "tiny", 40), {}, "multiple of 16"),
        (("memae", "tiny", 32), {"slots": 0}, "slots=0"),
        (("memae", "tiny", 32), {"shrink": 1.0}, r"shrink=1\.0"),
        (("memae", "tiny", 32), {"shrink": -0.1}, r"shrink=-0\.1"),
        (("memae", "tiny", 0), {}, "image_size=0 must be a multiple of 16"),
        (("anoddpm", "tiny", 32), {"attention_levels": -1}, "attention_levels=-1"),
        (("anoddpm", "tiny", 32), {"attention_levels": 5}, "attention_levels=5 be between 0 and 4"),
        (
            ("vdd", "tiny", 32),
            {},
            r"unknown baseline 'vdd': did you mean 'deep_svdd'\? Allowed: memae, deep_svdd, anoddpm, one_call",
        ),
        (("xyz", "tiny", 32), {}, "unknown baseline 'xyz': Allowed: memae"),
        (("deep_svdd", "tiny", 8), {}, "multiple of 16"),
        (("anoddpm", "tiny", 36), {}, "multiple of 8"),
        (("anoddpm", "tiny", 32), {"attention_levels": 9}, "attention_levels=9"),
    ],
)
def test_what_cannot_be_built_says_what_can(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        build_baseline(*arguments, **options)


def test_the_smallest_of_each_kind_is_built():
    with torch.device("meta"):
        build_baseline("memae", "tiny", 16, slots=1, shrink=0.0)
        build_baseline("anoddpm", "tiny", 32, attention_levels=0, channels=(8, 8))
        unet = build_baseline("anoddpm", "tiny", 32, attention_levels=2, channels=(8, 8)).unet
    assert unet.config["sample_size"] == 32
    assert [len(block.resnets) for block in unet.down_blocks] == [1, 1]


def test_loading_asks_for_nothing_but_the_folders_safetensors(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"_class_name": "MemAE"}')
    monkeypatch.setattr(baseline_class("memae"), "from_pretrained", lambda place, **options: (place, options))
    options = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False}
    assert load_baseline(str(tmp_path)) == (tmp_path, options)


def test_pickled_weights_are_not_loaded(tmp_path):
    build_baseline("memae", "tiny", 16, **SMALL["memae"]).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="holds no baseline that can be loaded"):
        load_baseline(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"_class_name": "UNet2DModel"}', '{"_class_name": "MemAE"}'])
def test_a_folder_without_a_baseline_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_baseline(tmp_path)


def test_the_configuration_is_plain_json(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config) - {"_class_name", "_diffusers_version", "image_size"} == set(
        BASELINE_PRESETS[model.name]["tiny"]
    )

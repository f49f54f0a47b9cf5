"""A generator's folder chooses among known classes and holds data alone; nothing of it is imported or run before."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from dfg.known import check_files, check_generator
from dfg.pipeline import DeFakePipeline

INDEX = {
    "_class_name": "DeFakePipeline",
    "_diffusers_version": "0.42.1",
    "autoencoder": ["dfg.autoencoder", "PatchAutoencoder"],
    "identity_encoder": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
EVIL = "open('ran', 'w').close()\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder that is well formed up to its weights, which are not reached; code in it would leave a file here."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "generator"
    for part in ("autoencoder", "scheduler", "unet"):
        (place / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (place / part / name).write_text(json.dumps({"_class_name": INDEX[part][1]}))
    (place / "model_index.json").write_text(json.dumps(INDEX))
    check_generator(place)
    return place


def refused(folder: Path, words: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match=words):
        DeFakePipeline.from_pretrained(folder)
    assert not Path("ran").exists()
    assert {name for name in set(sys.modules) - before if name.split(".")[0] in ("antigravity", "evil", "os2")} == set()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("unet", ["os", "system"]),
        ("unet", ["antigravity", "UNet2DConditionModel"]),
        ("unet", ["diffusers_modules.local.evil", "Evil"]),
        ("unet", ["diffusers", "StableDiffusionPipeline"]),
        ("unet", ["transformers", "AutoModel"]),
        ("unet", ["diffusers", "UNet2DConditionModel", "more"]),
        ("unet", [["diffusers"], "UNet2DConditionModel"]),
        ("unet", {"a": 1}),
        ("unet", 0.5),
        ("autoencoder", ["dfg.pipeline", "DeFakePipeline"]),
        ("autoencoder", ["dfg.unet", "PreconditionedUNet"]),
        ("scheduler", ["subprocess", "Scheduler"]),
        ("scheduler", ["sched", "scheduler"]),
        ("scheduler", ["diffusers", "UNet2DConditionModel"]),
        ("safety_checker", ["diffusers", "UNet2DConditionModel"]),
        ("_class_name", ["evil", "Evil"]),
        ("_class_name", "StableDiffusionPipeline"),
        ("_class_name", None),
    ],
)
def test_foreign_class_is_refused(folder, part, value):
    (folder / "model_index.json").write_text(json.dumps({**INDEX, part: value}))
    refused(folder, "wants|is of the class")


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "UNet2DConditionModel", "auto_map": {"AutoModel": "evil.Evil"}},
        {"quantization_config": {"quant_method": "evil"}},
        {"_class_name": "FluxTransformer2DModel"},
        {"weight_map": {"a": "../../secret.safetensors"}},
    ],
)
def test_component_names_no_other_code_and_no_other_files(folder, config):
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    refused(folder, "that is not loaded")


@pytest.mark.parametrize(
    "name",
    ["evil.py", "unet/evil.py", "unet/diffusers.PY", "unet/a/b/evil.pyc", "evil.cpython-311-x86_64-linux-gnu.so",
     "unet/diffusion_pytorch_model.bin", "unet/model.ckpt", "data.pkl", ".hidden/evil.py", "DeFakePipeline.py"],
)  # fmt: skip
def test_file_that_might_be_run_is_refused(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(EVIL)
    refused(folder, "neither settings nor weights")


def test_link_out_of_the_folder_is_refused_and_the_hubs_own_is_not(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "unet" / "config.json").unlink()
    (folder / "unet" / "config.json").symlink_to(tmp_path / "secret.json")
    refused(folder, "is a link out of the folder")
    (folder / "unet" / "config.json").unlink()
    (folder / "vae").symlink_to(tmp_path)
    refused(folder, "is a link out of the folder")
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "1234").write_text("{}")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(Path("..", "..", "blobs", "1234"))
    # Of files that came by Xet, the repository's blobs are links to those of the whole cache.
    shared = tmp_path / "blobs" / "56"
    shared.mkdir(parents=True)
    (shared / "5678").write_text("{}")
    (blobs / "5678").symlink_to(Path("..", "..", "blobs", "56", "5678"))
    (snapshot / "generator" / "unet").mkdir(parents=True)
    (snapshot / "generator" / "unet" / "config.json").symlink_to(Path("..", "..", "..", "..", "blobs", "5678"))
    for place in (snapshot, snapshot / "generator", snapshot / "generator" / "unet"):
        check_files(place)
    (snapshot / "generator" / "away.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ValueError, match="is a link out of the folder"):
        check_files(snapshot / "generator")


def test_what_is_no_file_is_refused(folder):
    os.mkfifo(folder / "unet" / "weights.safetensors")
    refused(folder, "neither settings nor weights")


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000])
def test_broken_index_is_one_sentence(folder, content):
    (folder / "model_index.json").write_bytes(content)
    refused(folder, r"model_index\.json")


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        (
            "unet",
            ["os", "system"],
            r'wants unet = \["os", "system"\]; allowed: PreconditionedUNet, UNet2DConditionModel\.',
        ),
        ("scheduler", ["os", "DDIMScheduler"], "allowed: diffusers' schedulers"),
        ("scheduler", ["diffusers", "ddimScheduler"], "allowed: diffusers' schedulers"),
        ("scheduler", ["diffusers", "DDIMSchedulers"], "allowed: diffusers' schedulers"),
        ("scheduler", ["diffusers", "DDIMScheduler", "x"], "allowed: diffusers' schedulers"),
        ("vae", ["diffusers", "AutoencoderKL"], "allowed: no such part"),
        ("unet", ["diffusers", 3], "wants unet"),
        ("unet", "x" * 78, f'unet = "{"x" * 78}";'),
        ("unet", "x" * 79, f'unet = "{"x" * 79}\\.\\.\\.;'),
        ("_class_name", "Evil", 'is of the class "Evil", not DeFakePipeline'),
    ],
)
def test_what_is_allowed_is_said(folder, part, value, words):
    (folder / "model_index.json").write_text(json.dumps({**INDEX, part: value}))
    with pytest.raises(ValueError, match=words):
        check_generator(folder)


def test_what_the_caller_brings_and_what_is_no_part_is_not_looked_at(folder):
    index = {**INDEX, "unet": ["os", "system"], "scheduler": ["diffusers", "EulerDiscreteScheduler"], "note": "text"}
    index |= {
        "token_projection": ["dfg.tokens", "TokenProjection"],
        "identity_encoder": ["dfg.identity", "IdentityEncoder"],
    }
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps(index))
    check_generator(folder, given=["unet"])
    with pytest.raises(ValueError, match="not Other"):
        check_generator(folder, "Other", ["unet"])


@pytest.mark.parametrize("ending", [".json", ".safetensors", ".onnx", ".md", ".txt", ".lock", ".metadata", "", ".JSON"])
def test_data_may_lie_in_the_folder(folder, ending):
    (folder / "unet" / f"more{ending}").write_text("{}")
    check_generator(folder)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"auto_map": {"a": "b"}}, "names auto_map"),
        ({"custom_pipelines": "x"}, "names custom_pipelines"),
        ({"quantization_config": {"a": 1}}, "names quantization_config"),
        ({"_class_name": "UNet2DModel"}, "names another class than the index"),
        ({"weight_map": {}}, "weights in other files"),
        ([], r"config\.json holds \[\] instead of settings"),
    ],
)
def test_what_a_component_names_is_said(folder, config, words):
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=words):
        check_generator(folder)


def test_every_ending_is_allowed_but_those_of_code(tmp_path):
    for ending in (".bin", ".pt", ".csv"):
        (tmp_path / f"weights{ending}").write_text("")
    check_files(tmp_path)
    for ending in (".py", ".pyc", ".so", ".pyw", ".pyd", ".dll", ".dylib", ".DLL"):
        (tmp_path / f"a{ending}").write_text("")
        with pytest.raises(ValueError, match="neither settings nor weights"):
            check_files(tmp_path)
        (tmp_path / f"a{ending}").unlink()

"""Saved generators: checksums are compared, places leave no trace, and no file stays behind a loaded model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.seals import SEAL_NAME, seal


@pytest.fixture
def folder(tmp_path, autoencoder, unet, encoder):
    DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder).save_pretrained(tmp_path / "pipeline")
    seal(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def restored(pipeline, faces):
    return pipeline(faces, timestep=61, num_inference_steps=50, keys=list("abcd")).image


def test_a_loaded_generator_does_not_need_its_files(folder, faces):
    pipeline = DeFakePipeline.from_pretrained(folder)
    before = restored(pipeline, faces)
    for path in folder.rglob("*.safetensors"):
        with path.open("r+b") as stream:
            stream.write(b"\0" * path.stat().st_size)
            stream.truncate(0)
    assert torch.equal(restored(pipeline, faces), before)
    tensors = [tensor for part in (pipeline.unet, pipeline.identity_encoder) for tensor in part.parameters()]
    assert not any(tensor.untyped_storage().filename for tensor in tensors)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "autoencoder/diffusion_pytorch_model.safetensors",
        "identity_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_flipped_bit_in_any_part_is_noticed(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is not what was written"):
        DeFakePipeline.from_pretrained(folder)


def test_one_part_alone_is_checked_too(folder, encoder):
    (folder / "identity_encoder" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is not what was written"):
        type(encoder).from_pretrained(folder, subfolder="identity_encoder")


def test_the_place_of_parts_leaves_no_trace_and_saving_again_makes_checksums_invalid(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere")
    first, second = (DeFakePipeline.from_pretrained(place) for place in (folder, tmp_path / "elsewhere"))
    first.save_pretrained(tmp_path / "a")
    second.save_pretrained(tmp_path / "b")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.*") if path.name != SEAL_NAME)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert "_name_or_path" not in json.loads((tmp_path / "a" / "unet" / "config.json").read_text())
    second.unet.conv_out.weight.data.zero_()
    second.save_pretrained(folder)
    DeFakePipeline.from_pretrained(folder)

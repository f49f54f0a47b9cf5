"""Saved generators: checksums are compared, places leave no trace, and no file stays behind a loaded model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
import torch

from dfg import seals
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.seals import SEAL_NAME, check, names, seal, sha256


@pytest.fixture
def folder(tmp_path, autoencoder, unet, encoder):
    DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder).save_pretrained(tmp_path / "pipeline")
    seal(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def restored(pipeline, faces):
    return pipeline(faces, timestep=1, num_inference_steps=10, keys=list("abcd")).image


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
        assert (tmp_path / "a" / name).read_bytes() == (folder / name).read_bytes(), name
    assert "_name_or_path" not in json.loads((tmp_path / "a" / "unet" / "config.json").read_text())
    second.unet.conv_out.weight.data.zero_()
    second.save_pretrained(folder)
    DeFakePipeline.from_pretrained(folder)


def test_the_checksums_are_those_of_files_that_decide_something(tmp_path):
    for name in (
        "b/c/weights.bin",
        "a.json",
        ".hidden",
        ".git/config",
        "README.md",
        "a.LOCK",
        "desktop.ini",
        "b/empty",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"" if name == "b/empty" else b"abc")
    (tmp_path / "b" / SEAL_NAME).write_text("{}")
    assert names(tmp_path) == ["a.json", "b/c/weights.bin", "b/empty"]
    seal(tmp_path)
    digests = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names(tmp_path)}
    lines = [
        f'    "{name}": {{\n      "bytes": {0 if name == "b/empty" else 3},\n      "sha256": "{digest}"\n    }}'
        for name, digest in digests.items()
    ]
    assert (tmp_path / SEAL_NAME).read_text() == '{\n  "files": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    assert not list(tmp_path.glob(f".{SEAL_NAME}*"))


def test_checksums_are_looked_for_three_folders_above_a_file(tmp_path):
    for depth in (3, 4):
        deep = tmp_path / str(depth) / "/".join("abcd"[:depth]) / "weights.bin"
        deep.parent.mkdir(parents=True)
        deep.write_bytes(b"abc")
        seal(tmp_path / str(depth))
        deep.write_bytes(b"abd")
        if depth == 3:
            with pytest.raises(ValueError, match="checksum differs"):
                check(deep)
        else:
            check(deep)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("3", r"is damaged \(TypeError\)"),
        ("[]", r"is damaged \(TypeError\)"),
        ("{}", r"is damaged \(KeyError\)"),
        ('{"files": {"a.json": 3}}', r"is damaged \(TypeError\)"),
        ('{"files": [{}], "x": {}}', r"is damaged \(AttributeError\)"),
        ('{"files": {"a.json": {"bytes": "x", "sha256": ""}}}', r"is damaged \(ValueError\)"),
        ("[" * 100_000, "is damaged"),
        ('{"files": {"/a.json": {"bytes": 1, "sha256": ""}}}', "lists '/a.json', which is not a path inside"),
        ('{"files": {"b/../a.json": {"bytes": 1, "sha256": ""}}}', "lists 'b/../a.json', which is not a path inside"),
    ],
)
def test_damaged_checksums_are_one_sentence(tmp_path, content, words):
    (tmp_path / SEAL_NAME).write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        check(tmp_path)
    assert f"Remove {tmp_path} and run" in str(error.value)


def test_a_file_is_read_again_until_the_clock_has_moved_on(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(b"abc")
    stat = (tmp_path / "a.json").stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    read = []
    monkeypatch.setattr(seals.hashlib, "sha256", lambda: read.append(1) or hashlib.new("sha256"))
    for now in (2_000_000_000, 2_000_000_000, 2_000_000_001, 5_000_000_000):
        monkeypatch.setattr(seals.time, "time_ns", lambda now=now: changed + now)
        sha256(tmp_path / "a.json")
    assert len(read) == 3  # within two seconds each time; once known, no more


def test_checksums_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    seal(tmp_path)
    assert flushed == [(tmp_path / SEAL_NAME).stat().st_size]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        seal(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", SEAL_NAME]

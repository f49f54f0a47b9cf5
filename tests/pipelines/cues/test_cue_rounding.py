"""Verification elsewhere than the store was made: rounding passes, wrong cues are found. TF32 is emulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cue_job_parts import FACES, KEYS, WEIGHTS, Blur, make, tiny_pipeline

from pipelines.cues import rounding
from pipelines.cues.rounding import BFLOAT16, BFLOAT16_PICTURE, EQUAL, FLOAT32, TF32, machine, tolerance
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import DfgSweep, OneOfSweep
from pipelines.cues.store import RECONSTRUCTION, cue_arrays
from pipelines.cues.verify import verify_cues
from pipelines.pixels import to_unit_range
from scripts.bench.rounding import Tf32, rounded

FLOAT = RestorationSettings(num_inference_steps=10)
SETTINGS = {
    "float32": FLOAT,
    "tf32": FLOAT.model_copy(update={"tf32": True}),
    "bfloat16": FLOAT.model_copy(update={"dtype": "bfloat16"}),
}


WHOLE = {"batch_size": 4, "shard_size": 4}  # a batch is a shard, so that all faces are sampled


def sweep_of(settings=FLOAT, timestep=201, pipeline=None):
    return DfgSweep(pipeline or generator(), [timestep], WEIGHTS, settings=settings)


def generator():
    """Its patch transform is fitted to pictures without structure: flat ones leave directions that magnify rounding."""
    pipeline = tiny_pipeline()
    pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    pipeline.autoencoder.fit(to_unit_range(pictures))
    return pipeline


class Under:
    """A sweep in another arithmetic, or a wrong one, that calls itself `like`."""

    def __init__(self, sweep, like, mode=None, timestep=201):
        self.sweep, self.like, self.mode, self.timestep = sweep, like, mode, timestep
        self.timesteps, self.device = like.timesteps, like.device

    def fingerprint(self, timestep):
        return self.like.fingerprint(timestep)

    def restore(self, image, keys, timesteps):
        if self.mode is None:
            return {201: self.sweep.restore(image, keys, [self.timestep])[self.timestep]}
        with self.mode:
            return self.sweep.restore(image, keys, timesteps)


@pytest.fixture
def elsewhere(monkeypatch):
    """From here on, this is another processor."""
    return lambda: monkeypatch.setattr(rounding, "processor", lambda: "another processor")


def test_tf32_keeps_ten_bits():
    values = torch.tensor([1.0, 1 + 2.0**-10, 1 + 2.0**-11, 1 - 2.0**-12, -3.3, 0.0])
    found = rounded(values)
    assert found.tolist()[:2] == [1.0, 1 + 2.0**-10]
    assert float(((found - values).abs() / values.abs().clamp_min(1e-9)).max()) <= 2.0**-11


def test_a_store_made_in_tf32_passes_on_a_machine_without(tmp_path, elsewhere):
    plain = sweep_of(SETTINGS["tf32"])
    folder = make(tmp_path, Under(plain, plain, Tf32()), **WHOLE)[201]
    here = verify_cues(folder, FACES, OneOfSweep(plain, 201), sample=11)
    assert not here.ok  # the same machine in the same arithmetic would have made equal bytes
    assert f"the first {here.wrong[0]}" in str(here)
    elsewhere()
    there = verify_cues(folder, FACES, OneOfSweep(plain, 201), sample=11)
    assert there.ok
    assert there.identical < there.faces == 11
    assert there.allowed == TF32
    assert "TF32" in str(there)


def test_other_kernels_pass_elsewhere_only(tmp_path, elsewhere):
    plain = sweep_of()
    last = sweep_of(FLOAT.model_copy(update={"channels_last": True}))
    folder = make(tmp_path, Under(last, plain), **WHOLE)[201]
    elsewhere()
    check = verify_cues(folder, FACES, OneOfSweep(plain, 201), sample=11)
    assert check.ok
    assert check.allowed == FLOAT32


@pytest.mark.parametrize("arithmetic", SETTINGS)
@pytest.mark.parametrize(
    "mistake", ["t", *(pytest.param(name, marks=pytest.mark.slow) for name in ("weights", "noise", "swapped"))]
)
def test_wrong_cues_are_found_elsewhere_too(tmp_path, elsewhere, arithmetic, mistake):
    chosen = SETTINGS[arithmetic]
    right = sweep_of(chosen)
    other = generator()
    if mistake == "weights":
        torch.manual_seed(1)
        for weights in other.unet.parameters():
            weights.data.add_(0.1 * weights.std().nan_to_num() * torch.randn_like(weights))
    wrong = {
        "weights": sweep_of(chosen, pipeline=other),
        "t": sweep_of(chosen, timestep=301),
        "noise": sweep_of(chosen.model_copy(update={"seed": 1})),
        "swapped": right,
    }[mistake]
    folder = make(tmp_path, Under(wrong, right, timestep=wrong.timesteps[0]), **WHOLE)[201]
    if mistake == "swapped":
        swap_the_first_two(folder)
    elsewhere()
    check = verify_cues(folder, FACES, OneOfSweep(right, 201), sample=11)
    assert not check.ok
    assert len(check.wrong) == (2 if mistake == "swapped" else 11)
    assert not check.broken


def swap_the_first_two(folder):
    """Write the first shard again with two faces' cues in each other's place, under its own checksum."""
    store = ShardStore.open(folder)
    made, restored = store.entry(0).made, store.view(0, RECONSTRUCTION)[[1, 0, 2, 3]]
    store.revoke(0)
    order = sorted(range(len(KEYS)), key=KEYS.__getitem__)
    store.write(0, cue_arrays(FACES.images[order[:4]], restored), made)


def test_which_difference_is_allowed(monkeypatch):
    here = {"batch_size": 2, **machine(torch.device("cpu"))}
    assert tolerance(here, here, {"dtype": "float32"}) == EQUAL
    assert tolerance(here, {**here, "batch_size": 3}, {"dtype": "float32"}) == FLOAT32
    assert tolerance({"batch_size": 2}, here, {"dtype": "float32"}) == FLOAT32  # a store of an earlier version
    assert tolerance(here, {**here, "device": "a GPU"}, {"dtype": "float32", "tf32": True}) == TF32
    assert tolerance({}, here, {"dtype": "bfloat16", "tf32": True}) == BFLOAT16
    assert tolerance({}, here, {"dtype": "bfloat16", "autoencoder_dtype": "bfloat16"}) == BFLOAT16_PICTURE
    # On a GPU that searches for its kernels, and by a source that does not say where it computes, bytes may differ.
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    gpu = machine(torch.device("cuda"))
    assert gpu["kernels"] == "searched"
    assert tolerance(gpu, gpu, {"tf32": True}) == TF32
    assert tolerance(machine(None), machine(None), {}) == FLOAT32


def test_what_a_shard_records(tmp_path):
    entry = ShardStore.open(make(tmp_path, sweep_of())[201]).entry(0)
    assert entry.made == {"batch_size": 2, **machine(torch.device("cpu"))}
    assert np.isin(["device", "torch", "threads"], list(entry.made)).all()
    assert ShardStore.open(make(tmp_path, Blur())[3]).entry(0).made == {"batch_size": 2, "device": "unknown"}


def test_bounds_in_words():
    said = [str(each) for each in (EQUAL, FLOAT32, TF32, BFLOAT16, BFLOAT16_PICTURE)]
    assert [line.split(": ")[1] for line in said] == [
        "up to 0 grey levels on 0.0% of a face's values",
        "up to 1 grey levels on 0.1% of a face's values",
        "up to 2 grey levels on 5.0% of a face's values",
        "up to 2 grey levels on 15.0% of a face's values",
        "up to 6 grey levels on 40.0% of a face's values",
    ]


def test_what_a_machine_is(monkeypatch):
    monkeypatch.setattr(rounding, "processor", lambda: "a processor")
    assert machine(None) == {"device": "unknown"}
    cpu = {"device": "a processor", "torch": torch.__version__, "threads": torch.get_num_threads()}
    assert machine(torch.device("cpu")) == cpu
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    gpu = {"device": "a processor", "torch": torch.__version__, "kernels": "fixed"}
    assert machine(torch.device("cuda")) == gpu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H200 {device}")
    assert machine(torch.device("cuda", 1)) == {**gpu, "device": "H200 cuda:1"}
    assert tolerance(gpu, gpu, {"tf32": True}) == EQUAL
    unknown = {"device": "unknown"}
    assert tolerance(unknown, unknown, {"tf32": True}) == TF32

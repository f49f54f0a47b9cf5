"""The generator's benchmarks at a size of seconds: what they compare is the same work."""

from __future__ import annotations

import sys

import pytest
import torch

from pipelines.benchmarks.cue_parts import TYPES, cue_parts_benchmark
from pipelines.benchmarks.cues import CONTENDERS, PUBLIC, recipe_benchmark
from pipelines.benchmarks.dfg_step import INSIDE, STORED, dfg_step_benchmark
from pipelines.benchmarks.int8 import int8_benchmark
from pipelines.benchmarks.parts import Size, build_generator, psnr
from pipelines.errors import AgfasError

UNET = (
    ("block_out_channels", (8, 8, 8)),
    ("norm_num_groups", 4),
    ("attention_head_dim", 4),
    ("cross_attention_dim", 160),
)
TINY = Size("tiny", image_size=32, autoencoder=(8, 8, 8), identity="tiny", unet=UNET)


def test_stored_and_encoded_steps_have_equal_losses():
    rows = {row["contender"]: row for row in dfg_step_benchmark(TINY, batch_size=2, count=6, steps=2, repeats=2)}
    assert set(rows) == {STORED, INSIDE}
    assert rows[STORED]["loss_difference"] < 1e-4
    assert rows[INSIDE]["ratio"] == 1
    assert rows[STORED]["steps_per_second"] > 0


def test_every_contender_is_judged_by_the_public_recipe():
    rows = {row["contender"]: row for row in recipe_benchmark(TINY, timestep=101, count=3, batch_size=2, repeats=1)}
    assert list(rows) == [PUBLIC, *CONTENDERS]
    assert rows[PUBLIC]["ratio"] == 1
    assert rows[PUBLIC]["psnr_db"] == float("inf")
    # Single pixels may fall on the other side of a grey level.
    assert rows["ours, the same calls"]["psnr_db"] > 60
    assert rows["bfloat16 U-Net"]["psnr_db"] < rows["ours, the same calls"]["psnr_db"]
    assert rows["dpmsolver++, 8 calls"]["psnr_db"] < rows["ours, the same calls"]["psnr_db"]


def test_a_trained_generator_can_be_judged(tmp_path):
    build_generator(TINY).save_pretrained(tmp_path)
    rows = recipe_benchmark(TINY, timestep=21, count=1, batch_size=1, repeats=1, generator=tmp_path)
    assert rows[1]["psnr_db"] > 60


def test_psnr_of_one_grey_level():
    picture = torch.zeros(1, 3, 4, 4)
    assert psnr(picture, picture) == float("inf")
    assert psnr(picture + 1 / 127.5, picture) == pytest.approx(48.13, abs=0.01)


def test_the_parts_of_a_cue_are_timed_in_both_types():
    rows = cue_parts_benchmark(TINY, batch_size=1, repeats=1)
    assert [row["type"] for row in rows] == list(TYPES)
    for row in rows:
        whole = row["encode"] + 41 * row["call"] + row["decode"]
        assert min(row["encode"], row["call"], row["decode"]) > 0
        assert row["encode + 41 calls + decode"] == pytest.approx(whole)


def test_eight_bits_are_measured_where_their_libraries_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(AgfasError, match="pip install openvino nncf"):
        int8_benchmark(TINY, batch_size=1, repeats=1)
    monkeypatch.setattr("pipelines.benchmarks.int8._openvino", lambda noise, draw: {})
    rows = int8_benchmark(TINY, batch_size=1, repeats=1)
    assert rows[0]["ratio"] == 1.0
    assert rows[0]["error_db"] == float("inf")
    assert all(10 < row["error_db"] < 80 for row in rows[1:])

"""The generator's benchmarks at a size of seconds: what they compare is the same work."""

from __future__ import annotations

import sys

import pytest
import torch

from pipelines.errors import AgfasError
from pipelines.pixels import to_unit_range
from scripts.bench.contenders import CONTENDERS
from scripts.bench.cues import TYPES, compact_recipe_benchmark, cue_parts_benchmark, recipe_benchmark
from scripts.bench.dfg_step import HALF, INSIDE, STORED, dfg_step_benchmark
from scripts.bench.generators import ALL_HALF, Size, build_generator, psnr
from scripts.bench.int8 import int8_benchmark
from scripts.bench.one_call import one_call_benchmark
from scripts.bench.recipe_contender import PUBLIC, STUDENT, Alone, Ours, Public, Student, Task, to_eight_bits
from scripts.bench.training_step import ALONE, IDLE, idle_thread_benchmark
from scripts.bench.turns import in_turns, race

UNET = (
    ("block_out_channels", (8, 8, 8)),
    ("norm_num_groups", 4),
    ("attention_head_dim", 4),
    ("cross_attention_dim", 160),
)
TINY = Size("tiny", image_size=32, autoencoder=(8, 8, 8), identity="tiny", unet=UNET)


@pytest.mark.slow
def test_stored_and_encoded_steps_have_equal_losses():
    rows = dfg_step_benchmark(TINY, batch_size=2, count=6, steps=2, repeats=2)
    found = {(row["mixed_precision"], row["contender"]): row for row in rows}
    assert list(found) == [
        ("no", STORED),
        ("no", INSIDE),
        ("bf16", STORED),
        ("bf16", INSIDE),
        ("bf16", HALF),
    ]
    for precision in ("no", "bf16"):
        assert found[precision, INSIDE]["loss_difference"] < 1e-4
        assert found[precision, INSIDE]["ratio"] == 1
        assert found[precision, STORED]["steps_per_second"] > 0
    # What is encoded in another type is not the same latent.
    assert found["bf16", HALF]["loss_difference"] > found["bf16", INSIDE]["loss_difference"]


@pytest.mark.slow
def test_contenders_make_the_public_recipe_s_pictures():
    task = Task(TINY, timestep=101, count=3, batch_size=2)
    public = Public(task)
    assert public.time() > 0
    found = {}
    names = ("ours, the same calls", "bfloat16 U-Net", "dpmsolver++, 8 calls", "one call, AutoencoderTiny")
    for name in names:
        contender = Ours(task, name)
        contender.time()
        found[name] = psnr(to_eight_bits(contender.restored()), to_eight_bits(public.restored()))
    # Single pixels may fall on the other side of a grey level.
    assert found["ours, the same calls"] > 60
    assert found["bfloat16 U-Net"] < found["ours, the same calls"]
    assert found["dpmsolver++, 8 calls"] < found["ours, the same calls"]


def test_an_untrained_student_writes_the_faces_themselves():
    student = Student(Task(TINY, timestep=101, count=3, batch_size=2))
    assert student.time() > 0
    assert student.restored().shape == (3, 3, 32, 32)
    assert torch.equal(student.restored(), to_unit_range(student.faces.images))


def test_a_cue_of_one_call_is_the_sum_of_its_parts():
    rows = {row["part"]: row for row in one_call_benchmark([TINY], repeats=1, settings=ALL_HALF)}
    *parts, cue, student = rows.values()
    for name in ("gflop", "s"):
        sums = {way: sum(row[f"{way}_{name}"] for row in parts) for way in ("public", "our")}
        sums["public"] += 40 * rows["U-Net call"][f"public_{name}"]
        assert cue[f"public_{name}"] == pytest.approx(sums["public"])
        assert cue[f"our_{name}"] == pytest.approx(sums["our"])
    assert cue["gflop_ratio"] == pytest.approx(cue["public_gflop"] / cue["our_gflop"])
    assert rows["identity"]["gflop_ratio"] == 1
    assert rows["encode"]["public_gflop"] != rows["encode"]["our_gflop"]
    assert (student["public_gflop"], student["public_s"]) == (cue["public_gflop"], cue["public_s"])
    assert 0 < student["our_gflop"] != cue["our_gflop"]


def test_a_contender_with_other_weights_is_not_compared_by_its_pictures():
    for name, ways in CONTENDERS.items():
        pipeline = build_generator(TINY)
        before = pipeline.autoencoder
        ways.change(pipeline)
        assert (pipeline.autoencoder is before) == ways.comparable == ("AutoencoderTiny" not in name)
        assert (ways.settings.autoencoder == "generator") == ways.comparable


def test_contenders_take_turns_after_a_run_that_does_not_count():
    order = []

    class Counted:
        def __init__(self, name):
            self.name = name

        def time(self):
            order.append(self.name)
            return float(len(order))

    timings = race({name: Counted(name).time for name in "AB"}, repeats=2, warm=True, measured=float)
    assert "".join(order) == "ABABBA"
    assert timings.seconds == {"A": [3.0, 6.0], "B": [4.0, 5.0]}


@pytest.mark.slow
def test_a_trained_generator_is_judged_in_processes_of_their_own(tmp_path):
    build_generator(TINY).save_pretrained(tmp_path)
    names = ["ours, the same calls", STUDENT]
    options = {"timestep": 21, "count": 1, "batch_size": 1, "repeats": 1, "contenders": names}
    rows = recipe_benchmark(TINY, generator=tmp_path, **options)
    assert [row["contender"] for row in rows] == [PUBLIC, *names]
    assert rows[0]["ratio"] == 1
    assert rows[0]["psnr_db"] == float("inf")
    assert rows[1]["psnr_db"] > 60
    assert rows[2]["psnr_db"] == ""
    with pytest.raises(AgfasError, match="is no generator's folder"):
        recipe_benchmark(TINY, generator=tmp_path / "none", **options)


def test_contenders_are_chosen_by_a_part_of_their_names(monkeypatch):
    monkeypatch.setattr("scripts.bench.cues.recipe_benchmark", lambda *_, contenders, **__: list(contenders))
    assert compact_recipe_benchmark() == [*CONTENDERS, STUDENT]
    assert compact_recipe_benchmark(only="student") == [STUDENT]
    with pytest.raises(AgfasError, match=r"No contender has 'none' in its name\. They are: ours, the same calls; "):
        compact_recipe_benchmark(only="none")


def test_a_contender_that_dies_is_explained(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho \"KeyError: 'nobody'\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with Alone(Task(TINY, 21, 1, 1), "nobody") as run, pytest.raises(AgfasError, match=r"died: [\s\S]*'nobody'"):
        run.time()


def test_an_untrained_generator_has_tokens_of_a_trained_one_s_size():
    generator = build_generator(TINY)
    tokens = generator.identity_encoder(torch.rand(4, 3, 32, 32) * 2 - 1)
    assert 0.1 < tokens.std() < 10


def test_psnr_of_one_grey_level():
    picture = torch.zeros(1, 3, 4, 4)
    assert psnr(picture, picture) == float("inf")
    assert psnr(picture + 1 / 127.5, picture) == pytest.approx(48.13, abs=0.01)


def test_the_parts_of_a_cue_are_timed_in_both_types():
    types = {name: speed for name, speed in TYPES.items() if not speed.compile}
    rows = cue_parts_benchmark(TINY, batch_size=1, repeats=1, types=types)
    assert [row["type"] for row in rows] == list(types)
    for row in rows:
        whole = row["encode"] + 41 * row["call"] + row["decode"]
        assert min(row["encode"], row["call"], row["decode"]) > 0
        assert row["encode + 41 calls + decode"] == pytest.approx(whole)


def test_contenders_take_turns():
    assert "".join(in_turns("AB", 3)) == "ABBAAB"


@pytest.mark.slow
def test_a_step_beside_an_idle_thread_is_held_against_one_alone():
    rows = idle_thread_benchmark(rounds=1, repeats=1)
    assert [row["contender"] for row in rows] == [ALONE, IDLE]
    assert rows[1]["ratio"] == 1
    assert rows[0]["steps_per_second"] > 0


def test_eight_bits_are_measured_where_their_libraries_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(AgfasError, match="pip install openvino nncf"):
        int8_benchmark(TINY, batch_size=1, repeats=1)
    monkeypatch.setattr("scripts.bench.int8._openvino", lambda noise, draw: {})
    rows = int8_benchmark(TINY, batch_size=1, repeats=1)
    assert rows[0]["ratio"] == 1.0
    assert rows[0]["error_db"] == float("inf")
    assert all(10 < row["error_db"] < 80 for row in rows[1:])

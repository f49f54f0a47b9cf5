"""What is printed of a training and of a restoration, worked out by hand on a machine of round numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipelines.cost import machines
from pipelines.cost.counting import Count, Operation
from pipelines.cost.estimate import Restoring, Training
from pipelines.cost.machines import GIB, GPUS, Machine, machine_of
from pipelines.cost.parts import Part
from pipelines.cost.printing import _changes, _training_disk, priced_restoring, priced_training
from pipelines.experiment.file import build_experiment
from pipelines.training.settings import LoopSettings

LOOP = LoopSettings(optimizer="adamw", max_grad_norm=0.0)


def machine(**changes: Any) -> Machine:
    """100 operations or 20,000 bytes a second, half a second for a start."""
    rates = {"matmul float32": 100.0, "conv float32": 50.0}
    return replace(Machine("small", 2.0 * GIB, rates, 2e4, 0.5, 4.0, is_gpu=False, source="a test"), **changes)


def part(kind: str = "generator", name: str = "dfg", done: int = 0, total: int = 1, **changes: Any) -> Part:
    experiment = build_experiment({"train": {"evaluations": 4}, **changes}, "a test")
    return Part(kind, name, experiment, 20, "steps", done, total)


def count(flops: float, peak: float = 0) -> Count:
    return Count(Counter({Operation("matmul", "float32", int(flops), 1): 1}), peak=int(peak))


def need(**changes: Any) -> Training:
    made = Training(9000, 5000, 2, GIB // 2, count(600, GIB), LOOP, 8, 4, count(800, GIB // 2))
    return replace(made, **changes)


def test_a_generators_lines():
    """6 s of products, half of a start, 20 passes over 20,000 bytes in 20 s, and 12 starts for two tensors in 12 s."""
    priced = priced_training(part(), need(), machine())
    assert priced.lines == (
        "  9,000 parameters, 5,000 trained; 8 faces a step in float32, at most 4 at once on a process",
        "  memory of a process 1.5 of 2.0 GiB: weights 0.5, gradients 1.9e-05, optimiser 3.7e-05, activations 1",
        "  with gradient checkpointing 1.0 GiB, of them activations 0.5; 0.0247 steps a second",
        "  6e-07 GFLOP a step; 0.026 steps a second",
        "  20 steps: 12.8 min",
    )
    assert priced.seconds == pytest.approx(20 * 38.5)
    on = part(generator={"gradient_checkpointing": True})
    assert priced_training(on, need(), machine()).lines[2].startswith("  without gradient checkpointing 1.0 GiB, of")
    assert len(priced_training(part(), need(other=None), machine()).lines) == 4


def test_a_detectors_lines_and_measured_rates():
    """Two processes count their operations together; a detector's amounts are faces, eight of them a step."""
    work = part("detector", "oanet")
    two = machine(count=2, link=1e9)
    alone = need(alone=True, other=None, loop=LOOP.model_copy(update={"mixed_precision": "bf16"}))
    lines = priced_training(work, alone, two).lines
    assert " in bf16, " in lines[0]
    assert lines[2] == "  1.2e-06 GFLOP a step, without the losses, which need values; 0.026 steps a second"
    assert priced_training(work, need(), machine()).seconds == pytest.approx(20 * 38.5 / 8)
    measured = priced_training(work, need(), machine(), 0.25)
    assert (measured.seconds, measured.lines[-1]) == (5.0, "  20 steps: 5 s, as measured in this folder")
    assert priced_training(work, need(), machine(), 0.0).seconds == 0.0


@pytest.mark.parametrize(
    ("tf32", "gpu", "said"), [(True, True, "TF32"), (True, False, "float32"), (False, True, "float32")]
)
def test_the_arithmetic_of_a_training(tf32, gpu, said):
    loop = LOOP.model_copy(update={"tf32": tf32})
    line = priced_training(part(), need(loop=loop), machine(is_gpu=gpu)).lines[0]
    assert line.endswith(f"8 faces a step in {said}, at most 4 at once on a {'GPU' if gpu else 'process'}")


def test_a_restorations_lines():
    """Once 1 s, calls 2 s and decodings 3 s, half a second for the start of each; 33 and 11 calls, and t = 0."""
    counts = (count(100, GIB), count(200, 3 * GIB), count(300, 2 * GIB))
    work = replace(part("restoration", "dfg"), amount=440, faces=10, timesteps=(201, 641))
    priced = priced_restoring(work, Restoring(9000, GIB, *counts, 4), machine())
    face = (1.5 + 44 * 2.5 + 3 * 3.5) / 4
    assert priced.lines == (
        "  9,000 parameters in float32, 4 faces at once; t = 201, 641: 44 calls a face",
        "  memory of a process 4.0 of 2.0 GiB: weights 1.0, activations 3.0",
        "  DOES NOT FIT: small has 2.0 GiB for tensors: try cue.batch_size=2; or cue.dtype=bfloat16",
        "  2.45e-06 GFLOP a face; 0.0328 faces a second",
        "  10 faces: 5.08 min",
    )
    assert priced.seconds == pytest.approx(10 * face)
    size = work.experiment.data.size
    assert priced.disk == (10 * 3 * 3 * size**2,) * 2


def test_a_restoration_without_t_is_one_call():
    counts = (Count(), count(200, 3 * GIB), Count())
    work = replace(part("restoration", "memae", cue={"dtype": "bfloat16"}), amount=10, faces=10, assumed=True)
    priced = priced_restoring(work, Restoring(9000, GIB, *counts, 1), machine())
    assert priced.lines == (
        "  9,000 parameters in bfloat16, 1 faces at once; one call a face",
        "  memory of a process 4.0 of 2.0 GiB: weights 1.0, activations 3.0",
        "  DOES NOT FIT: small has 2.0 GiB for tensors: try cue.batch_size=1",
        "  2e-07 GFLOP a face; 0.4 faces a second",
        "  10 faces (assumed: the dataset is not there): 25 s",
    )
    assert (priced.seconds, priced.disk) == (25.0, (0, 0))


def test_what_would_lower_the_memory_of_a_training():
    every = [
        "generator.gradient_checkpointing=true",
        "generator.loop.mixed_precision=bf16",
        "generator.loop.gradient_accumulation=2 (the same batch in smaller parts)",
        "generator.loop.optimizer=adamw_fused",
        "generator.preset=compact (another generator: say so beside its results)",
    ]
    assert _changes(part(generator={"preset": "sd15"}), need()) == every
    assert _changes(part(), need()) == every[:4]
    small = {"mixed_precision": "bf16", "optimizer": "sgd"}
    done = need(faces=1, loop=LOOP.model_copy(update=small))
    assert _changes(part(generator={"gradient_checkpointing": True}), done) == []
    parts = LOOP.model_copy(update={"gradient_accumulation": 3, "optimizer": "sgd"})
    for kind, where in (("detector", "train"), ("identity", "identity.loop")):
        assert _changes(part(kind, "dfg", generator={"preset": "sd15"}), need(faces=2, loop=parts)) == [
            f"{where}.mixed_precision=bf16",
            f"{where}.gradient_accumulation=6 (the same batch in smaller parts)",
        ]
    assert _changes(part("generator", "memae", generator={"name": "memae"}, cue={"source": "memae"}), done) == []


def test_the_disk_of_trainings():
    """Kept weights of each checkpoint and training; meanwhile two checkpoints with the optimiser's values."""
    weights = GIB // 2
    assert _training_disk(part(), need()) == (weights, weights + 2 * (weights + 4 * 5000 * 2))
    average = need(loop=LOOP.model_copy(update={"optimizer": "sgd", "ema_decay": 0.9}))
    kept = weights * 4 * (6 - 1)
    found = _training_disk(part("detector", "oanet", 1, 6), average)
    assert found == (kept, kept + 2 * (weights + 4 * 5000 * 2))


def test_the_sheets_are_those_of_the_makers():
    """NVIDIA's data sheets: GiB, dense bfloat16, TF32 and float32 in TFLOP/s, memory and link in GB/s."""
    found = {
        name: (one.name, one.memory, *(value / 1e12 for value in (one.bfloat16, one.tf32, one.float32)),
               one.bandwidth / 1e9, one.link / 1e9)
        for name, one in GPUS.items()
    }  # fmt: skip
    assert found == {
        "a100-40": ("A100 40 GB", 40, 312, 156, 19.5, pytest.approx(1555), 300),
        "a100-80": ("A100 80 GB", 80, 312, 156, 19.5, pytest.approx(2039), 300),
        "h100": ("H100 80 GB", 80, 989, 494, 67, 3350, 450),
        "rtx4090": ("RTX 4090", 24, pytest.approx(165.2), pytest.approx(82.6), pytest.approx(82.6), 1008, 20),
    }
    assert GPUS["h100"].machine().launch == 8e-6
    assert GPUS["h100"].machine().source == "its data sheet and assumed utilisation"


@pytest.mark.parametrize(("there", "count", "expected"), [(2, None, 2), (2, 5, 5), (2, 1, 1)])
def test_gpus_here_are_counted_or_given(there, count, expected, monkeypatch):
    monkeypatch.setattr(machines, "machine_at_hand", lambda: machine(is_gpu=True, count=there))
    assert machine_of(None, count) == machine(is_gpu=True, count=expected)


def test_processes_without_gpus_share_the_processor(monkeypatch):
    monkeypatch.setattr(machines, "machine_at_hand", machine)
    assert machine_of() == machine()
    assert machine_of(None, 4) == machine(
        count=4, memory=GIB / 2, bandwidth=5e3, rates={"matmul float32": 25.0, "conv float32": 12.5}
    )


def test_the_machine_at_hand_is_measured(monkeypatch):
    """Every measurement takes a second: what is left are the operations and bytes of its work."""
    import torch

    asked = []
    monkeypatch.setattr(machines, "_seconds", lambda work, device: asked.append((work.args, device)) or 1.0)
    monkeypatch.setattr(machines, "_main_memory", lambda: 100.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = machines.machine_at_hand()
    product, convolution = 2 * 384**3, 2 * 32 * 32 * 64**2 * 9
    assert found == Machine(
        "processor, 2 threads", 93.0, {
            "matmul float32": product, "conv float32": convolution, "matmul bfloat16": product,
            "conv bfloat16": convolution,
        }, 3 * 2**24, 1.0, 10e9, is_gpu=False, source="measured here for a second",
    )  # fmt: skip
    shapes = [([tuple(each.shape) for each in args], args[0].dtype, device) for args, device in asked]
    matrix, picture = [(384, 384)] * 2, [(1, 64, 32, 32), (64, 64, 3, 3)]
    assert shapes == [
        (matrix, torch.float32, "cpu"), (picture, torch.float32, "cpu"), (matrix, torch.bfloat16, "cpu"),
        (picture, torch.bfloat16, "cpu"), ([(2**22,)] * 2, torch.float32, "cpu"), ([(1,)] * 2, torch.float32, "cpu"),
    ]  # fmt: skip
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert machines.machine_at_hand().name == "processor, 1 thread"


@pytest.mark.parametrize(
    ("each", "calls", "expected"),
    [(0.2, 1, 0.2), (0.1, 2 + 5, 0.1), (0.002, 2 + 5 * 10, 0.002), (0.0, 2 + 5 * 200_000, 0.0)],
)
def test_a_time_is_the_median_of_five_or_of_one_long_call(each, calls, expected, monkeypatch):
    now, made = [0.0], [0]

    def work() -> None:
        made[0] += 1
        now[0] += each

    monkeypatch.setattr(machines.time, "perf_counter", lambda: now[0])
    assert machines._seconds(work, "cpu") == pytest.approx(expected)
    assert made[0] == calls


def test_the_gpus_here_are_measured(monkeypatch):
    import torch

    facts = SimpleNamespace(name="a card", total_memory=100.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: facts if place == 0 else None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    rates = {"matmul float32": 1.0}
    monkeypatch.setattr(machines, "_measured", lambda device: (rates, 2.0, 3.0) if device == "cuda" else None)
    assert machines.machine_at_hand() == Machine(
        "a card", 93.0, rates, 2.0, 3.0, 14e9, is_gpu=True, source="measured here for a second", count=3
    )


def test_a_gpu_is_measured_with_larger_pieces_and_tf32(monkeypatch):
    import torch

    made, modes = [], []

    def tensor(*shape: int, **options: Any) -> torch.Tensor:
        made.append((shape, options.pop("device")))
        return torch.empty(shape, device="meta", **options)

    monkeypatch.setattr(torch, "randn", tensor)
    monkeypatch.setattr(torch, "zeros", tensor)
    monkeypatch.setattr("dfg.speed.use_tf32", modes.append)
    monkeypatch.setattr(machines, "_seconds", lambda work, device: 1.0)
    rates, bandwidth, launch = machines._measured("cuda")
    types = ("float32", "bfloat16", "tf32")
    assert rates == {f"matmul {name}": 2 * 4096**3 for name in types} | {
        f"conv {name}": 2 * 32 * 32 * 32 * 320**2 * 9 for name in types
    }
    assert (bandwidth, launch, modes) == (3 * 2**28, 1.0, [False, False, True, False])
    each = [((4096, 4096), "cuda"), ((32, 320, 32, 32), "cuda"), ((320, 320, 3, 3), "cuda")]
    assert made == [*each * 3, ((2**26,), "cuda"), ((1,), "cuda")]


def test_a_gpus_calls_are_waited_for(monkeypatch):
    import torch

    now, started = [0.0], [0]

    def work() -> None:
        started[0] += 1

    def synchronize() -> None:
        now[0], started[0] = now[0] + 0.25 * started[0], 0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(machines.time, "perf_counter", lambda: now[0])
    assert machines._seconds(work, "cuda") == 0.25


def test_the_main_memory_is_the_machines():
    assert machines._main_memory() == pytest.approx(psutil.virtual_memory().total, rel=0.01)

"""Machines: the sheets, the machine at hand, what is refused, and how the number of GPUs changes time and memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.cost.counting import Count, Operation
from pipelines.cost.estimate import (
    Restoring,
    Training,
    face_seconds,
    restoring_memory,
    seconds,
    step_seconds,
    training_memory,
)
from pipelines.cost.machines import GIB, GPUS, Machine, machine_of
from pipelines.cost.printing import Priced, _memory_lines, duration, flops, gib, total_line
from pipelines.errors import AgfasError
from pipelines.training.settings import LoopSettings

PRODUCT = Operation("matmul", "bfloat16", 10**13, 10**6)
LARGE = Count(Counter({PRODUCT: 10, Operation("move", "float32", 0, 10**9): 10}), peak=8 * GIB)
LOOP = LoopSettings(optimizer="adamw_fused", ema_decay=0.99)


def training(count: Count = LARGE, **loop) -> Training:
    return Training(2**30, 2**30, 100, 4 * 2**30, count, LOOP.model_copy(update=loop), 32, 32)


@pytest.mark.parametrize(("gpu", "count", "match"), [
    ("a100-41", None, r"--gpu a100-41: did you mean 'a100-40'\? Allowed: a100-40, a100-80, h100, rtx4090"),
    ("v100", None, "Allowed: a100-40, a100-80, h100, rtx4090"),
    ("h100", 0, "--gpus 0: give a number of GPUs from 1"),
])  # fmt: skip
def test_what_is_not_known_is_refused_with_what_is(gpu, count, match):
    with pytest.raises(AgfasError, match=match):
        machine_of(gpu, count)


def test_tensors_get_less_than_the_sheets_memory_and_faster_cards_are_faster():
    machines = {name: machine_of(name) for name in GPUS}
    assert all(0.9 < machine.memory / GIB / GPUS[name].memory < 1 for name, machine in machines.items())
    times = {name: seconds(LARGE, machine) for name, machine in machines.items()}
    assert times["h100"] < times["a100-80"] < times["a100-40"] < times["rtx4090"]


def test_small_operations_wait_for_their_start_on_a_gpu():
    tiny = Count(Counter({Operation("move", "float32", 0, 8): 1000}))
    machine = machine_of("h100")
    assert seconds(tiny, machine) == pytest.approx(1000 * machine.launch)


def test_memory_has_a_name_for_every_part():
    memory = training_memory(training(), machine_of("a100-80"))
    # The gradients grow while the activations shrink: the worst moment has eight gibibytes of both together.
    assert memory == {
        "weights": 4 * GIB, "gradients": 4 * GIB, "optimiser": 8 * GIB, "average": 4 * GIB, "activations": 4 * GIB,
    }  # fmt: skip
    several = training_memory(training(ema_decay=0.0), machine_of("h100", 2))
    assert (several["gradients in buckets"], several["activations"], several["average"]) == (4 * GIB, 8 * GIB, 0)
    assert training_memory(training(optimizer="sgd"), machine_of("h100"))["optimiser"] == 4 * GIB
    # An optimiser that is not fused needs a copy of the gradients on a GPU, here instead of the activations.
    small = training(Count(peak=GIB), optimizer="adamw")
    assert training_memory(small, machine_of("h100"))["activations"] == 4 * GIB


def test_more_gpus_exchange_gradients_and_a_network_is_slower():
    waiting = training(Count(peak=GIB))
    alone, eight, many = (step_seconds(waiting, machine_of("a100-80", count)) for count in (1, 8, 64))
    assert alone < eight < many
    # A long backward pass hides it.
    assert step_seconds(training(), machine_of("a100-80")) == step_seconds(training(), machine_of("a100-80", 8))


@pytest.mark.slow
def test_processes_of_this_machine_share_it():
    one, two = machine_of(None, 1), machine_of(None, 2)
    if one.is_gpu:
        pytest.skip("the machine at hand has GPUs")
    assert two.memory == one.memory / 2
    assert one.rate("conv", "float32") > 1e9
    assert one.rate("conv", "float64") == one.rate("conv", "float32")
    assert one.bandwidth > 1e8
    assert 1e-8 < one.launch < 1e-3
    assert replace(two, count=1).title == one.title


def small(**changes) -> Machine:
    """A machine of round numbers: a second each for 100 operations or 10 bytes, half a second for a start."""
    rates = {"matmul float32": 100.0, "matmul bfloat16": 400.0, "conv float32": 50.0, "matmul tf32": 200.0}
    made = Machine("small", 1e9, rates, 10.0, 0.5, 4.0, is_gpu=False, source="a test")
    return replace(made, **changes)


def test_seconds_by_hand():
    count = Count(
        Counter({
            Operation("matmul", "float32", 600, 20): 2,  # 6 s of products, 2 s of bytes
            Operation("conv", "float32", 50, 80): 1,  # 1 s and 8 s
            Operation("move", "float32", 0, 10): 3,  # 1 s
        }),
        peak=7,
    )  # fmt: skip
    assert seconds(count, small()) == 2 * 6 + 8 + 3 * 1 + 6 * 0.5
    # A GPU starts operations beside its work; either may be the longer.
    assert seconds(count, small(is_gpu=True)) == 23
    assert seconds(count, small(is_gpu=True, launch=5.0)) == 30
    assert seconds(count, small().in_tf32(True)) == 2 * 3 + 8 + 3 + 3
    assert small().in_tf32(False) == small()
    assert small().rate("matmul", "bfloat16") == 400
    assert small().rate("conv", "bfloat16") == 50


@pytest.mark.parametrize(
    ("loop", "passes", "starts"),
    [
        ({"optimizer": "sgd"}, 8, 3),
        ({"optimizer": "adam"}, 20, 12),
        ({"optimizer": "adamw", "max_grad_norm": 1.0}, 23, 12),
        ({"optimizer": "adamw_fused", "ema_decay": 0.9}, 10, 0),
        ({"optimizer": "sgd", "ema_decay": 0.9, "max_grad_norm": 1.0}, 14, 3),
    ],
)
def test_a_step_by_hand(loop, passes, starts):
    """Five weights of four bytes in two tensors, a step of six seconds; two ends of a ring send all gradients once."""
    step = Count(Counter({Operation("matmul", "float32", 550, 1): 1}), peak=7)
    need = Training(9, 5, 2, 36, step, LoopSettings(**loop), 8, 8)
    update = 4 * 5 * passes / 10
    assert step_seconds(need, small()) == pytest.approx(6 + update + starts * 2 * 0.5)
    assert step_seconds(need, small(is_gpu=True)) == pytest.approx(5.5 + update)
    # 20 bytes at 4 a second take 5 s, of which 2 / 3 of 5.5 s are hidden; 30 bytes for four.
    assert step_seconds(need, small(is_gpu=True, count=2)) == pytest.approx(5.5 + update + 5 - 11 / 3)
    assert step_seconds(need, small(is_gpu=True, count=4)) == pytest.approx(5.5 + update + 7.5 - 11 / 3)


def test_a_face_by_hand():
    once, call, decode = (Count(Counter({Operation("matmul", "float32", 100 * n, 1): 1}), peak=n) for n in (1, 2, 3))
    need = Restoring(9, 36, once, call, decode, 4)
    machine = small(is_gpu=True, count=2)
    # 1 s, then 3 and 5 calls of 2 s, then two decodings of 3 s, or three with the face at t = 0.
    assert face_seconds(need, machine, [3, 5], plain=False) == (1 + 16 + 6) / 4 / 2
    assert face_seconds(need, machine, [3, 5], plain=True) == (1 + 16 + 9) / 4 / 2
    assert restoring_memory(need) == {"weights": 36, "activations": 3}


def test_sheets_by_hand():
    a100 = machine_of("a100-40", 8)
    assert a100.memory == pytest.approx(0.93 * 40 * GIB)
    assert a100.rate("conv", "float16") == a100.rate("matmul", "bfloat16") == pytest.approx(156e12)
    assert (a100.rates["matmul tf32"], a100.rate("conv", "float32")) == pytest.approx((78e12, 15.6e12))
    assert (a100.bandwidth, a100.exchange) == pytest.approx((1.244e12, 210e9))
    assert machine_of("a100-40", 9).exchange == 25e9
    assert machine_of("rtx4090", 9).exchange == pytest.approx(14e9)
    assert [machine.title for machine in (a100, machine_of("h100"))] == ["8 x A100 40 GB", "H100 80 GB"]
    assert (a100.unit, replace(a100, is_gpu=False).unit) == ("GPU", "process")


def test_units():
    assert [duration(value) for value in (0.5, 100, 7201, 10 * 86400)] == ["0.5 s", "1.67 min", "2 h", "10 days"]
    assert (flops(2.13e13), flops(5e9)) == ("21.3 TFLOP", "5 GFLOP")
    assert (gib(17.12 * GIB), gib(0.0123 * GIB)) == ("17.1", "0.012")


def test_units_change_where_numbers_would_grow_long():
    seconds_of = {89: "89 s", 90: "1.5 min", 7199: "120 min", 7200: "2 h", 259199: "72 h", 259200: "3 days"}
    assert {value: duration(value) for value in seconds_of} == seconds_of
    assert [flops(value) for value in (1e12, 0.999e12)] == ["1 TFLOP", "999 GFLOP"]
    assert [gib(value * GIB) for value in (1, 0.99)] == ["1.0", "0.99"]


def test_what_does_not_fit_is_said_with_its_parts():
    machine = small(memory=2.0 * GIB)
    lines = _memory_lines({"weights": 1.0 * GIB, "average": 0, "activations": 0.5 * GIB}, machine, ["a=1"])
    assert lines == ["  memory of a process 1.5 of 2.0 GiB: weights 1.0, activations 0.5"]
    lines = _memory_lines({"weights": 3.0 * GIB}, machine, ["a=1", "b=2"])
    assert lines[1] == "  DOES NOT FIT: small has 2.0 GiB for tensors: try a=1; or b=2"
    assert _memory_lines({"weights": 3.0 * GIB}, machine, [])[1].endswith("for tensors: take a larger one")
    assert len(_memory_lines({"weights": 2.0 * GIB}, machine, [])) == 1


def test_a_total_is_a_sum_and_the_largest_of_what_is_meanwhile():
    priced = [Priced((), 60.0, (2.0 * GIB, 5.0 * GIB)), Priced((), 120.0, (1.0 * GIB, 2.0 * GIB))]
    assert total_line(priced, small()).startswith(
        "total 3 min, disk 3.0 GiB and 3.0 GiB for checkpoints meanwhile; on small, by a test"
    )
    assert total_line([], small()).startswith("total 0 s, disk 0 GiB and 0 GiB")

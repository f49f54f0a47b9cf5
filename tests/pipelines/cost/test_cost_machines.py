"""Machines: the sheets, the machine at hand, what is refused, and how the number of GPUs changes time and memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.cost.counting import Count, Operation
from pipelines.cost.estimate import Training, seconds, step_seconds, training_memory
from pipelines.cost.machines import GIB, GPUS, machine_of
from pipelines.cost.printing import duration, flops, gib
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


def test_units():
    assert [duration(value) for value in (0.5, 100, 7201, 10 * 86400)] == ["0.5 s", "1.67 min", "2 h", "10 days"]
    assert (flops(2.13e13), flops(5e9)) == ("21.3 TFLOP", "5 GFLOP")
    assert (gib(17.12 * GIB), gib(0.0123 * GIB)) == ("17.1", "0.012")

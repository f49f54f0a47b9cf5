"""From counts to gibibytes, seconds and what to change: one training step, or one batch of restorations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cost.machines import Machine
from pipelines.training.settings import LoopSettings

if TYPE_CHECKING:
    from pipelines.cost.counting import Count

_FLOAT = 4
"""Bytes of a value: weights, gradients and moments are in float32 whatever the autocast."""

STATES: Mapping[str, int] = {"sgd": 1, "adam": 2, "adamw": 2, "adamw_fused": 2}
"""Values that an optimiser keeps for each weight."""

# Values read and written for each weight by one step of the optimiser; only a fused one does so in one pass.
_PASSES: Mapping[str, int] = {"sgd": 8, "adam": 20, "adamw": 20, "adamw_fused": 7}
_OF_AVERAGE, _OF_CLIPPING = 3, 3
# Operations for each tensor of weights; the GPU's are for many tensors at once.
_STARTS: Mapping[str, int] = {"sgd": 3, "adam": 12, "adamw": 12, "adamw_fused": 0}

# Share of a step that is its backward pass, during which gradients are exchanged.
_BACKWARD = 2 / 3


@dataclass(frozen=True)
class Training:
    """What one optimiser step needs of one process.

    Attributes:
        parameters: number of values in the model and its heads.
        trained: number of those that the optimiser changes, in `tensors` tensors.
        weights: bytes of all parameters and buffers.
        step: all micro-batches, forward and backward.
        loop: optimiser, average and precision.
        batch: faces of one step of all processes.
        faces: of the largest micro-batch of one process.
        other: `step` with the other choice of gradient checkpointing, if there is one.
        alone: whether the objective could not be counted, so that `step` is the detector's alone.
    """

    parameters: int
    trained: int
    tensors: int
    weights: int
    step: Count
    loop: LoopSettings
    batch: int
    faces: int
    other: Count | None = None
    alone: bool = False


@dataclass(frozen=True)
class Restoring:
    """What restoring one batch needs of one process.

    Attributes:
        parameters: number of values in the models.
        weights: their bytes.
        once: encoding and identity, which all t share.
        call: one call of the U-Net, or of a model that needs no t.
        decode: one decoding.
        faces: of the batch.
    """

    parameters: int
    weights: int
    once: Count
    call: Count
    decode: Count
    faces: int


def training_memory(need: Training, machine: Machine, step: Count | None = None) -> dict[str, float]:
    """Bytes of each process by what they are for, at the worst moment of a step; their sum is the need.

    Args:
        need: of the training.
        machine: of several, each keeps its gradients in the buckets of their exchange, also between the steps.
        step: `need.step`, or `need.other`.
    """
    gradients = _FLOAT * need.trained
    # The optimiser of a GPU that is not fused makes one more copy, after the activations are freed.
    extra = gradients if need.loop.optimizer in ("adam", "adamw") and machine.is_gpu else 0
    peak = (step or need.step).peak
    several = machine.count > 1
    return {
        "weights": need.weights,
        "gradients in buckets" if several else "gradients": gradients,
        "optimiser": STATES[need.loop.optimizer] * gradients,
        "average": gradients if need.loop.ema_decay else 0,
        # Of one process, the gradients grow while the activations shrink, and `peak` holds both.
        "activations": max(peak, extra) if several else max(peak, gradients + extra) - gradients,
    }


def restoring_memory(need: Restoring) -> dict[str, float]:
    """Bytes of each process by what they are for."""
    peak = max(need.once.peak, need.call.peak, need.decode.peak)
    return {"weights": need.weights, "activations": peak}


def step_seconds(need: Training, machine: Machine, step: Count | None = None) -> float:
    """Time of one optimiser step of all processes together."""
    loop, values = need.loop, need.trained
    passes = _PASSES[loop.optimizer]
    passes += _OF_AVERAGE * (loop.ema_decay > 0) + _OF_CLIPPING * (loop.max_grad_norm > 0)
    update = _FLOAT * values * passes / machine.bandwidth
    if not machine.is_gpu:
        update += _STARTS[loop.optimizer] * need.tensors * machine.launch
    computing = seconds(step or need.step, machine)
    return computing + update + max(0.0, _exchange(values, machine) - _BACKWARD * computing)


def face_seconds(need: Restoring, machine: Machine, calls: Sequence[int], plain: bool) -> float:
    """Time of one face on all processes together.

    Args:
        need: of one batch.
        machine: the faces are shared among its processors.
        calls: of the U-Net for each t.
        plain: whether t = 0 is decoded too.
    """
    batch = seconds(need.once, machine) + sum(calls) * seconds(need.call, machine)
    batch += (len(calls) + plain) * seconds(need.decode, machine)
    return batch / need.faces / machine.count


def seconds(count: Count, machine: Machine) -> float:
    """Time of some operations: each is limited by its products or by its bytes, on a GPU also by their starts."""
    limits = [
        (times, operation.flops / machine.rate(operation.kind, operation.dtype) if operation.flops else 0.0, operation)
        for operation, times in count.operations.items()
    ]
    work = sum(times * max(products, each.moved / machine.bandwidth) for times, products, each in limits)
    starts = machine.launch * sum(count.operations.values())
    return max(work, starts) if machine.is_gpu else work + starts


def _exchange(values: int, machine: Machine) -> float:
    """Time in which a ring of processes sums the gradients."""
    others = 2 * (machine.count - 1) / machine.count
    return others * _FLOAT * values / machine.exchange

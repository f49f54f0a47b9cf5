"""Costs in lines: what a part needs, whether it fits, how long it takes, and the sum of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.cost.estimate import (
    STATES,
    Restoring,
    Training,
    face_seconds,
    restoring_memory,
    step_seconds,
    training_memory,
)
from pipelines.cost.machines import GIB, Machine
from pipelines.cost.parts import Part, calls_of


@dataclass(frozen=True)
class Priced:
    """A part with its cost.

    Attributes:
        lines: about it.
        seconds: of what is left to do; None if unknown.
        disk: bytes that it leaves, and the most that it takes meanwhile.
    """

    lines: tuple[str, ...]
    seconds: float
    disk: tuple[float, float]


def priced_training(part: Part, need: Training, machine: Machine, measured: float | None = None) -> Priced:
    """The cost of trainings.

    Args:
        part: identity encoder, generator or detectors.
        need: of one step.
        machine: it runs on.
        measured: seconds per unit of work that earlier runs took on the machine at hand, in place of the estimate.
    """
    memory = training_memory(need, machine)
    step = step_seconds(need, machine)
    unit = step / need.batch if part.kind == "detector" else step
    seconds = part.amount * (measured if measured is not None else unit)
    single = "TF32" if need.loop.tf32 and machine.is_gpu else "float32"
    precision = single if need.loop.mixed_precision == "no" else need.loop.mixed_precision
    counted = ", without the losses, which need values" if need.alone else ""
    lines = [
        f"  {need.parameters:,} parameters, {need.trained:,} trained; {need.batch} faces a step in {precision},"
        f" at most {need.faces} at once on a {machine.unit}",
        *_memory_lines(memory, machine, _changes(part, need)),
        *_other_choice(part, need, machine),
        f"  {flops(need.step.flops * machine.count)} a step{counted}; {1 / step:.3g} steps a second",
        f"  {part.amount:,.0f} {part.unit}: {duration(seconds)}" + (", as measured in this folder" if measured else ""),
    ]
    return Priced(tuple(lines), seconds, _training_disk(part, need))


def priced_restoring(part: Part, need: Restoring, machine: Machine) -> Priced:
    """The cost of a pass over the faces."""
    cue, size = part.experiment.cue, part.experiment.data.size
    calls = [calls_of(part.experiment, t) for t in part.timesteps]
    plain = part.name == "dfg"
    memory = restoring_memory(need)
    face = face_seconds(need, machine, calls or [1], plain)
    left = part.amount / (sum(calls) or 1)
    one = need.once.flops + (sum(calls) or 1) * need.call.flops + (len(calls) + plain) * need.decode.flops
    assumed = " (assumed: the dataset is not there)" if part.assumed else ""
    disk = part.faces * (len(calls) + plain) * 3 * size**2
    at = f"t = {', '.join(map(str, part.timesteps))}: {sum(calls)} calls" if calls else "one call"
    changes = [f"cue.batch_size={max(1, need.faces // 2)}", *["cue.dtype=bfloat16"] * (cue.dtype == "float32")]
    lines = [
        f"  {need.parameters:,} parameters in {cue.dtype}, {need.faces} faces at once; {at} a face",
        *_memory_lines(memory, machine, changes),
        f"  {flops(one / need.faces)} a face; {1 / face:.3g} faces a second",
        f"  {left:,.0f} faces{assumed}: {duration(left * face)}",
    ]
    return Priced(tuple(lines), left * face, (disk, disk))


def total_line(priced: Sequence[Priced], machine: Machine) -> str:
    """The sum of a plan."""
    kept = sum(each.disk[0] for each in priced)
    meanwhile = max((each.disk[1] - each.disk[0] for each in priced), default=0)
    return (
        f"total {duration(sum(each.seconds for each in priced))}, disk {gib(kept)} GiB and {gib(meanwhile)} GiB for"
        f" checkpoints meanwhile; on {machine.title}, by {machine.source}: expect half to twice the time"
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    for unit, size, least in (("days", 86400, 3 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 90)):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def flops(value: float) -> str:
    """Floating-point operations in the unit that fits."""
    return f"{value / 1e12:,.3g} TFLOP" if value >= 1e12 else f"{value / 1e9:,.3g} GFLOP"


def _memory_lines(memory: Mapping[str, float], machine: Machine, changes: Sequence[str]) -> list[str]:
    """The need by what it is for; and if it is too much, what to change."""
    need = sum(memory.values())
    named = ", ".join(f"{name} {gib(value)}" for name, value in memory.items() if value)
    lines = [f"  memory of a {machine.unit} {gib(need)} of {gib(machine.memory)} GiB: {named}"]
    if need > machine.memory:
        advice = f"try {'; or '.join(changes)}" if changes else "take a larger one"
        lines.append(f"  DOES NOT FIT: {machine.name} has {gib(machine.memory)} GiB for tensors: {advice}")
    return lines


def gib(value: float) -> str:
    """Bytes as gibibytes, without the unit."""
    return f"{value / GIB:.1f}" if value >= GIB else f"{value / GIB:.2g}"


def _other_choice(part: Part, need: Training, machine: Machine) -> list[str]:
    """Memory and speed with the other choice of gradient checkpointing, for a model that has it."""
    if need.other is None:
        return []
    memory, step = training_memory(need, machine, need.other), step_seconds(need, machine, need.other)
    word = "without" if getattr(part.experiment.generator, "gradient_checkpointing", False) else "with"
    return [
        f"  {word} gradient checkpointing {gib(sum(memory.values()))} GiB, of them activations"
        f" {gib(memory['activations'])}; {1 / step:.3g} steps a second"
    ]


def _changes(part: Part, need: Training) -> list[str]:
    """Settings that lower the memory of a training and are not made yet, the cheapest first."""
    loop, maker = need.loop, part.experiment.generator
    where = "train" if part.kind == "detector" else f"{part.kind}.loop"
    of_maker = part.kind == "generator" and part.name == "dfg"
    choices = {
        "generator.gradient_checkpointing=true": of_maker and not getattr(maker, "gradient_checkpointing", True),
        f"{where}.mixed_precision=bf16": loop.mixed_precision == "no",
        f"{where}.gradient_accumulation={2 * loop.gradient_accumulation} (the same batch in smaller parts)": need.faces
        > 1,
        f"{where}.optimizer=adamw_fused": loop.optimizer == "adamw",
        "generator.preset=compact (another generator: say so beside its results)": of_maker and maker.preset == "sd15",
    }
    return [change for change, possible in choices.items() if possible]


def _training_disk(part: Part, need: Training) -> tuple[float, float]:
    """Bytes that trainings leave, and the most meanwhile: a new checkpoint is written before the old one is removed."""
    states = STATES[need.loop.optimizer] + (need.loop.ema_decay > 0)
    checkpoint = need.weights + 4 * need.trained * states
    kept = (
        need.weights * (part.experiment.train.evaluations if part.kind == "detector" else 1) * (part.total - part.done)
    )
    return kept, kept + 2 * checkpoint

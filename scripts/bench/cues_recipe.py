"""The cue job against the public recipe, with the quality beside the ratio; every contender is a process of its own.

The public recipe runs as a plain program does, ours as the command `agfas cues`, which keeps freed memory. The
processes live side by side and take turns; one that waits does nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from scripts.bench.parts import COMPACT, Size, psnr
from scripts.bench.recipe_contender import CONTENDERS, PUBLIC, Alone, Contender, Task, to_eight_bits
from scripts.bench.turns import in_turns


def recipe_benchmark(
    size: Size = COMPACT,
    timestep: int = 801,
    count: int = 4,
    batch_size: int = 2,
    repeats: int = 5,
    generator: Path | None = None,
    contenders: Sequence[str] = tuple(CONTENDERS),
) -> list[dict[str, Any]]:
    """Time whole cue jobs, from pixels to a durable file; a first one, in which a U-Net is compiled, does not count.

    Args:
        size: of an untrained generator.
        timestep: t of every cue.
        count, batch_size: faces in all and at once.
        repeats: of every contender; they take turns (A B B A).
        generator: folder of a trained `DeFakePipeline` in place of `size`.
        contenders: those that run against the public recipe.

    Returns:
        A row per contender: median faces a second, the ratio to the public recipe, and the PSNR of its restorations to
        the public recipe's in decibels, both in the 8 bits that are kept.

    Raises:
        AgfasError: `generator` is no generator's folder.
    """
    if generator is not None and not (generator / "model_index.json").is_file():
        raise AgfasError(
            f"{generator} is no generator's folder (no model_index.json). Give runs/.../generator/*/pipeline."
        )
    task = Task(size, timestep, count, batch_size, str(generator) if generator else None)
    names = [PUBLIC, *contenders]
    with ExitStack() as stack:
        runs = {name: stack.enter_context(Alone(task, name)) for name in names}
        seconds = race(runs, repeats)
        pictures = {name: to_eight_bits(run.restored()) for name, run in runs.items()}
    return [
        {
            "benchmark": "cues-recipe",
            "preset": "trained" if generator else size.preset,
            "contender": name,
            "faces_per_second": count / statistics.median(seconds[name]),
            "ratio": statistics.median(seconds[PUBLIC]) / statistics.median(seconds[name]),
            "psnr_db": psnr(pictures[name], pictures[PUBLIC]),
            "timestep": timestep,
            "faces": count,
            "repeats": repeats,
        }
        for name in names
    ]


def race(runs: Mapping[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat; the contenders take turns, after a run of each that does not count."""
    for run in runs.values():
        run.time()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for name in in_turns(runs, repeats):
        seconds[name].append(runs[name].time())
    return seconds


def compact_benchmark(generator: Path | None = None) -> list[dict[str, Any]]:
    """At 112 M parameters and 256 pixels, 41 calls; few faces, since each takes the better part of ten seconds."""
    return recipe_benchmark(COMPACT, count=2, repeats=5, generator=generator)

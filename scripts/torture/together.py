"""Two commands in one folder at the same time, and a folder copied while a command writes it."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.torture.commands import Warm
from scripts.torture.damage import Outcome
from scripts.torture.world import Clean, World, differences, result

KINDS = ("prepare", "train-dfg", "cues", "train", "evaluate", "save-model", "export-cues", "import-cues")
_REFUSED = "is being written by"


def run_twice(world: World, seed: int, rounds: int) -> Outcome:
    """Start every kind of command twice, the second a random moment after the first, then once more.

    Args:
        world: with the clean runs.
        seed: of the moments.
        rounds: how often each kind.
    """
    draws, violations, refused = random.Random(seed), [], 0
    first, second = world.workers[:2]
    for clean in [world.clean[kind] for kind in KINDS] * rounds:
        folder, wait = world.copy(clean.before), draws.uniform(0, clean.seconds)
        name = f"{clean.job.name}, the second after {wait:.2f} s"
        with ThreadPoolExecutor(1) as pool:
            one = pool.submit(first.run, folder, clean.job.command(folder))
            time.sleep(wait)
            endings = [second.run(folder, clean.job.command(folder)), one.result()]
        refused += sum(_REFUSED in ending.sentence for ending in endings)
        for ending in endings:
            if ending.code and _REFUSED not in ending.sentence:
                violations.append(f"{name}: one ended with {ending.code}: {ending.errors.strip()[-300:]}")
        again = first.run(folder, clean.job.command(folder))
        violations += [f"{name}: a third ended with {again.code}: {again.errors.strip()[-300:]}"] if again.code else []
        violations += [f"{name}: {what}" for what in differences(result(folder), clean.result)]
        shutil.rmtree(folder)
    return Outcome(
        ", ".join(KINDS),
        rounds * len(KINDS),
        f"{refused} times the second was refused in a sentence, otherwise they shared the work; a clean run's bytes",
        violations,
    )


def copy_while_written(world: World, seed: int, copies: int) -> Outcome:
    """Copy a folder at random moments while a command writes it, and let the command go on in the copies.

    Args:
        world: with the clean runs.
        seed: of the moments.
        copies: of each kind.
    """
    draws = random.Random(seed)
    chosen = [(world.clean[kind], draws.random()) for kind in KINDS for _ in range(copies)]
    answers = world.try_all(lambda warm, one: _copy(world, warm, *one), chosen)
    noticed = sum(code != 0 for code, _ in answers)
    return Outcome(
        ", ".join(KINDS),
        len(chosen),
        f"{len(chosen) - noticed} went on to a clean run's bytes; {noticed} noticed that the copy is not whole",
        [violation for _, found in answers for violation in found],
    )


def _copy(world: World, warm: Warm, clean: Clean, moment: float) -> tuple[int, list[str]]:
    source = world.copy(clean.before)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.run, source, clean.job.command(source))
        time.sleep(moment * clean.seconds)
        target = _copy_as_it_is(source, source.with_name(f"{source.name}-copy"))
        running.result()
    ending = warm.run(target, clean.job.command(target))
    name, found = f"{clean.job.name}, copied after {moment:.2f} of its time", []
    if ending.has_traceback or (ending.code and not ending.sentence):
        found.append(f"{name}: ended with {ending.code}: {ending.errors.strip()[-300:]}")
    if not ending.code:
        found += [f"{name}: {what}" for what in differences(result(target), clean.result)]
    shutil.rmtree(source)
    shutil.rmtree(target)
    return ending.code, found


def _copy_as_it_is(source: Path, target: Path) -> Path:
    """A copy of what is there, as `cp -a` makes it; files may vanish meanwhile."""
    with contextlib.suppress(shutil.Error, FileNotFoundError):
        shutil.copytree(source, target, symlinks=True)
    return target

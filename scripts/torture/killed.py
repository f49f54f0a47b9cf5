"""Commands killed again and again, at random moments and inside writes, until they are done."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torture.commands import KILLED, Warm
from scripts.torture.damage import Outcome
from scripts.torture.faults import Fault
from scripts.torture.jobs import Job
from scripts.torture.world import Clean, World, differences, result

_LONGER = ("steps=6", "checkpoint_every=2")
_OPTIMIZERS = ("sgd", "adam", "adamw", "adamw_fused")


@dataclass
class _Killings:
    """What came of killing one job."""

    name: str
    inside: int = 0
    outside: int = 0
    finished: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """In all."""
        return self.inside + self.outside


def kill_commands(world: World, seed: int, kills: int) -> Outcome:
    """Kill each kind of command, trainings with every optimiser, and let it end whenever it is about to.

    Args:
        world: with the clean runs.
        seed: of the moments.
        kills: least number of kills, shared out evenly.
    """
    jobs = _jobs(world)
    share = -(-kills // len(jobs))
    results = world.try_all(lambda warm, clean: _kill(world, warm, clean, seed, share), jobs)
    inside, outside = sum(one.inside for one in results), sum(one.outside for one in results)
    return Outcome(
        f"{', '.join(one.name for one in results)}; {inside} inside a write or before another call, {outside} from"
        " outside at a random moment",
        inside + outside,
        f"ended {sum(one.finished for one in results)} times, with a clean run's bytes",
        [f"{one.name}: {violation}" for one in results for violation in one.violations],
    )


def _jobs(world: World) -> list[Clean]:
    trained = [*_with(world, "train-dfg", "generator.loop", ("adamw_fused",))]
    trained += _with(world, "train", "train", _OPTIMIZERS)
    return [world.clean[kind] for kind in ("prepare", "cues", "evaluate", "save-model", "export-cues")] + trained


def _with(world: World, kind: str, section: str, optimizers: tuple[str, ...]) -> list[Clean]:
    """A longer training of a kind by each optimiser, undisturbed; the generator's keeps an average of its weights."""
    made = []
    for optimizer in optimizers:
        options = tuple(f"{section}.{option}" for option in (*_LONGER, f"optimizer={optimizer}"))
        job = Job(f"{kind} ({optimizer})", (*world.clean[kind].job.arguments, *options))
        made.append(world.undisturbed(job, world.clean[kind].before))
    return made


def _kill(world: World, warm: Warm, clean: Clean, seed: int, kills: int) -> _Killings:
    draws, found = random.Random(f"{seed} {clean.job.name}"), _Killings(clean.job.name)
    while found.kills < kills and not found.violations and found.finished <= 2 * kills:
        folder = world.copy(clean.before)
        code = KILLED
        while code == KILLED and found.kills < kills:
            code = _run_to_death(warm, folder, clean, draws, found)
        if code == KILLED:
            code = warm.run(folder, clean.job.command(folder)).code
        found.finished += 1
        found.violations += [f"it ended with {code}"] if code else []
        found.violations += differences(result(folder), clean.result)
        shutil.rmtree(folder)
    return found


def _run_to_death(warm: Warm, folder: Path, clean: Clean, draws: random.Random, found: _Killings) -> int:
    """By turns from outside and in one of its own calls, more often in a write than in others."""
    command = clean.job.command(folder)
    if found.inside > found.outside:
        ending = warm.run(folder, command, kill_after=draws.uniform(0, clean.seconds))
        found.outside += ending.code == KILLED
        return ending.code
    numbers = range(1, len(clean.calls) + 1)
    writes = [number for number in numbers if clean.calls[number - 1][0] == "write"]
    ending = warm.run(folder, command, Fault(draws.choice(draws.choice([writes, numbers])), "kill"))
    found.inside += ending.code == KILLED
    return ending.code

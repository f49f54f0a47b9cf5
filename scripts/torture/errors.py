"""EIO, ENOSPC, EDQUOT, EROFS, EACCES and short writes, in each call of a small job of every kind."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass

from scripts.torture.commands import Warm
from scripts.torture.damage import Outcome
from scripts.torture.faults import DEEDS, LASTING, Fault
from scripts.torture.world import Clean, World, differences, faulty_ending, result, target_of

KINDS = ("prepare", "train-dfg", "cues", "train", "evaluate", "save-model", "export-cues", "import-cues")


@dataclass(frozen=True)
class _Trial:
    clean: Clean
    fault: Fault
    call: str
    file: str

    def __str__(self) -> str:
        return f"{self.clean.job.name}, call {self.fault.call} ({self.call} {self.file}), {self.fault.deed}"


def fail_calls(world: World, seed: int, every: bool) -> Outcome:
    """Run each job with one of its calls failing, then again undisturbed.

    Args:
        world: with the clean runs.
        seed: of which error comes in which call.
        every: every single call; otherwise one of each name to each kind of file.
    """
    trials = [trial for kind in KINDS for trial in _trials(world.clean[kind], seed, every)]
    answers = world.try_all(lambda warm, trial: _try(world, warm, trial), trials)
    made = Counter(trial.fault.deed for trial in trials)
    calls = sum(len(world.clean[kind].calls) for kind in KINDS)
    ended = Counter(code for code, _ in answers)
    return Outcome(
        f"{', '.join(f'{count} {deed}' for deed, count in sorted(made.items()))}; in {len(trials)} of the {calls} calls"
        f" of {', '.join(KINDS)}",
        len(trials),
        f"{ended[1]} ended in a sentence that names the file, {ended[0]} got by without the call;"
        " run again, all ended with a clean run's bytes",
        [sentence for _, found in answers for sentence in found],
    )


def _trials(clean: Clean, seed: int, every: bool) -> list[_Trial]:
    trials, seen = [], set()
    for number, (call, file) in enumerate(clean.calls, start=1):
        kind = (call, re.sub(r"\d+", "#", target_of(file)))
        if every or kind not in seen:
            deeds = [deed for deed, calls in DEEDS.items() if call in calls]
            trials.append(_Trial(clean, Fault(number, deeds[(number + seed) % len(deeds)]), call, file))
        seen.add(kind)
    return trials


def _try(world: World, warm: Warm, trial: _Trial) -> tuple[int, list[str]]:
    clean, folder = trial.clean, world.copy(trial.clean.before)
    command = clean.job.command(folder)
    ending = warm.run(folder, command, trial.fault)
    # A disk that stays full or read-only may be told of a later file.
    lasts = trial.fault.deed in LASTING
    files = {file for _, file in clean.calls} if lasts else {trial.file}
    found = [f"{trial}: {what}"] if (what := faulty_ending(ending, *files)) else []
    if not ending.code:
        found += [f"{trial}: exit code 0, but {what}" for what in differences(result(folder), clean.result, more=True)]
    again = warm.run(folder, command)
    if again.code:
        found.append(f"{trial}: run again it ends with {again.code}: {again.errors.strip()[-300:]}")
    found += [f"{trial}: run again, {what}" for what in differences(result(folder), clean.result)]
    shutil.rmtree(folder)
    return ending.code, found

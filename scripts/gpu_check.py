#!/usr/bin/env python
"""Checks of a GPU: the device tests, and the estimates of `--dry-run` beside what the card takes. See gpu_check.sh."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.markdown import table
from scripts.bench import CLONE

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
LEAST_GIB = 6.0
"""Memory that the checks need: the compact generator's training step, the libraries, and half as much again."""

NO_GPU = 2
"""Exit code of a machine on which nothing can be checked."""


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: what was checked.
        state: `ok`, `failed` or `skipped`.
        figures: what was measured, or why not.
    """

    name: str
    state: str
    figures: str = ""


def main() -> int:
    """Run all checks, print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu compares it with itself")
    parser.add_argument("--quick", action="store_true", help="smaller models, and no test of two processes")
    chosen = parser.parse_args()
    missing = "" if chosen.device == "cpu" else what_is_missing()
    if missing:
        print(report([Check("device tests", SKIPPED, missing), Check("training and cues", SKIPPED, missing)]))
        return NO_GPU
    checks = [*device_tests(chosen.device, chosen.quick)]
    for name, run in figures(chosen.device, chosen.quick).items():
        checks.append(guarded(name, run))
    print(report(checks))
    return int(any(check.state == FAILED for check in checks))


def what_is_missing() -> str:
    """Why no GPU can be checked, in one sentence; empty if one can."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU: torch sees no CUDA device"
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if gib < LEAST_GIB:
        return f"the GPU is too small: it has {gib:.1f} GiB, and the checks need {LEAST_GIB:.0f}"
    return ""


def device_tests(device: str, quick: bool) -> list[Check]:
    """The tests that are marked `gpu`, each a check."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/device", f"--junit-xml={results}"]
        command += ["-k", "not two_processes"] if quick else []
        environment = {**os.environ, "AGFAS_DEVICE": device}
        code = subprocess.run(command, cwd=CLONE, env=environment, check=False).returncode
        if not results.is_file():
            return [Check("device tests", FAILED, f"pytest ended with code {code} and no results")]
        return [_of_test(case) for case in ElementTree.parse(results).iter("testcase")] or [
            Check("device tests", FAILED, "no test was found")
        ]


def _of_test(case: ElementTree.Element) -> Check:
    name = case.get("name", "").removeprefix("test_").replace("_", " ")
    for tag, state in (("failure", FAILED), ("error", FAILED), ("skipped", SKIPPED)):
        found = case.find(tag)
        if found is not None:
            reason = found.get("message", "").splitlines()
            return Check(name, state, reason[0][:100] if reason else "")
    return Check(name, OK, f"{float(case.get('time', 0)):.1f} s")


def figures(device: str, quick: bool) -> dict[str, Callable[[], str]]:
    """Measurements by name; each gives its figures, or raises."""
    config, overrides = ("loo.yaml", []) if quick else ("dfg_compact.yaml", ["generator.loop.batch_size=8"])
    return {
        "training step of the generator": lambda: generator_step(device, config, overrides),
        "training step of the detector": lambda: predicted_and_taken(device, "detector", "loo.yaml", []),
        "calls of the U-Net": lambda: unet_calls(device, "tiny" if quick else "compact"),
    }


def generator_step(device: str, config: str, overrides: list[str]) -> str:
    """Both choices of gradient checkpointing."""
    texts = []
    for word in ("false", "true"):
        changes = [*overrides, f"generator.gradient_checkpointing={word}"]
        if device == "cpu":
            changes.append('generator.loop.mixed_precision="no"')
        texts.append(predicted_and_taken(device, "generator", config, changes))
    return f"{texts[0]}; with gradient checkpointing {texts[1]}"


def predicted_and_taken(device: str, kind: str, config: str, overrides: list[str]) -> str:
    """Steps a second and memory of a training, predicted for this machine and measured."""
    import torch

    from pipelines.cost import models
    from pipelines.cost.estimate import step_seconds, training_memory
    from pipelines.cost.machines import machine_of
    from pipelines.cost.parts import left_of, parts_of_plan
    from pipelines.experiment.file import read_experiment
    from scripts.bench.cost import train_steps

    experiment = read_experiment(CLONE / "configs" / config, [*overrides, "output=nowhere"])
    part = next(part for part in left_of(parts_of_plan(experiment)) if part.kind == kind)
    machine = machine_of(None, 1)
    need = models.training(part, machine)
    predicted, memory = step_seconds(need, machine), sum(training_memory(need, machine).values())
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken = train_steps(part, need.faces, 10 if device == "cuda" else 2, device)
    text = f"{1 / taken:.3g} steps a second (predicted {1 / predicted:.3g})"
    if device == "cuda":
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB (predicted {memory / 2**30:.2f})"
    return text


def unet_calls(device: str, preset: str) -> str:
    """Faces a second of one call, by number type."""
    import torch

    from dfg.unet import build_unet

    side, width, faces = (16, 128, 8) if preset == "tiny" else (32, 512, 32 if device == "cuda" else 1)
    texts = []
    for dtype in (torch.float32, torch.bfloat16):
        unet = build_unet(preset, in_channels=4, sample_size=side).eval()
        torch.nn.Module.to(unet, device, dtype)
        given = torch.randn(faces, 4, side, side, device=device, dtype=dtype)
        tokens = torch.randn(faces, 49, width, device=device, dtype=dtype)
        times = torch.full((faces,), 500, device=device)
        with torch.no_grad():
            start, calls = 0.0, 5
            for number in range(calls + 1):
                if number == 1:
                    _wait(device)
                    start = time.perf_counter()
                unet(given, times, encoder_hidden_states=tokens)
            _wait(device)
        texts.append(f"{str(dtype).removeprefix('torch.')} {faces * calls / (time.perf_counter() - start):.3g}")
    return f"faces a second at {preset}: {', '.join(texts)}"


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def guarded(name: str, run: Callable[[], str]) -> Check:
    """A check that takes any exception as its failure, so that the others still run."""
    try:
        return Check(name, OK, run())
    except Exception as error:
        lines = str(error).splitlines()
        return Check(name, FAILED, f"{type(error).__name__}: {lines[0][:120] if lines else ''}")


def report(checks: list[Check]) -> str:
    """The table of all checks, and the machine."""
    rows = [[check.name, check.state, check.figures] for check in checks]
    counts = ", ".join(f"{sum(check.state == state for check in checks)} {state}" for state in (OK, FAILED, SKIPPED))
    return f"\n{table(['check', 'state', 'figures'], rows)}\n\n{machine()}\n{counts}"


def machine() -> str:
    """Card, driver and torch."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    number = torch.cuda.device_count()
    return f"card: {card}, {number} of them; driver: {driver()}; torch {torch.__version__}, CUDA {torch.version.cuda}"


def driver() -> str:
    """The driver's version by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return "unknown, since nvidia-smi is not there"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "unknown, since nvidia-smi failed"


if __name__ == "__main__":
    sys.exit(main())

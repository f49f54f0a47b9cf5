#!/usr/bin/env python
"""Benchmarks by name: `python scripts/bench.py NAME`, with NAME one of

    cues, cues-recipe [--generator DIR] [--repeats N] [--only TEXT], one-call, cue-parts,
    cue-rounding --generator DIR [--pictures FACES.npy], cue-write, resume, loader, loader-workers, fas-aug, dfg-step,
    dfg-step-sd15, int8, metrics, bootstrap, statistics, render, freed-memory, idle-thread, cold-start, serve,
    processes, cost, scale, prepare --weights yunet.onnx, prepare-memory, watch --weights yunet.onnx,
    student [--weights FOLDER]

Contenders run in turns; the tables give medians and, beside each speed, whether the contenders made the same. `--write`
replaces the benchmark's table in docs/benchmarks.md, or that of docs/scale.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# The benchmarks are imported as `scripts.bench.NAME`, from wherever this file is run.
sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.errors import AgfasError
from pipelines.markdown import table
from scripts.bench import CLONE

BENCHMARKS = {
    "cost": "scripts.bench.cost:cost_benchmark",
    "scale": "scripts.bench.cost:scale_table",
    "cues": "scripts.bench.cues:cues_benchmark",
    "cue-write": "scripts.bench.cue_store:write_benchmark",
    "resume": "scripts.bench.cue_store:resume_benchmark",
    "cues-recipe": "scripts.bench.cues:compact_recipe_benchmark",
    "one-call": "scripts.bench.one_call:one_call_benchmark",
    "cue-parts": "scripts.bench.cues:cue_parts_benchmark",
    "cue-rounding": "scripts.bench.rounding:rounding_benchmark",
    "int8": "scripts.bench.int8:int8_benchmark",
    "student": "scripts.bench.student:student_benchmark",
    "dfg-step": "scripts.bench.dfg_step:compact_benchmark",
    "dfg-step-sd15": "scripts.bench.dfg_step:sd15_benchmark",
    "loader": "scripts.bench.cue_store:loader_benchmark",
    "loader-workers": "scripts.bench.loader:workers_benchmark",
    "fas-aug": "scripts.bench.fas_aug:fas_aug_benchmark",
    "metrics": "scripts.bench.metrics:metrics_benchmark",
    "bootstrap": "scripts.bench.metrics:bootstrap_benchmark",
    "render": "scripts.bench.synthetic:render_benchmark",
    "statistics": "scripts.bench.synthetic:statistics_benchmark",
    "freed-memory": "scripts.bench.training_step:freed_memory_benchmark",
    "idle-thread": "scripts.bench.training_step:idle_thread_benchmark",
    "cold-start": "scripts.bench.cold_start:cold_start_benchmark",
    "serve": "scripts.bench.serve:serve_benchmark",
    "processes": "scripts.bench.processes:processes_benchmark",
    "prepare": "scripts.bench.prepare:prepare_benchmark",
    "prepare-memory": "scripts.bench.prepare_memory:memory_benchmark",
    "watch": "scripts.bench.watch:watch_benchmark",
}
PAGE, OTHER_PAGES = CLONE / "docs" / "benchmarks.md", {"scale": CLONE / "docs" / "scale.md"}


def main() -> None:
    """Run one benchmark, print its table and the machine; with `--write`, store them in the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/benchmarks.md")
    parser.add_argument("--weights", type=Path, help="YuNet's file (for prepare, watch), Silent-Face's (for student)")
    parser.add_argument("--generator", type=Path, help="folder of a trained generator (for cues-recipe, cue-rounding)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of every contender (for cues-recipe)")
    parser.add_argument("--only", default="", help="contenders with this in their names alone (for cues-recipe)")
    parser.add_argument("--pictures", type=Path, help="pixels-*.npy of a face dataset (for cue-rounding)")
    chosen = parser.parse_args()
    module, function = BENCHMARKS[chosen.name].split(":")
    options = {
        "prepare": {"weights": chosen.weights},
        "watch": {"weights": chosen.weights},
        "student": {"weights": chosen.weights},
        "cues-recipe": {"generator": chosen.generator, "repeats": chosen.repeats, "only": chosen.only},
        "cue-rounding": {"generator": chosen.generator, "pictures": chosen.pictures},
    }
    try:
        rows = getattr(import_module(module), function)(**options.get(chosen.name, {}))
    except AgfasError as error:
        parser.exit(1, f"{error}\n")
    # A table of estimates does not depend on the machine.
    text = as_markdown(rows) if chosen.name in OTHER_PAGES else f"{as_markdown(rows)}\n\n{machine()}\n"
    print(text)
    if chosen.write:
        write_section(chosen.name, text)


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "benchmark"))
    return table(names, [[cell(row.get(name, "")) for name in names] for row in rows])


def cell(value: Any) -> str:
    """A float with four significant digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine() -> str:
    """The machine and the versions."""
    from pipelines.training.run import describe_environment

    facts = describe_environment()
    versions = ", ".join(f"{name} {facts['packages'][name]}" for name in ("torch", "diffusers", "numpy"))
    flags = cpu_flags()
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['torch_threads']} threads, {facts['device']}, {flags};"
        f" Python {facts['python']}, {versions}."
    )


def cpu_flags() -> str:
    """The instruction sets that matter for bf16 and int8."""
    path = Path("/proc/cpuinfo")
    known = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if f" {flag}" in known]
    return " ".join(found) or "no vector flags known"


def write_section(name: str, text: str) -> None:
    """Replace what is between this benchmark's markers in the page."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    path = OTHER_PAGES.get(name, PAGE)
    page = path.read_text(encoding="utf-8")
    block = f"{start}\n{text}\n{end}"
    if start not in page:
        page += f"\n## {name}\n\n{block}\n"
    page = re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _: block, page, flags=re.DOTALL)
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

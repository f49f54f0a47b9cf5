"""The example of docs/extending.md: short, running as printed, and found by name once it is in the tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from oanet import names
from oanet.detectors import build_detector, load_detector
from oanet.objectives import build_objective

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def example() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def table_lines() -> dict[str, str]:
    """The page's table: name of a table of `oanet.names` to the line that it gets."""
    rows = re.findall(r"^\| `(\w+)` \| `(.*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


def test_the_example_is_short_and_linked() -> None:
    assert len(example().splitlines()) < 60
    assert "docs/extending.md" in (PAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example())
    result = subprocess.run(
        [sys.executable, script], cwd=PAGE.parents[1], env=_environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    losses = [float(line.split()[1]) for line in result.stdout.splitlines()]
    assert len(losses) == 20
    assert losses[-1] < 0.7 * losses[0]


def test_its_lines_in_the_tables_make_it_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "example.py").write_text(example())
    monkeypatch.syspath_prepend(tmp_path)
    lines = {table: eval("{" + line + "}") for table, line in table_lines().items()}
    assert set(lines) == {"DETECTOR_CLASSES", "DETECTOR_OPTIONS", "OBJECTIVE_CLASSES", "OBJECTIVE_OPTIONS"}
    for table, entries in lines.items():
        for name, value in entries.items():
            at = f"example:{value.split(':')[1]}" if table.endswith("CLASSES") else value
            monkeypatch.setitem(getattr(names, table), name, at)
    for table, source in (("DETECTORS", names.DETECTOR_CLASSES), ("OBJECTIVES", names.OBJECTIVE_CLASSES)):
        for module in ("oanet.names", "oanet.detectors", "oanet.objectives", "oanet.presets"):
            monkeypatch.setattr(f"{module}.{table}", tuple(source), raising=False)
    detector: Any = build_detector("small_cnn", width=8)
    objective: Any = build_objective("focal", detector, 2, gamma=1.0)
    assert objective.gamma == 1.0
    detector.eval().save_pretrained(tmp_path / "saved")
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_detector(tmp_path / "saved")(image).logits, detector(image).logits)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "OMP_NUM_THREADS": "1"}

"""The example of docs/extending.md: short, complete, found by its address and by its entry points."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from oanet.detectors import build_detector, load_detector
from oanet.objectives import build_objective

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def example() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "example.py").write_text(example())
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "example", raising=False)


def test_the_example_is_short_and_linked() -> None:
    assert len(example().splitlines()) < 60
    assert "docs/extending.md" in (PAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.slow
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


def test_it_is_found_by_the_pages_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch)
    page = PAGE.read_text(encoding="utf-8")
    given = dict(re.findall(r"(\w+\.\w+)=(\S+)", page.split("PYTHONPATH=.")[1].split("```")[0]))
    detector: Any = build_detector(given["detector.name"], width=int(given["detector.width"]))
    objective: Any = build_objective(given["objective.name"], detector, 2, gamma=float(given["objective.gamma"]))
    assert objective.gamma == 1.5
    detector.eval().save_pretrained(tmp_path / "saved")
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_detector(tmp_path / "saved")(image).logits, detector(image).logits)


def test_its_entry_points_make_it_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch)
    toml = re.search(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert toml is not None
    info = tmp_path / "example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", toml.group(1)).replace('"', "")
    (info / "entry_points.txt").write_text(points)
    objective: Any = build_objective("focal", build_detector("small_cnn", width=8), 2, gamma=1.0)
    assert objective.gamma == 1.0


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "OMP_NUM_THREADS": "1"}

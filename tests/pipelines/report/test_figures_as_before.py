"""Every chart of a small study holds what it held: elements by kind, and the sum of all their numbers.

    PYTHONPATH=.:tests:tests/pipelines python tests/pipelines/report/test_figures_as_before.py

writes `drawn_figures.json` anew, after somebody has looked at the page.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from output_folder import make_experiment, make_output, write_faces

from pipelines.report import figures
from pipelines.report.gather import gather

STORED = Path(__file__).with_name("drawn_figures.json")
SWEEP = {"axes": {"seed": [0, 1]}, "variants": [{"label": "plain"}, {"label": "later", "set": {"cue.timestep": 401}}]}


def drawn(folder: Path) -> dict[str, list[float]]:
    """CHART to its numbers of lines, dots, texts and others in the order of their names, and the sum of its numbers."""
    write_faces(folder / "faces")
    make_output(folder / "sweep", make_experiment(folder / "sweep", sweep=SWEEP), (), {"later": 2.5})
    gathered = gather(folder / "sweep")
    study = gathered.studies[0]
    charts = {
        "roc": figures.roc_figures(study),
        "det": figures.det_figures(study),
        "training": figures.training_figures(gathered, study),
        **{f"scores of {group.name}": shown for group, shown in figures.histogram_figures(study)},
    }
    return {f"{name} {place}": _facts(chart) for name, each in charts.items() for place, chart in enumerate(each)}


def _facts(chart: str) -> list[float]:
    tags = Counter(re.findall(r"<(\w+)", chart))
    numbers = re.findall(r"(?<![\w#])-?\d+(?:\.\d+)?", chart)
    return [*(tags[name] for name in sorted(tags)), round(sum(abs(float(number)) for number in numbers), 1)]


def test_charts_hold_what_they_held(tmp_path: Path) -> None:
    before, now = json.loads(STORED.read_text()), drawn(tmp_path)
    assert list(now) == list(before)
    for name, facts in before.items():
        assert now[name][:-1] == facts[:-1], name
        assert now[name][-1] == pytest.approx(facts[-1], rel=1e-3), name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        STORED.write_text(json.dumps(drawn(Path(folder)), indent=1) + "\n")

"""Every table and chart of a small study holds what it held: its cells; its elements and the sum of their numbers.

    PYTHONPATH=.:tests:tests/pipelines python tests/pipelines/report/test_report_as_before.py

writes `tables.md` and `drawn_figures.json` anew, after somebody has looked at them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from output_folder import make_experiment, make_output, write_faces

from pipelines.report import facts, figures, tables
from pipelines.report.cells import to_markdown
from pipelines.report.contents import Gathered
from pipelines.report.gather import gather

CHARTS, TABLES = (Path(__file__).with_name(name) for name in ("drawn_figures.json", "tables.md"))
SWEEP = {"axes": {"seed": [0, 1]}, "variants": [{"label": "plain"}, {"label": "later", "set": {"cue.timestep": 401}}]}


def made(folder: Path) -> Gathered:
    write_faces(folder / "faces")
    make_output(folder / "sweep", make_experiment(folder / "sweep", sweep=SWEEP), (), {"later": 2.5})
    return gather(folder / "sweep")


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    return made(tmp_path_factory.mktemp("study"))


def cells_of(gathered: Gathered) -> str:
    """Tables without the names of artefacts and without intervals, which are drawn."""
    study = gathered.studies[0]
    assert study.data is not None
    shown = [
        facts.data_table(study.data),
        facts.settings_table(study),
        facts.timing_table(gathered),
        facts.environment_table(gathered),
        tables.rule_table(study),
        tables.attack_table(study),
        tables.attack_table(study, "to_phone"),
        tables.classification_table(study),
        tables.leave_out_table(study, study.papers, "Papers"),
    ]
    return "\n".join(to_markdown(table) for table in shown if table is not None)


def test_tables_hold_what_they_held(gathered: Gathered) -> None:
    assert cells_of(gathered).splitlines() == TABLES.read_text(encoding="utf-8").splitlines()


def drawn(gathered: Gathered) -> dict[str, list[float]]:
    """CHART to its numbers of lines, dots, texts and others in the order of their names, and the sum of its numbers."""
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


def test_charts_hold_what_they_held(gathered: Gathered) -> None:
    before, now = json.loads(CHARTS.read_text()), drawn(gathered)
    assert list(now) == list(before)
    for name, held in before.items():
        assert now[name][:-1] == held[:-1], name
        assert now[name][-1] == pytest.approx(held[-1], rel=1e-3), name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        output = made(Path(folder))
        CHARTS.write_text(json.dumps(drawn(output), indent=1) + "\n")
        TABLES.write_text(cells_of(output), encoding="utf-8")

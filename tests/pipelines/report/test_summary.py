"""The table at the end of a command: the report's numbers, aligned, without torch and without the faces."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from output_folder import make_experiment, make_output, write_faces

from pipelines.experiment.plan import read_plan
from pipelines.report.comparison import Comparison
from pipelines.report.gather import gather
from pipelines.report.summary import summary
from pipelines.report.tables import leave_out_table
from pipelines.stages import sweep

SWEEP = {
    "axes": {"seed": [0, 1]},
    "variants": [
        {"label": "image_only", "set": {"detector": {"name": "image_only"}}},
        {"label": "oanet t=401", "set": {"cue.timestep": 401}},
        {"label": "oanet shuffled", "set": {"cue.source": "shuffled"}},
    ],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("summary") / "sweep"
    write_faces(folder.parent / "faces")
    make_output(folder, make_experiment(folder, sweep=SWEEP), ("oanet t=401 (seed=1)",))
    return folder


def test_its_numbers_are_the_reports(root):
    (study,) = gather(root).studies
    honest = leave_out_table(study, study.honest, "", Comparison(study))
    papers = leave_out_table(study, study.papers, "")
    auc = honest.columns.index("AUC mean")
    lines = summary(read_plan(root)).splitlines()
    for ours, theirs in zip(honest.rows, papers.rows, strict=True):
        (line,) = (line for line in lines if line.startswith(ours.name))
        for cell in (ours.cells[0], ours.cells[auc], theirs.cells[0]):
            assert f"{cell.text} {cell.small}".strip() in line
    assert "shuffled (control)" in "\n".join(lines)
    assert "oanet t=401 (1 of 2 unfinished)" in "\n".join(lines)


def test_it_is_aligned_and_says_which_rule_looks_at_the_labels(root):
    title, _, head, *rows, _, rules, warning = summary(read_plan(root)).splitlines()
    assert title.endswith("mean of 3 folds, in %")
    place = head.index("papers' HTER")
    assert all(row[place - 1] == " " and row[place] != " " for row in rows)
    assert rules == "honest: last/source_dev_eer; papers': oracle/target_eer, which looks at the test labels"
    assert warning.startswith("Few test videos: to_kiosk 8 live, to_kiosk 12 attack, ")


def test_no_torch_is_imported(root):
    code = (
        "import sys; from pathlib import Path; from pipelines.experiment.plan import read_plan;"
        "from pipelines.report.summary import summary; summary(read_plan(Path(sys.argv[1])));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(root)]).returncode == 0


def test_nothing_made_yet_is_a_table_of_dashes(root, tmp_path):
    experiment = make_experiment(tmp_path / "sweep", sweep=SWEEP)
    assert summary(sweep.expand(experiment)).count("–") == 9


def test_a_sweep_ends_with_it(root, tmp_path, monkeypatch, capsys):
    copied = shutil.copytree(root.parent, tmp_path / "copied") / "sweep"
    monkeypatch.setattr(sweep, "run_planned", lambda planned, jobs: None)
    sweep.run(make_experiment(copied, sweep=SWEEP))
    shown = capsys.readouterr().out
    assert summary(read_plan(copied)) in shown
    assert shown.rstrip().endswith(f"Report: {copied / 'report' / 'index.html'}")

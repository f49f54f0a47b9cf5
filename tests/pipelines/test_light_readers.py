"""Finished results are judged, read and printed, and plans shown, without importing torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from output_folder import make_experiment, make_output, write_faces

CONFIGS = Path(__file__).parents[2] / "configs" / "paper"

JUDGE = """
from pipelines.evaluation.judge import write_result
from pipelines.evaluation.settings import EvaluateSettings
for result in ROOT.glob("detectors/*/result.json"):
    assert write_result(result.parent, EvaluateSettings(replicates=200))["folds"]
"""
REPORT = """
from pipelines.report import comparison, figures, groups, page, tables
from pipelines.report.gather import gather
gathered = gather(ROOT)
(study,) = gathered.studies
compared = comparison.Comparison(study)
assert comparison.study_statistics(study, compared).words
assert tables.difference_table(study, compared) and figures.roc_figures(study)
assert page.to_csv(gathered.studies)
"""
REPRODUCE = """
from pipelines.reproduce.request import Asked, listing
from pipelines.stages import reproduce
assert len(listing(CONFIGS)) > 10
assert reproduce.plan(Asked("agfas/IV", ("synthetic",), output=ROOT, configs=CONFIGS))
"""
INSPECTION = """
from pipelines.experiment.config import Experiment
from pipelines.stages import inspect_dfg
inspect_dfg.print_plan(Experiment(output=ROOT), [401, 801], 8)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("light") / "out"
    write_faces(root.parent / "faces")
    sweep = {
        "axes": {"seed": [0, 1]},
        "variants": [
            {"label": "erm", "set": {"objective": {"name": "erm"}}},
            {"label": "ssdg", "set": {"objective": {"name": "ssdg"}}},
        ],
    }
    make_output(root, make_experiment(root, detector={"name": "image_only"}, sweep=sweep), skill={"ssdg": 2.5})
    return root


ROOMS = {"evaluation": JUDGE, "report": REPORT, "reproduce": REPRODUCE, "inspection": INSPECTION}
CHECK = "assert not {'torch', 'diffusers', 'timm'} & set(sys.modules), 'torch was imported'"


@pytest.mark.slow  # `stages/test_without_torch.py` asks the commands
@pytest.mark.parametrize("room", ROOMS)
def test_results_and_plans_are_read_without_torch(root, room):
    places = f"ROOT, CONFIGS = Path({str(root)!r}), Path({str(CONFIGS)!r})"
    code = "\n".join(["import sys", "from pathlib import Path", places, ROOMS[room], CHECK])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

"""Every protocol trains, evaluates and reports, from its example configuration at tiny size."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipelines.experiment.file import read_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.report.gather import gather
from pipelines.stages import chain, report

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "protocols").glob("*.yaml"))
# What each fold tests, by protocol: (fold, domains) of the three domains of the tiny benchmark.
EXPECTED = {
    "all_to_unseen": {"all_to_unseen": {"phone", "tablet"}},
    "combined": {"combined": {"phone", "tablet", "webcam"}},
    "cross_matrix": {f"from_{name}": {"phone", "tablet", "webcam"} for name in ("phone", "tablet", "webcam")},
    "leave_one_out": {f"to_{name}": set() for name in ("phone", "tablet", "webcam")},
    "limited": {"webcam_to_phone": set()},
    "one_against_others": {
        "from_phone": {"tablet", "webcam"}, "from_tablet": {"phone", "webcam"}, "from_webcam": {"phone", "tablet"},
    },
    "within": {f"within_{name}": set() for name in ("phone", "tablet", "webcam")},
}  # fmt: skip
CHANGES = {
    "sweep": None,
    "data": {
        "name": "synthetic", "size": 32, "domains": ["webcam", "phone", "tablet"], "subjects": 5, "live_videos": 1,
        "attack_videos": 1, "frames": 1, "corpus_subjects": 0,
    },
    "detector": {
        "name": "image_only", "preset": "tiny", "image_size": 32,
        "backbone_options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    },
    "objective": {"name": "erm"},
    "train": {"steps": 1, "warmup": 1, "per_cell": 1, "evaluations": 1},
    "evaluate": {"threshold": "source_dev_min_acer", "replicates": 100},
}  # fmt: skip
DOMAINS = {
    "limited": {"protocol.train": ["webcam"], "protocol.test": ["phone"]},
    "all_to_unseen": {"protocol.test": ["phone", "tablet"]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """All protocols judged and reported in one folder, on one tiny benchmark."""
    root = tmp_path_factory.mktemp("protocols") / "out"
    for path in CONFIGS:
        changes = {**CHANGES, "output": str(root), **DOMAINS.get(path.stem, {})}
        experiment = with_overrides(read_experiment(path), changes)
        # The plan tells experiments apart by label: one folder holds one of each.
        chain.run(experiment, "evaluate")
        report.run(root)
        (root / "report").rename(root / f"report-{path.stem}")
        (root / "plan.json").rename(root / f"plan-{path.stem}.json")
    return root


def test_there_is_an_example_of_every_protocol():
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_protocol_is_judged_and_reported(root, name):
    (root / "plan.json").write_text((root / f"plan-{name}.json").read_text())
    (trial,) = gather(root).trials
    assert trial.planned.experiment.protocol.name == name
    result = read_json(Workspace(trial.planned.experiment).detector() / "result.json")
    assert {fold: set(judged.get("domains", {})) for fold, judged in result["folds"].items()} == EXPECTED[name]
    assert result["honest"] == "last/source_dev_min_acer"
    for judged in result["folds"].values():
        for part in (judged, *judged.get("domains", {}).values()):
            numbers = part["rules"][result["honest"]]
            assert numbers["threshold"] == judged["rules"][result["honest"]]["threshold"]
            assert numbers["classification"]["positive"] == "attack"
            assert part["videos"] == {"bonafide": numbers["bonafide"], "attack": numbers["attacks"]}
    page = (root / f"report-{name}" / "index.html").read_text(encoding="utf-8")
    for domain in set().union(*EXPECTED[name].values()):
        assert f'scope="row">{domain}, ' in page
    with (root / f"report-{name}" / "results.csv").open(encoding="utf-8") as stream:
        rows = {(row["fold"], row["domain"]) for row in csv.DictReader(stream)}
    assert rows == {(fold, domain) for fold, names in EXPECTED[name].items() for domain in ("", *names)}


def test_within_tests_only_subjects_that_were_held_out(root):
    matrix, within = (read_json(root / f"plan-{name}.json")["experiments"] for name in ("cross_matrix", "within"))
    assert len(matrix) == len(within) == 1
    (root / "plan.json").write_text((root / "plan-cross_matrix.json").read_text())
    (trial,) = gather(root).trials
    judged = trial.result["folds"]["from_phone"]["domains"]
    # One subject in five is held out, with one live and one attack video.
    assert judged["phone"]["videos"] == {"bonafide": 1, "attack": 1}
    assert judged["webcam"]["videos"] == {"bonafide": 5, "attack": 5}

"""Differences from one row of a sweep: of the seeds that both have, and refused where there is no such row."""

from __future__ import annotations

import numpy as np
import pytest
from output_folder import make_experiment, make_output, write_faces

from pipelines.errors import AgfasError
from pipelines.experiment.plan import expand
from pipelines.report.gather import read_results
from scripts.paired_auc import main, paired

SKILL = {"weak": 0.3, "strong": 2.0, "half": 1.0}


def finished(tmp_path, **changes):
    write_faces(tmp_path / "faces", subjects=8)
    variants = [{"label": label, "set": {"train.warmup": number}} for number, label in enumerate(SKILL)]
    sweep = {"axes": {"seed": [0, 1]}, "variants": variants}
    made = make_experiment(tmp_path / "run", sweep=sweep, detector={"name": "image_only"}, **changes)
    make_output(made.root, made, skill=SKILL, unfinished=("half (seed=1)",))
    return made


@pytest.fixture
def experiment(tmp_path):
    return finished(tmp_path)


def test_rows_are_compared_over_the_seeds_that_both_have(experiment):
    rows = {row["label"]: row for row in paired(experiment, "weak")}
    assert {label: row["seeds"] for label, row in rows.items()} == {"weak": 2, "strong": 2, "half": 1}
    (study,) = read_results(expand(experiment))
    auc = {
        trial.planned.title: 100 * np.mean([trial.numbers(fold, trial.honest)["auc"] for fold in study.folds])
        for trial in study.trials
        if trial.finished
    }
    weak, strong = ([auc[f"{label} (seed={seed})"] for seed in (0, 1)] for label in ("weak", "strong"))
    assert rows["strong"]["auc"] == pytest.approx(np.mean(strong), abs=0.01)
    assert rows["strong"]["auc_gain"] == pytest.approx(np.mean(strong) - np.mean(weak), abs=0.01)
    assert rows["half"]["auc_gain"] == pytest.approx(auc["half (seed=0)"] - weak[0], abs=0.01)
    assert rows["strong"]["auc_gain_low"] < rows["strong"]["auc_gain"] < rows["strong"]["auc_gain_high"]
    assert rows["weak"]["auc_gain"] == ""


@pytest.mark.parametrize("against", ["weak", "half"])
def test_every_row_of_the_table_has_every_column(experiment, against, monkeypatch, capsys):
    monkeypatch.setattr("scripts.paired_auc.read_experiment", lambda *given: experiment)
    assert main(["any.yaml", "--against", against]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.count(",") for line in lines] == [header.count(",")] * 3
    (compared,) = [line for line in lines if line.startswith(f"mean of 3 domains,{against},")]
    assert compared.count(",,,") == 2


def test_one_fold_of_several_domains_is_compared_by_domain(tmp_path):
    protocol = {"name": "all_to_unseen", "train": ["kiosk"], "test": ["phone", "webcam"]}
    rows = {(row["on"], row["label"]): row for row in paired(finished(tmp_path, protocol=protocol), "weak")}
    assert list(rows) == [(domain, label) for domain in ("phone", "webcam") for label in SKILL]
    for domain in ("phone", "webcam"):
        weak, strong = rows[domain, "weak"], rows[domain, "strong"]
        assert strong["auc_gain"] == pytest.approx(strong["auc"] - weak["auc"], abs=0.02)


def test_a_row_that_is_not_there_is_refused(experiment, capsys):
    with pytest.raises(AgfasError, match="No finished row is labelled 'wek': did you mean 'weak'"):
        paired(experiment, "wek")
    assert main(["none.yaml", "--against", "weak"]) == 1
    assert "paired_auc: " in capsys.readouterr().err

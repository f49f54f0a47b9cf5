"""`result.json` number by number: every pair of rules, every domain, and when it is computed anew."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_tables import make_table

from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.classification import classify
from pipelines.evaluation.judge import is_judged, judge_all, load_checkpoints, write_result
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import SCORE_COLUMNS, ScoreTable
from pipelines.evaluation.selection import CheckpointScores, papers_best
from pipelines.evaluation.settings import HONEST_RULES, PAPERS_RULE, SELECTION_RULES, THRESHOLD_RULES, EvaluateSettings
from pipelines.evaluation.thresholds import Threshold, choose_threshold
from pipelines.files import read_json, write_json
from pipelines.fingerprint import file_sha256, fingerprint

SETTINGS = EvaluateSettings(replicates=100)
STEPS = (10, 20)


def scores(seed: int, skill: float, domains: str, labels: list[int]) -> ScoreTable:
    """Ten videos a domain, two frames each; `labels` of every ten."""
    count = 10 * len(domains)
    label = np.array(labels * len(domains))
    videos = [f"{domain}{place}" for domain in domains for place in range(10)]
    score = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(size=count) - skill * (2 * label - 1)))
    kinds = np.where(label == 1, "none", np.where(np.arange(count) % 2, "print", "mask"))
    twice: dict[str, Any] = {
        "video": videos, "subject": videos, "domain": np.repeat(list(domains), 10), "attack_type": kinds,
    }  # fmt: skip
    columns = {name: np.repeat(values, 2) for name, values in twice.items()}
    frames = np.repeat(score, 2) + np.tile([0.001, -0.001], count)
    keys = [f"{video}/{frame}" for video in videos for frame in range(2)]
    return make_table(np.repeat(label, 2), frames, key=keys, **columns)


MIXED = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
DEV = {10: scores(2, 1.0, "ab", MIXED), 20: scores(7, 0.6, "ab", MIXED)}
TARGET = {10: scores(2, 0.5, "xy", MIXED), 20: scores(3, 1.5, "xy", MIXED)}


def checkpoints(target: dict[int, ScoreTable] = TARGET) -> list[CheckpointScores]:
    return [CheckpointScores(step, DEV[step].by_video(), target[step].by_video()) for step in STEPS]


def expected_rule(selection: str, threshold: str, target: dict[int, ScoreTable]) -> dict[str, Any]:
    """The last step is 20; the sources lie further apart at 10, the targets at 20."""
    step = 10 if selection == "source_dev" else 20
    table = target[step].by_video()
    chosen = choose_threshold(threshold, DEV[step], table)
    return {
        "step": step,
        "threshold_origin": chosen.origin,
        **asdict(report(table, chosen.value)),
        "classification": classify(table, chosen.value).to_dict(),
    }


def expected_fold(target: dict[int, ScoreTable], own: str = "last/source_dev_eer") -> dict[str, Any]:
    rules = {
        f"{selection}/{threshold}": expected_rule(selection, threshold, target)
        for selection in SELECTION_RULES
        for threshold in THRESHOLD_RULES
    }
    for name in (own, PAPERS_RULE):
        table = target[rules[name]["step"]].by_video()
        rules[name]["intervals"] = intervals(table, rules[name]["threshold"], ("hter", "auc", "acer"), 100, seed=0)
    count = len(target[20]) // 2
    return {
        "videos": {"bonafide": 4 * count // 10, "attack": 6 * count // 10},
        "rules": rules,
        "papers_best": papers_best(checkpoints(target)),
    }


def test_a_fold_and_each_of_its_domains_under_every_pair_of_rules():
    parts = {name: {step: TARGET[step].where(TARGET[step].domain == name) for step in STEPS} for name in "xy"}
    judged = judge_all(checkpoints(), SETTINGS)
    assert list(judged) == ["videos", "rules", "papers_best", "domains"]
    assert list(judged["rules"]) == [f"{one}/{other}" for one in SELECTION_RULES for other in THRESHOLD_RULES]
    domains = judged.pop("domains")
    assert judged == expected_fold(TARGET)
    assert domains == {name: expected_fold(part) for name, part in parts.items()}
    own = EvaluateSettings(replicates=100, threshold="source_dev_min_hter", selection="source_dev")
    found = judge_all(checkpoints(parts["x"]), own)
    assert found == expected_fold(parts["x"], "source_dev/source_dev_min_hter")
    assert "domains" not in found


def test_a_single_checkpoint_is_judged_under_every_rule():
    judged = judge_all(checkpoints()[1:], SETTINGS)
    for part in (judged, *judged["domains"].values()):
        assert {numbers["step"] for numbers in part["rules"].values()} == {20}
        assert (part["papers_best"]["hter_step"], part["papers_best"]["auc_step"]) == (20, 20)
    assert judged["videos"] == {"bonafide": 8, "attack": 12}


def test_a_domain_of_one_class_has_its_one_rate_under_the_rules_of_sources():
    live, attacks = ({step: scores(step, 1.0, "z", [label] * 10) for step in STEPS} for label in (1, 0))
    for part, name, videos in ((live, "bpcer", (10, 0)), (attacks, "far", (0, 10))):
        both = {
            step: ScoreTable(
                **{
                    column: np.concatenate([getattr(table[step], column) for table in (TARGET, part)])
                    for column in SCORE_COLUMNS
                }
            )
            for step in STEPS
        }
        found = judge_all(checkpoints(both), SETTINGS)["domains"]["z"]
        assert found["videos"] == {"bonafide": videos[0], "attack": videos[1]}
        assert set(found) == {"videos", "one_class"}
        assert sorted(found["one_class"]) == sorted(HONEST_RULES)
        for rules, numbers in found["one_class"].items():
            selection, threshold = rules.split("/")
            step = {"last": 20, "source_dev": 10}[selection]
            chosen = choose_threshold(threshold, DEV[step], DEV[step])
            table = part[step].by_video()
            wrong = table.score < chosen.value if name == "bpcer" else table.score >= chosen.value
            assert numbers == {
                "step": step,
                "threshold": chosen.value,
                "threshold_origin": chosen.origin,
                name: pytest.approx(wrong.mean()),
            }


def test_the_published_threshold_is_one_of_the_rules_where_it_is_asked_for():
    published = Threshold(0.4, "published", "publisher's rule")
    settings = EvaluateSettings(replicates=100, threshold="published")
    assert "last/published" not in judge_all(checkpoints(), SETTINGS, published)["rules"]
    judged = judge_all(checkpoints(), settings, published)
    for part in (judged, judged["domains"]["x"]):
        rule = part["rules"]["last/published"]
        assert (rule["threshold"], rule["threshold_origin"], rule["step"]) == (0.4, "publisher's rule", 20)
        assert set(rule["intervals"]) == {"hter", "auc", "acer"}
    assert judged["rules"]["last/source_dev_eer"]["threshold"] != 0.4
    with pytest.raises(AgfasError, match=r"published needs .* train.steps = 0"):
        judge_all(checkpoints(), settings)


@pytest.fixture
def folder(tmp_path) -> Path:
    """An experiment of two folds, the second with a published threshold."""
    for fold, shift in (("to_x", 0), ("to_y", 1)):
        place = tmp_path / fold / "scores"
        write_json(tmp_path / fold / "identity.json", {})
        for step in STEPS:
            other = STEPS[1 - STEPS.index(step)] if shift else step
            DEV[step].save(place / f"step_{step:06d}-dev.parquet")
            TARGET[other].save(place / f"step_{step:06d}-test.parquet")
    return tmp_path


def test_the_file_holds_all_folds_and_their_means_and_is_kept_until_something_changes(folder):
    assert not is_judged(folder, SETTINGS)
    result = write_result(folder, SETTINGS)
    assert json.loads(json.dumps(result)) == read_json(folder / "result.json")
    assert list(result) == ["key", "honest", "papers", "folds", "mean"]
    assert (result["honest"], result["papers"]) == ("last/source_dev_eer", "oracle/target_eer")
    assert list(result["folds"]) == ["to_x", "to_y"]
    assert result["folds"]["to_x"]["rules"]["last/target_eer"]["step"] == 20
    assert result["folds"]["to_y"]["rules"]["oracle/target_eer"]["step"] == 10
    assert list(result["mean"]) == list(result["folds"]["to_x"]["rules"])
    for rule, means in result["mean"].items():
        both = [fold["rules"][rule] for fold in result["folds"].values()]
        assert means == {name: pytest.approx((both[0][name] + both[1][name]) / 2) for name in ("hter", "auc", "acer")}
    listed = [
        [name, file_sha256(folder / name)]
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/scores/*"))
    ]
    assert len(listed) == 8
    # Another key would have every result of earlier runs computed again.
    assert result["key"] == fingerprint([4, "last/source_dev_eer", 100, listed])
    assert is_judged(folder, SETTINGS)
    write_json(folder / "result.json", {"key": result["key"]})
    assert write_result(folder, SETTINGS) == {"key": result["key"]}
    assert not is_judged(folder, EvaluateSettings(replicates=100, selection="source_dev"))
    assert "folds" in write_result(folder, EvaluateSettings(replicates=100, selection="source_dev"))


def test_checkpoints_are_read_as_videos_and_the_published_threshold_of_a_run_is_used(folder):
    found = load_checkpoints(folder / "to_x")
    assert [item.step for item in found] == [10, 20]
    for item in found:
        for table, witness in ((item.dev, DEV[item.step]), (item.target, TARGET[item.step])):
            assert table.key.tolist() == witness.by_video().key.tolist()
            assert table.score == pytest.approx(witness.by_video().score)
    settings = EvaluateSettings(replicates=100, threshold="published")
    with pytest.raises(AgfasError, match="published needs"):
        write_result(folder, settings)
    for fold in ("to_x", "to_y"):
        write_json(folder / fold / "done.json", {"published": {"threshold": 0.3, "origin": "theirs"}})
    rule = write_result(folder, settings)["folds"]["to_y"]["rules"]["last/published"]
    assert (rule["threshold"], rule["threshold_origin"]) == (0.3, "theirs")

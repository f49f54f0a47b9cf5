"""`agfas threshold`: points by hand, against a search over all thresholds, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from score_tables import make_table, random_table
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.errors import AgfasError
from pipelines.evaluation.operating_points import KINDS, OperatingPoint, operating_points
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.thresholds import choose_threshold
from pipelines.stages import threshold

LIVE = [0.35, 0.6, 0.7, 0.8, 0.9]
ATTACK = [0.1, 0.2, 0.3, 0.4, 0.5, 0.65]


def by_kind(points: list[OperatingPoint]) -> dict[str, OperatingPoint]:
    return {point.kind: point for point in points}


@pytest.fixture
def small() -> ScoreTable:
    return make_table([1] * len(LIVE) + [0] * len(ATTACK), LIVE + ATTACK)


def test_by_hand(small: ScoreTable) -> None:
    points = by_kind(operating_points(small, None, max_bpcer=0.0))
    assert list(points) == list(KINDS)
    # No live video may be rejected: above .3, the best attack below .35, half way; .4, .5 and .65 pass.
    assert points["max_bpcer"].threshold.value == pytest.approx(0.325)
    assert points["max_bpcer"].dev.bpcer == 0
    assert points["max_bpcer"].dev.hter == pytest.approx(0.25)
    # One live (.35) and one attack (.65) on the wrong side of .55: J = 1 - 1/6 - 1/5, and no threshold does better.
    assert points["youden"].threshold.value == pytest.approx(0.55)
    assert points["youden"].dev.youden == pytest.approx(1 - 1 / 6 - 1 / 5)
    # F1 there is 2 * 5 / (10 + 1 + 1); at .675, where all six attacks are found and two live rejected, 12 / 14.
    assert points["f1"].threshold.value == pytest.approx(0.675)
    assert points["f1"].dev.f1 == pytest.approx(12 / 14)
    assert points["eer"].threshold.value == pytest.approx(0.55)
    assert points["min_acer"].dev.acer == pytest.approx((1 / 6 + 1 / 5) / 2)
    assert points["youden"].threshold == choose_threshold("source_dev_min_hter", small, small)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_threshold_is_better(seed: int) -> None:
    dev = random_table(60, seed, decimals=2)
    points = by_kind(operating_points(dev, None, max_bpcer=0.1))
    attack = dev.label == 0
    f1, youden, attacks_in = [], [], []
    for value in [*np.unique(dev.score), 2.0]:
        rejected = dev.score < value
        found, lost = np.sum(rejected & attack), np.sum(rejected & ~attack)
        f1.append(2 * found / (2 * found + lost + np.sum(~rejected & attack)))
        youden.append(found / attack.sum() - lost / (~attack).sum())
        if lost / (~attack).sum() <= 0.1:
            attacks_in.append(np.mean(~rejected[attack]))
    assert points["f1"].dev.f1 == pytest.approx(max(f1))
    assert points["youden"].dev.youden == pytest.approx(max(youden))
    assert points["max_bpcer"].dev.bpcer <= 0.1
    assert 2 * points["max_bpcer"].dev.hter - points["max_bpcer"].dev.bpcer == pytest.approx(min(attacks_in))


def test_the_target_has_no_say(small: ScoreTable) -> None:
    target = random_table(50, 1)
    alone, beside = operating_points(small, None, 0.2), operating_points(small, target, 0.2)
    for without, with_target in zip(alone, beside, strict=True):
        assert without.threshold == with_target.threshold
        assert without.dev == with_target.dev
        assert with_target.target is not None
        assert "5 held-out source videos" in without.threshold.origin or "11 held-out" in without.threshold.origin
        expected = np.mean(target.score[target.label == 1] < without.threshold.value)
        assert with_target.target.bpcer == pytest.approx(expected)
        assert (with_target.target.bonafide, with_target.target.attacks) == (
            (target.label == 1).sum(),
            (target.label == 0).sum(),
        )


def test_a_point_as_plain_values(small: ScoreTable) -> None:
    eer = by_kind(operating_points(small, small, 0.2))["eer"]
    rates = {
        "apcer": 1 / 6, "bpcer": 1 / 5, "acer": 11 / 60, "hter": 11 / 60, "f1": 10 / 12, "youden": 1 - 1 / 6 - 1 / 5,
        "accuracy": 9 / 11, "worst_attack": "print", "bonafide": 5, "attacks": 6,
    }  # fmt: skip
    content = eer.to_dict()
    assert content == {
        "kind": "eer",
        "threshold": pytest.approx(0.55),
        "origin": "EER of 11 held-out source videos (d)",
        "dev": pytest.approx(rates),
        "target": pytest.approx(rates),
    }
    assert by_kind(operating_points(small, None, 0.2))["eer"].to_dict()["target"] is None
    origins = {kind: point.threshold.origin for kind, point in by_kind(operating_points(small, None, 0.2)).items()}
    assert origins == {
        "eer": "EER of 11 held-out source videos (d)",
        "min_acer": "lowest ACER of 11 held-out source videos (d)",
        "max_bpcer": "BPCER at most 0.2 of 11 held-out source videos (d)",
        "f1": "highest F1 of 11 held-out source videos (d)",
        "youden": "lowest HTER of 11 held-out source videos (d)",
    }


def test_a_table_of_one_class_is_named(small: ScoreTable) -> None:
    live = small.where(small.label == 1)
    with pytest.raises(AgfasError, match="The development score table holds 5 scores but no attack"):
        operating_points(live, None, 0.2)
    with pytest.raises(AgfasError, match="The target score table holds 5 scores but no attack"):
        operating_points(small, live, 0.2)


def test_frames_are_averaged(small: ScoreTable) -> None:
    twice = ScoreTable(
        key=np.char.add(np.repeat(small.key, 2), ["a", "b"] * len(small)),
        video=np.repeat(small.video, 2),
        subject=np.repeat(small.subject, 2),
        domain=np.repeat(small.domain, 2),
        attack_type=np.repeat(small.attack_type, 2),
        label=np.repeat(small.label, 2),
        score=np.repeat(small.score, 2) + np.tile([0.05, -0.05], len(small)),
    )
    for frames, videos in zip(operating_points(twice, twice, 0.0), operating_points(small, small, 0.0), strict=True):
        assert frames.threshold.value == pytest.approx(videos.threshold.value)
        assert frames.dev == videos.dev
        assert frames.target == videos.target


@pytest.mark.parametrize("max_bpcer", [-0.1, 1.5, 5])
def test_a_share_that_is_none(small: ScoreTable, max_bpcer: float) -> None:
    with pytest.raises(AgfasError, match="must be between 0 and 1"):
        operating_points(small, None, max_bpcer)


def test_the_command_on_score_files(small: ScoreTable, tmp_path: Path) -> None:
    small.save(tmp_path / "dev.parquet")
    random_table(40, 2).save(tmp_path / "other.parquet")
    command = ["threshold", str(tmp_path / "dev.parquet"), "--target", str(tmp_path / "other.parquet"), "--json"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0
    content = json.loads(answer.stdout)
    assert [point["kind"] for point in content["points"]] == list(KINDS)
    expected = operating_points(small, random_table(40, 2), 0.05)
    assert content["points"] == [point.to_dict() for point in expected]
    text = CliRunner().invoke(app, command[:2]).stdout
    assert "expect worse elsewhere" in text
    assert "target " not in text
    assert "Few test videos: dev 5 live, dev 6 attack." in text


def test_mistakes(small: ScoreTable, tmp_path: Path) -> None:
    small.save(tmp_path / "dev.parquet")
    with pytest.raises(AgfasError, match=r"There is no score table at .*none\.parquet"):
        threshold.run(tmp_path / "none.parquet")
    with pytest.raises(AgfasError, match="not in a score table"):
        threshold.run(tmp_path / "dev.parquet", label="oanet")
    with pytest.raises(AgfasError, match=r"holds no plan\.json"):
        threshold.run(tmp_path)
    small.where(small.label == 1).save(tmp_path / "live.parquet")
    with pytest.raises(AgfasError, match="The target score table holds 5 scores but no attack"):
        threshold.run(tmp_path / "dev.parquet", tmp_path / "live.parquet")

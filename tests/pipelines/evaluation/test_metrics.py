"""Error rates: hand cases, and slow loops, scikit-learn and the published threshold grid as witnesses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from score_tables import curve, make_table, random_table
from sklearn.metrics import roc_auc_score, roc_curve

from pipelines.errors import AgfasError
from pipelines.evaluation import metrics
from scripts.bench.metrics import papers_grid_eer


def slow_rates(table, threshold):
    accepted_attacks = rejected_bonafide = 0
    for label, score in zip(table.label, table.score, strict=True):
        accepted_attacks += label == 0 and score >= threshold
        rejected_bonafide += label == 1 and score < threshold
    return accepted_attacks / np.sum(table.label == 0), rejected_bonafide / np.sum(table.label == 1)


def slow_auc(table):
    wins = 0.0
    for live in table.score[table.label == 1]:
        for attack in table.score[table.label == 0]:
            wins += 1.0 if live > attack else 0.5 if live == attack else 0.0
    return wins / (np.sum(table.label == 1) * np.sum(table.label == 0))


def slow_eer(table):
    best = (np.inf, None, None)
    for threshold in [*np.unique(table.score), np.nextafter(table.score.max(), np.inf)]:
        far, frr = slow_rates(table, threshold)
        if abs(frr - far) <= best[0] + 1e-15:
            best = (abs(frr - far), (far + frr) / 2, threshold)
    return best[1:]


@pytest.mark.parametrize("decimals", [None, 1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_everything_equals_slow_loops(seed, decimals):
    table = random_table(120, seed, decimals)
    threshold = float(np.random.default_rng(seed).choice(table.score))
    far, frr = slow_rates(table, threshold)
    result = metrics.report(table, threshold)
    assert result.far == pytest.approx(far)
    assert result.bpcer == pytest.approx(frr)
    assert result.hter == pytest.approx((far + frr) / 2)
    assert result.auc == pytest.approx(slow_auc(table), abs=1e-12)
    assert (result.eer, result.eer_threshold) == pytest.approx(slow_eer(table), abs=1e-12)
    per_type = {
        kind: np.mean(table.score[table.attack_type == kind] >= threshold) for kind in ("mask", "print", "replay")
    }
    assert result.apcer_per_type == pytest.approx(per_type)
    assert result.apcer == max(per_type.values()) == per_type[result.worst_attack]
    assert result.acer == pytest.approx((result.apcer + frr) / 2)


@pytest.mark.parametrize("level", [0.05, 0.10, 0.29, 1.0])
@pytest.mark.parametrize("decimals", [None, 1])
def test_bpcer_at_apcer_is_the_best_of_all_thresholds(level, decimals):
    table = random_table(400, 3, decimals)
    allowed = [
        metrics.report(table, threshold).bpcer
        for threshold in [*np.unique(table.score), 2.0]
        if metrics.report(table, threshold).apcer <= level + 1e-12
    ]
    assert metrics.bpcer_at_apcer(table, [level])[0] == pytest.approx(min(allowed))


@pytest.mark.parametrize("level", [0.0, 0.01, 0.10, 1.0])
@pytest.mark.parametrize("decimals", [None, 1])
def test_tpr_at_fpr_equals_scikit_learn(level, decimals):
    table = random_table(500, 4, decimals)
    fpr, tpr, _ = roc_curve(table.label, table.score, drop_intermediate=False)
    assert curve(table).tpr_at_fpr(level) == pytest.approx(tpr[fpr <= level + 1e-12].max())


@pytest.mark.parametrize("decimals", [None, 1, 3])
def test_roc_and_auc_equal_scikit_learn(decimals):
    table = random_table(3000, 5, decimals)
    ours = metrics.roc(table.label, table.score)
    fpr, tpr, thresholds = roc_curve(table.label, table.score, drop_intermediate=False)
    np.testing.assert_allclose(ours.fpr[::-1], fpr, atol=1e-15)
    np.testing.assert_allclose(ours.tpr[::-1], tpr, atol=1e-15)
    np.testing.assert_array_equal(ours.thresholds[:-1][::-1], thresholds[1:])
    assert curve(table).auc() == pytest.approx(roc_auc_score(table.label, table.score), abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_on_scores_of_four_decimals_the_papers_grid_gives_the_same(seed):
    table = random_table(400, seed, decimals=4)
    rate, threshold, _, _ = papers_grid_eer(table.label, table.score)
    assert curve(table).eer() == pytest.approx((rate, threshold), abs=1e-12)


def test_eer_takes_the_last_of_several_minimisers():
    only_one = make_table([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4])
    # (FAR, FRR) at 0.1 (1, 0), at 0.2 (1/2, 0), at 0.3 (1/2, 1/2), at 0.4 (0, 1/2), above (0, 1)
    assert curve(only_one).eer() == (0.5, 0.3)
    two = make_table([0, 1, 1, 0, 0, 1], [0.1, 0.2, 0.3, 0.3, 0.4, 0.5])
    # At 0.3 (2/3, 1/3), at 0.4 (1/3, 2/3): both 1/3 apart, the later counts.
    assert curve(two).eer() == (pytest.approx(0.5), 0.4)


def test_perfect_separation_and_perfect_confusion():
    table = make_table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert curve(table).eer() == (0.0, 0.8)
    assert curve(table).auc() == 1.0
    assert curve(table).tpr_at_fpr(0.01) == 1.0
    swapped = make_table([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])
    assert curve(swapped).eer() == (1.0, 0.8)
    assert curve(swapped).auc() == 0.0


def test_equal_scores_are_chance_and_the_threshold_stays_finite():
    table = make_table([0, 1, 1, 0], [0.5] * 4)
    rate, threshold = curve(table).eer()
    assert curve(table).auc() == rate == 0.5
    assert threshold == np.nextafter(0.5, 1)


@pytest.mark.parametrize(("bonafide", "attacks"), [(70, 210), (150, 450), (140, 700), (720, 2880)])
def test_hter_moves_in_the_quanta_of_the_papers_datasets(bonafide, attacks):
    labels = [1] * bonafide + [0] * attacks
    scores = [0.9] * bonafide + [0.1] * (attacks - 1) + [0.7]
    quantum = metrics.report(make_table(labels, scores), 0.5).hter
    assert quantum == pytest.approx(1 / (2 * attacks))
    assert round(100 * quantum, 3) == {210: 0.238, 450: 0.111, 700: 0.071, 2880: 0.017}[attacks]


def test_a_score_at_the_threshold_is_accepted():
    table = make_table([0, 1], [0.5, 0.5])
    assert (metrics.report(table, 0.5).apcer, metrics.report(table, 0.5).bpcer) == (1.0, 0.0)
    above = float(np.nextafter(0.5, 1))
    assert (metrics.report(table, above).apcer, metrics.report(table, above).bpcer) == (0.0, 1.0)


def test_apcer_is_the_worst_types_and_hter_pools_all():
    labels = [1, 1] + [0] * 10
    scores = [0.9, 0.9] + [0.1] * 8 + [0.1, 0.9]
    table = make_table(labels, scores, attack_type=["none"] * 2 + ["print"] * 8 + ["mask"] * 2)
    result = metrics.report(table, 0.5)
    assert result.apcer_per_type == {"mask": 0.5, "print": 0.0}
    assert (result.apcer, result.worst_attack, result.acer, result.hter) == (0.5, "mask", 0.25, 0.05)


def test_bpcer_at_two_levels_of_apcer_and_tpr_at_one_per_cent_by_hand():
    # Attacks at 0, 0.005, ... 0.995, no live face at one of them.
    live = [0.1925, 0.3925, 0.5925, 0.8725, 0.8975, 0.9275, 0.9475, 0.9575, 0.9825, 0.9975]
    table = make_table([0] * 200 + [1] * 10, [*np.arange(200) / 200, *live])
    result = metrics.report(table, 0.5)
    # At most 20 attacks above 0.895, 10 above 0.945, 2 from 0.99 on.
    assert (result.bpcer_at_apcer_10, result.bpcer_at_apcer_05, result.tpr_at_fpr_01) == (0.4, 0.6, 0.1)
    assert metrics.bpcer_at_apcer(table, [0.0, 0.995, 1.0]) == [0.9, 0.0, 0.0]
    assert metrics.bpcer_at_apcer(make_table([0, 0, 1, 1], [0.2, 0.4, 0.1, 0.9]), [0.5, 1.0]) == [0.5, 0.0]


def test_labels_and_scores_of_other_types_are_taken():
    labels, scores = [0, 1, 0, 1], [0.25, 0.5, 0.75, 1.0]
    expected = metrics.roc(np.array(labels), np.array(scores))
    for given in (scores, np.array(scores, dtype=np.float32)):
        found = metrics.roc(labels, given)
        assert found.thresholds.tolist() == expected.thresholds.tolist()
        assert found.rejected_attacks.tolist() == [0, 1, 1, 2, 2]
        assert (found.attacks, found.bonafide) == (2, 2)


def test_the_order_of_rows_changes_nothing():
    table = random_table(500, 6, decimals=2)
    shuffled = table.where(np.random.default_rng(0).permutation(len(table)))
    assert metrics.report(table, 0.4) == metrics.report(shuffled, 0.4)


@pytest.mark.parametrize("transform", [np.exp, lambda s: 5 * s - 7, lambda s: s - 0.5, np.log])
def test_a_rising_transform_changes_no_rate(transform):
    table = random_table(500, 7)
    moved = make_table(table.label, transform(table.score), attack_type=table.attack_type)
    before, after = metrics.report(table, 0.5), metrics.report(moved, float(transform(0.5)))
    for name in ("auc", "eer", "hter", "acer", "bpcer_at_apcer_10", "bpcer_at_apcer_05", "tpr_at_fpr_01"):
        assert getattr(before, name) == getattr(after, name), name


def test_signed_zeros_are_one_score():
    table = make_table([0, 1, 0, 1], [-0.0, 0.0, 0.25, 1.0])
    assert curve(table).auc() == slow_auc(table) == 0.625


def test_the_report_is_plain_json():
    content = json.loads(json.dumps(metrics.report(random_table(50), 0.5).to_dict(), allow_nan=False))
    assert content["bonafide"] + content["attacks"] == 50
    assert set(content["apcer_per_type"]) == {"mask", "print", "replay"}


@pytest.mark.parametrize(("label", "missing"), [(1, "attack"), (0, "bona fide")])
def test_one_class_is_refused(label, missing):
    table = make_table([label] * 3, [0.1, 0.2, 0.3])
    calls = (
        lambda: metrics.report(table, 0.5),
        lambda: curve(table).auc(),
        lambda: curve(table).eer(),
        lambda: metrics.report(table, 0.5).hter,
        lambda: metrics.report(table, 0.5).apcer,
        lambda: metrics.report(table, 0.5).bpcer,
        lambda: metrics.bpcer_at_apcer(table, [0.1])[0],
    )
    for call in calls:
        with pytest.raises(AgfasError, match=missing):
            call()


def test_broken_input_is_refused():
    with pytest.raises(AgfasError, match="NaN"):
        metrics.roc(np.array([0, 1]), np.array([0.1, np.nan]))
    with pytest.raises(AgfasError, match="equally long"):
        metrics.roc(np.array([0, 1]), np.array([0.1, 0.2, 0.3]))
    with pytest.raises(AgfasError, match="both classes"):
        metrics.roc(np.array([]), np.array([]))
    with pytest.raises(AgfasError, match="finite"):
        metrics.report(random_table(10), float("nan"))

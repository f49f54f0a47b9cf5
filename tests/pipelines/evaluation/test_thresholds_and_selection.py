"""Rules by name: thresholds and checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
from score_tables import curve, make_table, random_table

from pipelines.errors import AgfasError
from pipelines.evaluation import metrics
from pipelines.evaluation.selection import CheckpointScores, papers_best, select
from pipelines.evaluation.thresholds import choose_threshold

GOOD = make_table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
MIDDLING = make_table([0, 0, 1, 1], [0.1, 0.85, 0.8, 0.9])
BAD = make_table([0, 0, 1, 1], [0.8, 0.9, 0.1, 0.2])


def checkpoint(step, dev=GOOD, target=GOOD):
    return CheckpointScores(step, dev, target)


def test_the_honest_threshold_lies_in_the_middle_of_the_gap():
    chosen = choose_threshold("source_dev_eer", dev=GOOD, target=BAD)
    assert chosen.value == pytest.approx(0.5)
    assert chosen.rule == "source_dev_eer"
    assert chosen.origin == "EER of 4 held-out source videos (d)"


@pytest.mark.parametrize("decimals", [None, 2])
def test_the_honest_threshold_decides_on_dev_as_the_last_minimiser(decimals):
    for seed in range(10):
        dev = random_table(60, seed, decimals)
        value = choose_threshold("source_dev_eer", dev, GOOD).value
        rate, last = curve(dev).eer()
        assert value <= last
        assert metrics.report(dev, value).hter == pytest.approx(rate)


def test_the_honest_threshold_between_neighbouring_doubles():
    low = 0.5
    high = float(np.nextafter(low, 1))
    dev = make_table([0, 1], [low, high])
    value = choose_threshold("source_dev_eer", dev, GOOD).value
    assert metrics.report(dev, value).hter == 0.0


def test_the_papers_threshold_makes_hter_the_eer():
    target = random_table(300, 1)
    chosen = choose_threshold("target_eer", dev=GOOD, target=target)
    rate, value = curve(target).eer()
    assert (chosen.value, chosen.rule) == (value, "target_eer")
    assert metrics.report(target, chosen.value).hter == pytest.approx(rate)


def test_the_honest_threshold_does_not_look_at_the_target():
    values = {choose_threshold("source_dev_eer", MIDDLING, target).value for target in (GOOD, BAD, MIDDLING)}
    assert len(values) == 1


def test_thresholds_are_chosen_on_videos():
    labels, scores = [0, 0, 1, 1], [0.0, 0.4, 0.3, 0.9]
    frames = make_table(labels, scores, video=["a", "a", "b", "b"], subject=["a", "a", "b", "b"])
    chosen = choose_threshold("source_dev_eer", frames, GOOD)
    assert chosen.value == pytest.approx(0.4)
    assert chosen.origin.startswith("EER of 2 ")


def test_unknown_rules_name_the_nearest():
    with pytest.raises(AgfasError, match="did you mean 'target_eer'"):
        choose_threshold("target_err", GOOD, GOOD)
    with pytest.raises(AgfasError, match="did you mean 'oracle'"):
        select("oracel", [checkpoint(1)])


def test_one_class_is_refused_by_name():
    one = make_table([1, 1], [0.1, 0.2])
    with pytest.raises(AgfasError, match="development score table holds 2 scores but no attack"):
        choose_threshold("source_dev_eer", one, GOOD)
    with pytest.raises(AgfasError, match="target score table"):
        choose_threshold("target_eer", GOOD, one)


def test_last_looks_at_nothing():
    assert select("last", [checkpoint(10), checkpoint(30, BAD, BAD), checkpoint(20)]) == 30


def test_source_dev_does_not_look_at_the_target():
    checkpoints = [checkpoint(10, GOOD, BAD), checkpoint(20, MIDDLING, GOOD), checkpoint(30, BAD, GOOD)]
    assert select("source_dev", checkpoints) == 10


def test_oracle_does_not_look_at_dev():
    checkpoints = [checkpoint(10, BAD, MIDDLING), checkpoint(20, BAD, GOOD), checkpoint(30, GOOD, BAD)]
    assert select("oracle", checkpoints) == 20


def in_order(order: str):
    """Attacks (a) and live faces (l), from the lowest score up."""
    return make_table([int(letter == "l") for letter in order], np.arange(len(order)) / 10)


def test_of_equal_aucs_the_lower_eer_wins_and_of_equal_eers_the_higher_auc():
    # AUC and EER: 11/12 and 7/24, 7/12 and 5/12, 7/12 and 7/24.
    best, worst, low = in_order("aalalll"), in_order("allalal"), in_order("alallla")
    assert select("source_dev", [checkpoint(10, dev=low), checkpoint(20, dev=worst)]) == 10
    assert select("oracle", [checkpoint(10, target=best), checkpoint(20, target=low)]) == 10
    assert select("source_dev", [checkpoint(10, dev=best), checkpoint(20, dev=low)]) == 10


@pytest.mark.parametrize("rule", ["source_dev", "oracle"])
def test_ties_go_to_the_later_checkpoint(rule):
    assert select(rule, [checkpoint(20), checkpoint(30), checkpoint(10), checkpoint(40, BAD, BAD)]) == 30


def test_papers_best_takes_hter_and_auc_from_where_they_are_best():
    low_eer = make_table([0] * 4 + [1] * 4, [0.1, 0.2, 0.3, 0.95, 0.05, 0.7, 0.8, 0.9])
    high_auc = make_table([0] * 4 + [1] * 4, [0.1, 0.2, 0.6, 0.65, 0.5, 0.55, 0.8, 0.9])
    best = papers_best(
        [checkpoint(30, target=low_eer), checkpoint(10, target=low_eer), checkpoint(20, target=high_auc)]
    )
    assert best == {
        "hter": curve(low_eer).eer()[0],
        "hter_step": 10,
        "auc": curve(high_auc).auc(),
        "auc_step": 20,
    }
    assert curve(low_eer).eer()[0] < curve(high_auc).eer()[0]
    assert curve(low_eer).auc() < curve(high_auc).auc()
    assert json.loads(json.dumps(best)) == best


def test_without_checkpoints_there_is_nothing_to_choose():
    for choose in (lambda: select("last", []), lambda: papers_best([])):
        with pytest.raises(AgfasError, match="No checkpoint is evaluated"):
            choose()


def slow_min_acer(dev):
    candidates = [*np.unique(dev.score), np.nextafter(dev.score.max(), np.inf)]
    return min(metrics.report(dev, threshold).acer for threshold in candidates)


def slow_min_hter(dev):
    """Count both errors at every threshold."""
    found = []
    for threshold in [*np.unique(dev.score), np.nextafter(dev.score.max(), np.inf)]:
        accepted = dev.score >= threshold
        found.append((accepted[dev.label == 0].mean() + (~accepted[dev.label == 1]).mean()) / 2)
    return min(found)


MINIMA = {"acer": slow_min_acer, "hter": slow_min_hter}


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("name", MINIMA)
def test_the_minimum_threshold_reaches_the_lowest_error(name, decimals):
    slow = MINIMA[name]
    for seed in range(8):
        dev = random_table(70, seed, decimals)
        chosen = choose_threshold(f"source_dev_min_{name}", dev, GOOD)
        assert getattr(metrics.report(dev, chosen.value), name) == pytest.approx(slow(dev))
        assert chosen.rule == f"source_dev_min_{name}"
        assert chosen.origin == f"lowest {name.upper()} of 70 held-out source videos (d)"


@pytest.mark.parametrize("name", MINIMA)
def test_the_minimum_threshold_lies_in_the_middle_and_is_fixed_on_targets(name):
    rule = f"source_dev_min_{name}"
    values = {choose_threshold(rule, GOOD, target).value for target in (GOOD, BAD, MIDDLING)}
    assert values == {0.5}


def test_of_equal_hters_the_one_with_close_rates_is_taken():
    # Thirds of three attacks and of three live: rounded sums of them would differ in their last bits.
    dev = make_table([0, 1, 0, 1, 0, 1], np.arange(1, 7) / 10)
    assert (
        metrics.report(dev, 0.15).hter
        == pytest.approx(metrics.report(dev, 0.35).hter)
        == pytest.approx(slow_min_hter(dev))
    )
    assert choose_threshold("source_dev_min_hter", dev, GOOD).value == pytest.approx(0.35)


def test_of_equal_acers_the_one_with_close_rates_is_taken():
    dev = make_table([0, 0, 1, 0, 1, 0, 1, 1], np.arange(1, 9) / 10)
    # Between 0.2 and 0.3 the rates are 1/2 and 0, between 0.6 and 0.7 they are 0 and 1/2, and here 1/4 and 1/4.
    assert {metrics.report(dev, threshold).acer for threshold in (0.25, 0.45, 0.65)} == {0.25} == {slow_min_acer(dev)}
    assert choose_threshold("source_dev_min_acer", dev, GOOD).value == pytest.approx(0.45)


def test_the_worst_attack_type_decides_the_minimum_acer():
    labels, scores = [0] * 11 + [1] * 4, [0.1] * 9 + [0.6, 0.61] + [0.5, 0.55, 0.8, 0.9]
    kinds = ["print"] * 9 + ["mask"] * 2 + ["none"] * 4
    dev = make_table(labels, scores, attack_type=kinds)
    assert choose_threshold("source_dev_min_acer", dev, GOOD).value == pytest.approx((0.61 + 0.8) / 2)
    assert choose_threshold("source_dev_eer", dev, GOOD).value < 0.61


def test_a_rare_attack_type_weighs_by_its_videos_where_attacks_are_pooled():
    # Two masks above two of four live: half of the live to stop them is too much for two of eleven attacks.
    labels, scores = [0] * 11 + [1] * 4, [0.1] * 9 + [0.6, 0.61] + [0.5, 0.55, 0.8, 0.9]
    dev = make_table(labels, scores, attack_type=["print"] * 9 + ["mask"] * 2 + ["none"] * 4)
    assert choose_threshold("source_dev_min_hter", dev, GOOD).value == pytest.approx((0.1 + 0.5) / 2)
    assert choose_threshold("source_dev_min_acer", dev, GOOD).value == pytest.approx((0.61 + 0.8) / 2)

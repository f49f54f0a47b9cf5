"""Classification metrics: by hand, by a loop and by scikit-learn; the attack is the positive class."""

from __future__ import annotations

import json

import numpy as np
import pytest
from score_tables import make_table, random_table
from sklearn import metrics as sklearn

from pipelines.errors import AgfasError
from pipelines.evaluation import metrics
from pipelines.evaluation.classification import classify


def counted(table, threshold):
    """Every number from four counts in a loop, and from scikit-learn."""
    tp = fn = tn = fp = 0
    for label, score in zip(table.label.tolist(), table.score.tolist(), strict=True):
        if label == 0:
            tp, fn = (tp + 1, fn) if score < threshold else (tp, fn + 1)
        else:
            tn, fp = (tn + 1, fp) if score >= threshold else (tn, fp + 1)
    attack, called = table.label == 0, table.score < threshold
    return {
        "true_positives": tp,
        "false_negatives": fn,
        "true_negatives": tn,
        "false_positives": fp,
        "accuracy": sklearn.accuracy_score(attack, called),
        "precision": sklearn.precision_score(attack, called) if called.any() else None,
        "recall": sklearn.recall_score(attack, called),
        "f1": sklearn.f1_score(attack, called),
        "tnr": sklearn.recall_score(attack, called, pos_label=False),
        "fpr": fp / (tn + fp),
        "mcc": sklearn.matthews_corrcoef(attack, called),
        "kappa": sklearn.cohen_kappa_score(attack, called),
        "pr_auc": sklearn.average_precision_score(attack, -table.score),
    }


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(4))
def test_everything_equals_counting_and_scikit_learn(seed, decimals):
    table = random_table(90, seed, decimals)
    threshold = float(np.random.default_rng(seed).choice(table.score))
    found = classify(table, threshold).to_dict()
    assert found.pop("positive") == "attack"
    assert found == pytest.approx(counted(table, threshold), abs=1e-12)


def test_they_agree_with_the_iso_rates():
    table = random_table(200, 3)
    found, iso = classify(table, 0.5), metrics.report(table, 0.5)
    assert found.fpr == pytest.approx(iso.bpcer)
    assert found.recall == pytest.approx(1 - iso.far)
    assert 1 - (found.recall + found.tnr) / 2 == pytest.approx(iso.hter)


def test_a_hand_case_with_a_tie_at_the_threshold():
    found = classify(make_table([0, 0, 0, 1, 1], [0.1, 0.5, 0.9, 0.5, 0.2]), 0.5)
    # Accepted is score >= 0.5: two attacks and one live face; rejected one of each.
    assert (found.true_positives, found.false_negatives, found.true_negatives, found.false_positives) == (1, 2, 1, 1)
    assert found.precision == 0.5
    assert found.f1 == pytest.approx(0.4)


def test_average_precision_by_hand():
    # From the lowest score up: attack, live, attack: precision 1 and 2/3, a recall of 1/2 each.
    assert classify(make_table([0, 1, 0], [0.1, 0.2, 0.3]), 0.5).pr_auc == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(("threshold", "precision"), [(0.0, None), (2.0, 0.5)])
def test_one_class_predicted(threshold, precision):
    found = classify(make_table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), threshold)
    assert found.precision == precision
    assert (found.mcc, found.kappa, found.accuracy) == (0.0, 0.0, 0.5)
    json.dumps(found.to_dict(), allow_nan=False)


def test_mistakes():
    with pytest.raises(AgfasError, match="no attack"):
        classify(make_table([1, 1], [0.1, 0.2]), 0.5)
    with pytest.raises(AgfasError, match="not a finite number"):
        classify(make_table([0, 1], [0.1, 0.2]), float("nan"))

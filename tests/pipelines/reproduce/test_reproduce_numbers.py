"""The papers' numbers: whole, sourced, equal to what was read by hand, and consistent with one another."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import AgfasError
from pipelines.reproduce.papers import PaperTable, read_papers
from pipelines.reproduce.values import one_video

PAPERS = read_papers()
TABLES = [f"agfas/{n}" for n in ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")] + [
    f"kuznetsov/{n}" for n in (7, 8, *range(11, 19))
]
LOO = ("O&C&I to M", "O&M&I to C", "O&C&M to I", "I&C&M to O")


def test_every_table_is_there_and_every_number_has_a_source():
    assert list(PAPERS.tables) == TABLES
    for name in TABLES:
        table = PAPERS.table(name)
        assert re.search(r": .+, Table [IVX\d]+, section [IVX\d].*", PAPERS.source(name))
        numbers = [number.value for row in table.rows.values() for number in row]
        assert len(numbers) == len(table.rows) * len(table.heads) * len(table.metrics) > 0
        highest = {"share": 1, "per cent": 100, "count": np.inf}[table.unit]
        assert all(0 <= number <= highest for number in numbers)


# Read by eye from the papers, two of every table or so.
BY_HAND = [
    ("agfas/I", "AG-FAS (Ours)", "O&M&I to C", "HTER", 5.44),
    ("agfas/I", "DDM [54]", "O&M&I to C", "AUC", 68.22),
    ("agfas/I", "NAS-FAS [26]", "Mean", "HTER", 16.10),
    ("agfas/II", "AG-FAS (Ours)", "M&I to O", "HTER", 15.97),
    ("agfas/II", "SSAN-M [25]", "M&I to C", "AUC", 76.20),
    ("agfas/III", "SSAN-R* [25]", "I&C&M to O", "HTER", 19.65),
    ("agfas/III", "AG-FAS* (Ours)", "O&C&M to I", "HTER", 6.714),
    ("agfas/IV", "DFG† (Ours)", "O&M&I to C", "HTER", 4.00),
    ("agfas/IV", "AnoDDPM [55]", "O&C&M to I", "HTER", 6.79),
    ("agfas/V", "only residual", "O&M&I to C", "HTER", 26.44),
    ("agfas/VI", "T=1000", "O&C&M to I", "HTER", 11.36),
    ("agfas/VI", "T=200", "O&M&I to C", "AUC", 98.40),
    ("agfas/VII", "25%", "Mean", "HTER", 8.27),
    ("agfas/VIII", "AG-FAS (Ours)", "WFFD", "HTER", 35.44),
    ("agfas/VIII", "SSDG-R [21]", "SiW", "AUC", 98.68),
    ("kuznetsov/7", "AttackNet V1, CSMAD", "", "APCER", 0.025),
    ("kuznetsov/7", "AttackNet V2.2, Our Dataset", "", "EER", 0.015),
    ("kuznetsov/8", "MSSpoof, AttackNet V1", "", "Avg. ACER", 0.430),
    ("kuznetsov/11", "LivenessNet", "", "Recall", 0.871),
    ("kuznetsov/12", "AttackNet V2.1", "", "Cohen's kappa", 0.908),
    ("kuznetsov/13", "AttackNet V1", "", "Training Time (s)", 4603),
    ("kuznetsov/13", "AttackNet V2.2", "", "Total Parameters", 16806722),
    ("kuznetsov/14", "LivenessNet", "", "False Negatives", 168),
    ("kuznetsov/15", "LivenessNet", "Our Dataset", "Accuracy", 0.858),
    ("kuznetsov/16", "AttackNet V2.1", "Average", "ACER", 0.046),
    ("kuznetsov/17", "MSSpoof", "", "MCC", 0.996),
    ("kuznetsov/18", "Single-dataset (cross-evaluation)", "", "Average EER", 0.465),
]


@pytest.mark.parametrize(("table", "row", "head", "metric", "value"), BY_HAND)
def test_a_sample_read_by_hand(table, row, head, metric, value):
    assert PAPERS.table(table).printed(row, head, metric).value == value


def test_a_best_transfer_names_its_dataset():
    printed = PAPERS.table("kuznetsov/8").printed("3DMAD, AttackNet V2.1", "", "Worst Transfer")
    assert (printed.value, printed.text) == (0.348, "Replay-Attack")


@pytest.mark.parametrize("name", [name for name in TABLES if PAPERS.tables[name].heads[-1] in ("Mean", "Average")])
def test_printed_means_are_the_means_of_the_printed_numbers(name):
    table = PAPERS.tables[name]
    last_digit = 0.0101 if table.unit == "per cent" else 0.00101
    for row in table.rows:
        for metric in table.metrics:
            values = [table.printed(row, head, metric).value for head in table.heads]
            assert sum(values[:-1]) / len(values[:-1]) == pytest.approx(values[-1], abs=last_digit / 2)


def test_the_confusion_counts_give_the_other_tables():
    counts, accuracy, biometric = (PAPERS.tables[f"kuznetsov/{n}"] for n in (14, 11, 12))
    for row in counts.rows:
        tp, tn, fp, fn = (printed.value for printed in counts.rows[row])
        assert (tp + fn, tn + fp) == (1307, 1313)
        assert (tp + tn) / 2620 == pytest.approx(accuracy.printed(row, "", "Accuracy").value, abs=5.1e-4)
        assert fn / 1307 == pytest.approx(biometric.printed(row, "", "APCER").value, abs=5.1e-4)
        assert fp / 1313 == pytest.approx(biometric.printed(row, "", "BPCER").value, abs=5.1e-4)


def test_the_lost_labels_of_table_vi_are_said_to_be_inferred():
    table = PAPERS.tables["agfas/VI"]
    assert "inferred" in table.notes[0]
    assert table.rows["T=800"] == PAPERS.tables["agfas/I"].rows["AG-FAS (Ours)"]


@pytest.mark.parametrize(("name", "points"), [("M", 0.238), ("C", 0.111), ("I", 0.071), ("O", 0.017)])
def test_one_video_in_points_of_hter(name, points):
    # Half of one of 210, 450, 700 and 2,880 attacks.
    assert one_video(PAPERS.papers["agfas"].videos[name]) == pytest.approx(points, abs=5e-4)


def test_one_video_is_of_the_larger_class():
    assert one_video((50, 10)) == one_video((10, 50)) == 1.0


def test_a_row_of_the_wrong_length_and_an_unknown_table_are_refused():
    with pytest.raises(ValueError, match="row 'a' of 'A table' has 1 numbers for 2 columns"):
        PaperTable.model_validate(
            {
                "title": "A table",
                "section": "1",
                "unit": "share",
                "heads": [""],
                "metrics": ["x", "y"],
                "rows": {"a": [1]},
            }
        )
    with pytest.raises(AgfasError, match=r"Unknown table 'agfas/4'.*agfas/IV"):
        PAPERS.table("agfas/4")


def test_the_numbers_come_with_the_package():
    assert '"reproduce/*.yaml"' in (Path(__file__).parents[3] / "setup.py").read_text(encoding="utf-8")

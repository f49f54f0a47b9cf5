"""The tables of a report; the page and Markdown show the same cells.

Rates are in per cent with one decimal. Below a value stands its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.report.cells import MISSING, Cell, Row, Table
from pipelines.report.contents import Group, Study
from pipelines.report.differences import Comparison
from pipelines.report.made import how_made, how_paired
from pipelines.report.targets import Target, targets_of, values_of


def leave_out_table(study: Study, rule: str, title: str, comparison: Comparison | None = None) -> Table:
    """One row per group: HTER and AUC of every fold, and their means over the folds.

    Args:
        study: the experiments.
        rule: name of the pair of rules, as in result.json.
        title: heading.
        comparison: where given, the mean HTER gets a 95 % interval.
    """
    columns = [f"{metric} {fold}" for metric in ("HTER", "AUC") for fold in ("mean", *study.folds)]
    rows = [_leave_out_row(study, group, rule, comparison) for group in _ordered(study)]
    return Table(title, tuple(columns), tuple(rows), tuple(how_made(study, rule, comparison)))


def difference_table(study: Study, comparison: Comparison) -> Table | None:
    """HTER of every group minus that of each reference; None where there is nothing to compare."""
    references = comparison.references()
    groups = [group for group in study.methods if group.finished]
    rows = []
    for group in groups:
        others = [None if group is other else comparison.difference(group, other) for other in references]
        if any(others):
            rows.append(Row(group.name, tuple(_difference_cell(other) for other in others), "", group.number))
    if not rows:
        return None
    columns = tuple(f"minus {group.name}" for group in references)
    return Table("Differences of mean HTER, paired by video", columns, tuple(rows), how_paired(comparison))


def attack_table(study: Study, fold: str | None = None) -> Table | None:
    """APCER of every attack type under the honest rules, of one fold or the mean over those that have it."""
    places = [fold] if fold else list(study.folds)
    numbers = {group.name: _attack_numbers(group, places) for group in study.groups}
    kinds = sorted({kind for values in numbers.values() for kind in values["types"]})
    if not kinds:
        return None
    rows = []
    for group in _ordered(study):
        values = numbers[group.name]
        cells = [_rate_cell(values["types"].get(kind, [])) for kind in kinds]
        cells += [_rate_cell(values[name]) for name in ("apcer", "bpcer", "acer")]
        rows.append(Row(group.name, tuple(cells), _note(group), group.number))
    columns = (*(f"APCER {kind}" for kind in kinds), "APCER worst", "BPCER", "ACER")
    title = f"Errors by attack type, {fold}" if fold else "Errors by attack type, mean over the folds"
    made = [(what, how) for what, how in how_made(study, study.honest) if what != "Intervals"]
    return Table(title, columns, tuple(rows), tuple(made))


def classification_table(study: Study) -> Table | None:
    """Accuracy and its kin with the attack as the positive class, means over the targets; None where none is known."""
    targets = targets_of(study)
    rows = []
    for group in _ordered(study):
        found = [[values_of(group, target, study.honest, metric) for target in targets] for metric in _CLASSIFICATION]
        cells = [_rate_cell(_shared_means(column)) for column in found]
        counts = [_sum(group, targets, study.honest, name) for name in _CONFUSION]
        rows.append(Row(group.name, (*cells, *map(Cell, counts)), _note(group), group.number))
    # Results of an earlier version have AUC alone, which stands in another table.
    own = [place for place, name in enumerate(_CLASSIFICATION) if name != "auc"]
    if not any(row.cells[place].text != MISSING for row in rows for place in own):
        return None
    made = (
        (
            "Positive class",
            "the attack: precision and recall are of attacks, and a false positive is a rejected live face",
        ),
        ("Counts", "summed over targets, means over seeds"),
        (
            "Not told twice",
            "FPR is BPCER; where attacks of all kinds are pooled, APCER is 100 - recall and ACER is HTER",
        ),
        ("Rules", study.honest),
    )
    columns = (*_CLASSIFICATION.values(), "attacks rejected", "attacks accepted", "live accepted", "live rejected")
    return Table("Classification metrics, mean over targets (%)", columns, tuple(rows), made)


_CLASSIFICATION = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "tnr": "TNR", "fpr": "FPR",
    "auc": "ROC-AUC", "pr_auc": "PR-AUC", "mcc": "MCC", "kappa": "kappa",
}  # fmt: skip
_CONFUSION = ("true_positives", "false_negatives", "true_negatives", "false_positives")


def _shared_means(by_target: Sequence[dict[int, float]]) -> list[float]:
    """By seed, the mean over the targets that have a value: a detector that rejects nothing has no precision."""
    seeds = sorted({seed for values in by_target for seed in values})
    return [float(np.mean([values[seed] for values in by_target if seed in values])) for seed in seeds]


def _sum(group: Group, targets: Sequence[Target], rule: str, name: str) -> str:
    found = [list(values_of(group, target, rule, name).values()) for target in targets]
    return f"{sum(np.mean(values) for values in found if values):,.1f}".removesuffix(".0") if any(found) else MISSING


def rule_table(study: Study) -> Table:
    """Mean HTER over the folds under every pair of selection and threshold rule."""
    rules = sorted({rule for trial in study.trials if trial.finished for rule in (trial.result or {})["mean"]})
    rows = []
    for group in _ordered(study):
        cells = [_rate_cell(_means(group, rule, "hter")) for rule in rules]
        cells += [_rate_cell(_running_best(group, metric)) for metric in ("hter", "auc")]
        rows.append(Row(group.name, tuple(cells), _note(group), group.number))
    made = (
        ("Names", "selection rule / threshold rule"),
        ("Looks at test labels", "everything with oracle, target_eer or running best: upper bounds, not results"),
        ("Running best", "lowest HTER and highest AUC on the target over the kept checkpoints, each by itself"),
    )
    columns = (*rules, "running best HTER", "running best AUC")
    return Table("Mean HTER under every rule", columns, tuple(rows), made)


def _ordered(study: Study) -> list[Group]:
    return [*study.methods, *study.controls]


def _note(group: Group) -> str:
    unfinished = sum(not trial.finished for trial in group.trials)
    notes = ["control"] if group.is_control else []
    if unfinished:
        notes.append(f"{unfinished} of {len(group.trials)} unfinished")
    return ", ".join(notes)


def _leave_out_row(study: Study, group: Group, rule: str, comparison: Comparison | None) -> Row:
    cells: list[Cell] = []
    for metric in ("hter", "auc"):
        mean = _rate_cell(_means(group, rule, metric), kind="mean")
        ends = comparison.interval_of(group) if comparison and metric == "hter" else None
        cells.append(Cell(mean.text, _ends(*ends), "mean") if ends else mean)
        cells += [_fold_cell(group, fold, rule, metric) for fold in study.folds]
    return Row(group.name, tuple(cells), _note(group), group.number)


def _fold_cell(group: Group, fold: str, rule: str, metric: str) -> Cell:
    found = [numbers for trial in group.trials if (numbers := trial.numbers(fold, rule))]
    pairs = [numbers["intervals"][metric] for numbers in found if metric in numbers.get("intervals", {})]
    cell = _rate_cell([numbers[metric] for numbers in found])
    return Cell(cell.text, _ends(*np.mean(pairs, axis=0))) if pairs else cell


def _rate_cell(values: Sequence[float], kind: str = "") -> Cell:
    """Mean and standard deviation over seeds of rates in [0, 1], in per cent."""
    if not len(values):
        return Cell(MISSING, kind=kind)
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return Cell(f"{100 * np.mean(values):.1f}{spread}", kind=kind)


def _ends(low: float, high: float) -> str:
    return f"[{_percent(low)}, {_percent(high)}]"


def _percent(rate: float) -> str:
    return f"{round(100 * rate, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0


def _means(group: Group, rule: str, metric: str) -> list[float]:
    values = [trial.mean(rule, metric) for trial in group.trials]
    return [value for value in values if value is not None]


def _running_best(group: Group, metric: str) -> list[float]:
    """What the published code prints: the best of many looks at the target, mean over the folds, per seed."""
    finished = [trial.result["folds"] for trial in group.trials if trial.finished and trial.result]
    return [float(np.mean([fold["papers_best"][metric] for fold in folds.values()])) for folds in finished]


def _attack_numbers(group: Group, folds: Sequence[str]) -> dict[str, Any]:
    """Per seed the mean over the folds, of each attack type and of APCER, BPCER and ACER."""
    result: dict[str, Any] = {"types": {}, "apcer": [], "bpcer": [], "acer": []}
    for trial in group.trials:
        found = [numbers for fold in folds if (numbers := trial.numbers(fold, trial.honest))]
        if not found or len(found) < len(folds):
            continue
        for name in ("apcer", "bpcer", "acer"):
            result[name].append(float(np.mean([numbers[name] for numbers in found])))
        for kind in {kind for numbers in found for kind in numbers["apcer_per_type"]}:
            rates = [numbers["apcer_per_type"][kind] for numbers in found if kind in numbers["apcer_per_type"]]
            result["types"].setdefault(kind, []).append(float(np.mean(rates)))
    return result


def _difference_cell(difference: Any) -> Cell:
    if difference is None:
        return Cell(MISSING)
    kind = "better" if difference.high < 0 else "worse" if difference.low > 0 else ""
    return Cell(f"{round(100 * difference.mean, 1) + 0.0:+.1f}", _ends(difference.low, difference.high), kind)

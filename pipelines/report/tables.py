"""The tables of results, and how their numbers were made; the page and the Markdown show the same cells.

Rates are in per cent with one decimal; below a value stands its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.evaluation.exact import FEWEST_VIDEOS, HOW, few_videos
from pipelines.report.cells import MISSING, Cell, Row, Table, listed, percent, rate_cell, span, texts
from pipelines.report.comparison import Comparison, MeanDifference
from pipelines.report.contents import Group, Study, Target, Trial, class_counts, targets_of, values_of

_SELECTIONS = {
    "last": "the last checkpoint",
    "source_dev": "the best on held-out videos of the source domains",
    "oracle": "the best on the test videos themselves",
}
_THRESHOLDS = {
    "source_dev_eer": "equal error rate on held-out videos of the source domains",
    "source_dev_min_acer": "lowest ACER, with APCER of the worst attack type, on held-out videos of the source domains",
    "source_dev_min_hter": "lowest HTER, all attacks pooled, on held-out videos of the source domains",
    "target_eer": "equal error rate on the test videos themselves, so that HTER is EER",
    "published": "the threshold of the publisher of the weights",
}


def leave_out_table(study: Study, rule: str, title: str, comparison: Comparison | None = None) -> Table:
    """HTER and AUC of every fold and their means over the folds, one row per group.

    Args:
        study: the experiments.
        rule: name of the pair of rules.
        title: heading.
        comparison: if given, the mean HTER has a 95 % interval.
    """
    columns = [f"{metric} {fold}" for metric in ("HTER", "AUC") for fold in ("mean", *study.folds)]
    rows = [_leave_out_row(study, group, rule, comparison) for group in study.rows]
    return Table(title, tuple(columns), tuple(rows), tuple(how_made(study, rule, comparison)))


def difference_table(study: Study, comparison: Comparison) -> Table | None:
    """HTER of every group minus HTER of each reference; None without a pair to compare."""
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
    """APCER of every attack type under the honest rules, of one fold or the mean over those with the type."""
    places = [fold] if fold else list(study.folds)
    numbers = {group.name: _attack_numbers(group, places) for group in study.groups}
    kinds = sorted({kind for values in numbers.values() for kind in values["types"]})
    if not kinds:
        return None
    rows = []
    for group in study.rows:
        values = numbers[group.name]
        cells = [rate_cell(values["types"].get(kind, [])) for kind in kinds]
        cells += [rate_cell(values[name]) for name in ("apcer", "bpcer", "acer")]
        rows.append(Row(group.name, tuple(cells), _note(group), group.number))
    columns = (*(f"APCER {kind}" for kind in kinds), "APCER worst", "BPCER", "ACER")
    title = f"Errors by attack type, {fold}" if fold else "Errors by attack type, mean over the folds"
    made = [(what, how) for what, how in how_made(study, study.honest) if what != "Intervals"]
    return Table(title, columns, tuple(rows), tuple(made))


def classification_table(study: Study) -> Table | None:
    """Classification metrics with the attack as the positive class, means over the targets; None if none is known."""
    targets = targets_of(study)
    rows = []
    for group in study.rows:
        found = [[values_of(group, target, study.honest, metric) for target in targets] for metric in _CLASSIFICATION]
        cells = [rate_cell(_shared_means(column)) for column in found]
        counts = [_sum(group, targets, study.honest, name) for name in _CONFUSION]
        rows.append(Row(group.name, (*cells, *texts(*counts)), _note(group), group.number))
    if not any(cell.text != MISSING for row in rows for cell in row.cells):
        return None
    made = (
        ("Positive class", "the attack: a true positive is a rejected attack, a false positive a rejected live face"),
        ("Counts", "summed over targets, means over seeds"),
        (
            "In terms of error rates",
            "FPR is BPCER; with all attack types pooled, APCER is 100 - recall and ACER is HTER",
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
    """By seed, the mean over the targets with a value; a detector that rejects nothing has no precision."""
    seeds = sorted({seed for values in by_target for seed in values})
    return [float(np.mean([values[seed] for values in by_target if seed in values])) for seed in seeds]


def _sum(group: Group, targets: Sequence[Target], rule: str, name: str) -> str:
    found = [list(values_of(group, target, rule, name).values()) for target in targets]
    return f"{sum(np.mean(values) for values in found if values):,.1f}".removesuffix(".0") if any(found) else MISSING


def rule_table(study: Study) -> Table:
    """Mean HTER over the folds under every pair of selection and threshold rule."""
    rules = sorted({rule for trial in study.trials if trial.finished for rule in (trial.result or {})["mean"]})
    rows = []
    for group in study.rows:
        cells = [rate_cell(_means(group, rule, "hter")) for rule in rules]
        cells += [rate_cell(_running_best(group, metric)) for metric in ("hter", "auc")]
        rows.append(Row(group.name, tuple(cells), _note(group), group.number))
    made = (
        ("Names", "selection rule / threshold rule"),
        ("Uses test labels", "everything with oracle, target_eer or running best: upper bounds, not results"),
        ("Running best", "lowest HTER and highest AUC on the target over the kept checkpoints, each by itself"),
    )
    columns = (*rules, "running best HTER", "running best AUC")
    return Table("Mean HTER under every rule", columns, tuple(rows), made)


def _note(group: Group) -> str:
    unfinished = sum(not trial.finished for trial in group.trials)
    notes = ["control"] if group.is_control else []
    if unfinished:
        notes.append(f"{unfinished} of {len(group.trials)} unfinished")
    return ", ".join(notes)


def _leave_out_row(study: Study, group: Group, rule: str, comparison: Comparison | None) -> Row:
    cells: list[Cell] = []
    for metric in ("hter", "auc"):
        mean = rate_cell(_means(group, rule, metric), kind="mean")
        ends = comparison.interval_of(group) if comparison and metric == "hter" else None
        cells.append(Cell(mean.text, span(*ends), "mean") if ends else mean)
        cells += [_fold_cell(group, fold, rule, metric) for fold in study.folds]
    return Row(group.name, tuple(cells), _note(group), group.number)


def _fold_cell(group: Group, fold: str, rule: str, metric: str) -> Cell:
    found = [numbers for trial in group.trials if (numbers := trial.numbers(fold, rule))]
    pairs = [numbers["intervals"][metric] for numbers in found if metric in numbers.get("intervals", {})]
    cell = rate_cell([numbers[metric] for numbers in found])
    return Cell(cell.text, span(*np.mean(pairs, axis=0))) if pairs else cell


def _means(group: Group, rule: str, metric: str) -> list[float]:
    values = [trial.mean(rule, metric) for trial in group.trials]
    return [value for value in values if value is not None]


def _running_best(group: Group, metric: str) -> list[float]:
    """The running best of the published code by seed, the mean over the folds."""
    finished = [trial.result["folds"] for trial in group.trials if trial.finished and trial.result]
    return [float(np.mean([fold["papers_best"][metric] for fold in folds.values()])) for folds in finished]


def _attack_numbers(group: Group, folds: Sequence[str]) -> dict[str, Any]:
    """APCER of each attack type, APCER, BPCER and ACER by seed, the means over the folds."""
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


def _difference_cell(difference: MeanDifference | None) -> Cell:
    if difference is None:
        return Cell(MISSING)
    kind = "better" if difference.high < 0 else "worse" if difference.low > 0 else ""
    return Cell(percent(difference.mean, "+"), span(difference.low, difference.high), kind)


def warning_of(study: Study) -> str:
    """What is to be said before the numbers of a study with few test videos; empty if there are enough."""
    counts = {fold: class_counts(study.trials, Target(fold)) for fold in study.folds}
    return few_videos({fold: found for fold, found in counts.items() if found})


def how_made(study: Study, rule: str, comparison: Comparison | None = None) -> list[tuple[str, str]]:
    """Checkpoint, threshold and its origin, videos, seeds and intervals of a table's numbers."""
    selection, threshold = rule.split("/")
    trials = [trial for trial in study.trials if trial.result is not None]
    seeds = sorted({trial.seed for trial in trials})
    steps = sorted({trial.planned.experiment.train.steps for trial in trials})
    judged = [(fold, numbers) for t in trials for fold in t.folds if (numbers := t.numbers(fold, rule)) is not None]
    origins: dict[str, str] = {}
    for fold, numbers in judged:
        origins.setdefault(fold, numbers["threshold_origin"])
    counts = {fold: class_counts(study.trials, Target(fold)) for fold in study.folds}
    videos = [f"{fold}: {found[0]} live, {found[1]} attacks" for fold, found in counts.items() if found]
    at = sorted({numbers["step"] for _, numbers in judged})
    state = f"judged at step {listed(at)}" if at else "none judged yet"
    made = [
        ("Checkpoint", f"{selection}: {_SELECTIONS[selection]}; of {listed(steps)} steps, {state}"),
        ("Threshold", f"{threshold}: {_THRESHOLDS[threshold]}"),
        ("Origin", "; ".join(f"{fold}: {text}" for fold, text in origins.items())),
        ("Videos", "; ".join(videos) + ". The scores of a video's frames are averaged" if videos else ""),
        ("Seeds", f"{len(seeds)} ({listed(seeds)}); ± is the standard deviation over seeds"),
        ("Intervals", _intervals(trials, comparison) if any("intervals" in n for _, n in judged) else ""),
    ]
    return [(what, how) for what, how in made if how]


def how_paired(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """How a difference and its interval are computed."""
    value = (
        "HTER of the row minus HTER of the column in percentage points, each at its own threshold, averaged"
        " over the folds and over the seeds that both have; negative: the row is better"
    )
    interval = (
        f"95 %, {comparison.replicates} bootstrap replicates over videos. Both detectors and all seeds share"
        " the draws; the folds' videos are drawn independently; seeds are not drawn. With fewer than"
        f" {FEWEST_VIDEOS} videos of a class in a fold, from both detectors' exact intervals"
    )
    marks = "coloured if the interval excludes 0, which some of many comparisons do by chance"
    return ("Value", value), ("Interval", interval), ("Marks", marks), ("Rules", comparison.study.honest)


def _intervals(trials: Sequence[Trial], comparison: Comparison | None) -> str:
    replicates = sorted({trial.planned.experiment.evaluate.replicates for trial in trials})
    text = f"95 %, {listed(replicates)} bootstrap replicates over videos"
    if len({trial.seed for trial in trials}) > 1:
        text += "; over several seeds, the mean of their ends"
    text += f"; {HOW}"
    if comparison is not None:
        text += f"; of the mean HTER, {comparison.replicates} joint draws of all folds and seeds"
    return text

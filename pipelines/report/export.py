"""Every number of an output folder as one flat file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from pipelines.report.contents import Group, Study, Trial

_CSV_COLUMNS = (
    "study", "experiment", "control", "axes", "seed", "fold", "domain", "rule", "honest", "step", "threshold",
    "threshold_origin", "hter", "hter_low", "hter_high", "auc", "auc_low", "auc_high", "eer", "apcer",
    "worst_attack", "bpcer", "acer", "acer_low", "acer_high", "bpcer_at_apcer_10", "bpcer_at_apcer_05",
    "tpr_at_fpr_01", "apcer_per_type", "positive", "accuracy", "precision", "recall", "f1", "tnr", "fpr", "pr_auc",
    "mcc", "kappa", "true_positives", "false_negatives", "true_negatives", "false_positives", "far",
    "bonafide_videos", "attack_videos", "state",
)  # fmt: skip


def to_csv(studies: Sequence[Study]) -> str:
    """Every number of every result.json; rates in [0, 1].

    A line per experiment, fold and rules, and one for each domain of a fold that tests several.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for study in studies:
        for group in study.groups:
            for trial in group.trials:
                writer.writerows(_csv_rows(study, group, trial))
    return stream.getvalue()


def _csv_rows(study: Study, group: Group, trial: Trial) -> list[dict[str, Any]]:
    base = {
        "study": study.title,
        "experiment": group.name,
        "control": group.is_control,
        "axes": "; ".join(f"{key}={value}" for key, value in trial.planned.axes.items()),
        "seed": trial.planned.experiment.seed,
        "state": "finished" if trial.finished else f"unfinished: {trial.state}",
    }
    rows = []
    for fold, judged in (trial.result or {"folds": {}})["folds"].items():
        rows += _judged_rows({**base, "fold": fold}, judged, trial.honest)
        for domain, part in judged.get("domains", {}).items():
            rows += _judged_rows({**base, "fold": fold, "domain": domain}, part, trial.honest)
    return rows or [base]


def _judged_rows(base: dict[str, Any], judged: dict[str, Any], honest: str) -> list[dict[str, Any]]:
    videos = {f"{name}_videos": number for name, number in judged["videos"].items()}
    rows = []
    for rule, numbers in judged.get("rules", judged.get("one_class", {})).items():
        types = "; ".join(f"{kind}={value}" for kind, value in numbers.get("apcer_per_type", {}).items())
        ends = {f"{metric}_{end}": value for metric, pair in numbers.get("intervals", {}).items()
                for end, value in zip(("low", "high"), pair, strict=True)}  # fmt: skip
        row = {**base, **videos, "rule": rule, "honest": rule == honest}
        rows.append({**row, **numbers.get("classification", {}), **numbers, **ends, "apcer_per_type": types})
    return rows

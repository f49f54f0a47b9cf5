"""Every number of an output folder as one flat file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from pipelines.report.contents import Group, Study, Trial

_CSV_COLUMNS = (
    "study", "experiment", "control", "axes", "seed", "split", "rule", "honest", "step", "threshold",
    "threshold_origin", "hter", "hter_low", "hter_high", "auc", "auc_low", "auc_high", "eer", "apcer",
    "worst_attack", "bpcer", "acer", "acer_low", "acer_high", "bpcer_at_apcer_10", "bpcer_at_apcer_05",
    "tpr_at_fpr_01", "apcer_per_type", "bonafide_videos", "attack_videos", "state",
)  # fmt: skip


def to_csv(studies: Sequence[Study]) -> str:
    """Every number of every result.json: a line per experiment, split and rules; rates in [0, 1]."""
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
    for split, judged in (trial.result or {"splits": {}})["splits"].items():
        videos = {f"{name}_videos": number for name, number in judged["videos"].items()}
        for rule, numbers in judged["rules"].items():
            types = "; ".join(f"{kind}={value}" for kind, value in numbers["apcer_per_type"].items())
            ends = {f"{metric}_{end}": value for metric, pair in numbers.get("intervals", {}).items()
                    for end, value in zip(("low", "high"), pair, strict=True)}  # fmt: skip
            row = {**base, **videos, "split": split, "rule": rule, "honest": rule == trial.honest}
            rows.append({**row, **numbers, **ends, "apcer_per_type": types})
    return rows or [base]

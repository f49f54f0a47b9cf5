"""From score tables to the numbers of one experiment, each under the name of the rule that chose it.

Every split of a protocol is judged under every pair of selection and threshold rule. Two families matter:
`honest` (last checkpoint, threshold at the EER of held-out source videos) and `papers` (best checkpoint on the
target, threshold at the target's own EER), which the literature's tables are made with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.config import EvaluateSettings
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.selection import CheckpointScores, papers_best, select
from pipelines.evaluation.thresholds import choose_threshold
from pipelines.files import read_json, write_json
from pipelines.fingerprint import file_sha256, fingerprint

SELECTIONS = ("last", "source_dev", "oracle")
THRESHOLDS = ("source_dev_eer", "target_eer")
PAPERS = "oracle/target_eer"
_INTERVALS = ("hter", "auc", "acer")


def write_result(folder: Path, settings: EvaluateSettings) -> dict[str, Any]:
    """Judge all splits of an experiment and write `result.json` beside them; found again if nothing changed.

    Args:
        folder: the experiment's folder, with `SPLIT/scores/step_N-{dev,test}.parquet`.
        settings: the experiment's own rules, bootstrap replicates.
    """
    tables = sorted(folder.glob("*/scores/*.parquet"))
    settings_key = {
        "selection": settings.selection,
        "threshold": settings.threshold,
        "n": settings.replicates,
    }
    key = fingerprint([settings_key, [[path.relative_to(folder).as_posix(), file_sha256(path)] for path in tables]])
    known = folder / "result.json"
    if known.is_file() and read_json(known).get("key") == key:
        return dict(read_json(known))
    splits = {name: judge_split(load_checkpoints(folder / name), settings) for name in _split_names(tables)}
    result = {
        "key": key,
        "honest": f"{settings.selection}/{settings.threshold}",
        "papers": PAPERS,
        "splits": splits,
        "mean": _means(splits),
    }
    write_json(known, result)
    return result


def load_checkpoints(split_folder: Path) -> list[CheckpointScores]:
    """The score tables of one split, a pair for every kept checkpoint, averaged over each video's frames."""
    steps = sorted({path.name.split("-")[0] for path in (split_folder / "scores").glob("*.parquet")})
    return [
        CheckpointScores(
            step=int(step.removeprefix("step_")),
            dev=ScoreTable.load(split_folder / "scores" / f"{step}-dev.parquet").by_video(),
            target=ScoreTable.load(split_folder / "scores" / f"{step}-test.parquet").by_video(),
        )
        for step in steps
    ]


def judge_split(checkpoints: list[CheckpointScores], settings: EvaluateSettings) -> dict[str, Any]:
    """All rules' numbers of one split; intervals for the experiment's own rules and for the papers'."""
    honest = f"{settings.selection}/{settings.threshold}"
    rules: dict[str, Any] = {}
    for selection in SELECTIONS:
        step = select(selection, checkpoints)
        chosen = next(item for item in checkpoints if item.step == step)
        for rule in THRESHOLDS:
            threshold = choose_threshold(rule, chosen.dev, chosen.target)
            numbers = {
                "step": step,
                "threshold": threshold.value,
                "threshold_origin": threshold.origin,
                **report(chosen.target, threshold.value).to_dict(),
            }
            if f"{selection}/{rule}" in (honest, PAPERS):
                numbers["intervals"] = intervals(
                    chosen.target, threshold.value, _INTERVALS, replicates=settings.replicates, seed=0
                )
            rules[f"{selection}/{rule}"] = numbers
    return {
        "videos": _counts(checkpoints[-1].target),
        "rules": rules,
        "papers_best": papers_best(checkpoints),
    }


def _split_names(tables: list[Path]) -> list[str]:
    return sorted({path.parent.parent.name for path in tables})


def _counts(table: ScoreTable) -> dict[str, int]:
    return {"bonafide": int((table.label == 1).sum()), "attack": int((table.label == 0).sum())}


def _means(splits: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Means over the splits of every rule's HTER, AUC and ACER."""
    first = next(iter(splits.values()))
    return {
        rule: {
            metric: float(np.mean([split["rules"][rule][metric] for split in splits.values()])) for metric in _INTERVALS
        }
        for rule in first["rules"]
    }

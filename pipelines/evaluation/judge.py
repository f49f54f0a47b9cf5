"""From score tables to the numbers of one experiment, each under the name of the rule that chose it.

Every fold of a protocol is judged under every pair of selection and threshold rule. Two families matter:
`honest` (last checkpoint, threshold at the EER of held-out source videos) and `papers` (best checkpoint on the
target, threshold at the target's own EER), which the literature's tables are made with.

A fold that tests several domains is judged as a whole and, under `domains`, each of them as if it were the only
target: rules that look at sources give the same threshold for all, the papers' rule looks at each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.classification import classify
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.selection import CheckpointScores, papers_best, select
from pipelines.evaluation.thresholds import SOURCE_RULES, THRESHOLD_RULES, choose_threshold
from pipelines.experiment.config import EvaluateSettings
from pipelines.files import read_json, write_json
from pipelines.fingerprint import file_sha256, fingerprint

SELECTIONS = ("last", "source_dev", "oracle")
THRESHOLDS = THRESHOLD_RULES
PAPERS = "oracle/target_eer"
_INTERVALS = ("hter", "auc", "acer")
# What a result holds; results of an older one are made again from the same scores.
_CONTENT = 3


def write_result(folder: Path, settings: EvaluateSettings) -> dict[str, Any]:
    """Judge all folds of an experiment and write `result.json` beside them; found again if nothing changed.

    A result of other settings, or of code that knew other rules, is judged again from the same scores.

    Args:
        folder: the experiment's folder, with `SPLIT/scores/step_N-{dev,test}.parquet`.
        settings: the experiment's own rules, bootstrap replicates.

    Raises:
        AgfasError: there are no scores.
    """
    tables, path = _tables(folder), folder / "result.json"
    if not tables:
        raise AgfasError(
            f"{folder} holds no scores to judge. Run `agfas evaluate` with the experiment's configuration."
        )
    key, known = _key(folder, settings), _known(path)
    if known.get("key") == key:
        return known
    folds = {name: judge_all(load_checkpoints(folder / name), settings) for name in _fold_names(tables)}
    result = {
        "key": key,
        "honest": f"{settings.selection}/{settings.threshold}",
        "papers": PAPERS,
        "folds": folds,
        "mean": _means(folds),
    }
    write_json(path, result)
    return result


def is_judged(folder: Path, settings: EvaluateSettings) -> bool:
    """Whether `result.json` is there and is of these scores, these settings and today's rules."""
    return _known(folder / "result.json").get("key") == _key(folder, settings)


def own_numbers(judged: Mapping[str, Any], settings: EvaluateSettings, title: str) -> dict[str, Any]:
    """What `result.json` holds of one fold under the experiment's own rules.

    Args:
        judged: of the fold.
        settings: name the rules.
        title: of the experiment, for the refusal.

    Raises:
        AgfasError: it was judged before those rules were asked for, or were known.
    """
    rule = f"{settings.selection}/{settings.threshold}"
    if rule not in judged["rules"]:
        raise AgfasError(
            f"'{title}' was not judged under {rule}, only under {', '.join(judged['rules'])}. Run the command that"
            " trained it again: its scores are kept, and judging them takes seconds."
        )
    return dict(judged["rules"][rule])


def load_checkpoints(fold_folder: Path) -> list[CheckpointScores]:
    """The score tables of one fold, a pair for every kept checkpoint, averaged over each video's frames."""
    steps = sorted({path.name.split("-")[0] for path in (fold_folder / "scores").glob("*.parquet")})
    return [
        CheckpointScores(
            step=int(step.removeprefix("step_")),
            dev=ScoreTable.load(fold_folder / "scores" / f"{step}-dev.parquet").by_video(),
            target=ScoreTable.load(fold_folder / "scores" / f"{step}-test.parquet").by_video(),
        )
        for step in steps
    ]


def judge_all(checkpoints: list[CheckpointScores], settings: EvaluateSettings) -> dict[str, Any]:
    """A fold as a whole and, where it tests several domains, each of them by itself under `domains`."""
    domains = sorted(set(checkpoints[-1].target.domain.tolist()))
    judged = judge_fold(checkpoints, settings)
    if len(domains) > 1:
        judged["domains"] = {domain: _judge_domain(checkpoints, domain, settings) for domain in domains}
    return judged


def judge_fold(checkpoints: list[CheckpointScores], settings: EvaluateSettings) -> dict[str, Any]:
    """All rules' numbers of one fold; intervals for the experiment's own rules and for the papers'."""
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
                "classification": classify(chosen.target, threshold.value).to_dict(),
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


def _judge_domain(checkpoints: list[CheckpointScores], domain: str, settings: EvaluateSettings) -> dict[str, Any]:
    parts = [CheckpointScores(c.step, c.dev, c.target.where(c.target.domain == domain)) for c in checkpoints]
    if len(set(parts[-1].target.label.tolist())) == 2:
        return judge_fold(parts, settings)
    return {"videos": _counts(parts[-1].target), "one_class": _judge_one_class(parts)}


def _judge_one_class(checkpoints: list[CheckpointScores]) -> dict[str, Any]:
    """The only error rate that a domain without attacks, or without bona fide, has: under the sources' rules."""
    rules = {}
    for selection in ("last", "source_dev"):
        step = select(selection, checkpoints)
        chosen = next(item for item in checkpoints if item.step == step)
        for rule in SOURCE_RULES:
            threshold = choose_threshold(rule, chosen.dev, chosen.target)
            accepted = float(np.mean(chosen.target.score >= threshold.value))
            live = bool(chosen.target.label[0] == BONAFIDE)
            rules[f"{selection}/{rule}"] = {
                "step": step,
                "threshold": threshold.value,
                "threshold_origin": threshold.origin,
                **({"bpcer": 1 - accepted} if live else {"far": accepted}),
            }
    return rules


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/scores/*.parquet"))


def _key(folder: Path, settings: EvaluateSettings) -> str:
    """Names everything that decides a result."""
    settings_key = {
        "content": _CONTENT,
        "selection": settings.selection,
        "threshold": settings.threshold,
        "n": settings.replicates,
    }
    scores = [[path.relative_to(folder).as_posix(), file_sha256(path)] for path in _tables(folder)]
    return fingerprint([settings_key, scores])


def _known(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _fold_names(tables: list[Path]) -> list[str]:
    return sorted({path.parent.parent.name for path in tables})


def _counts(table: ScoreTable) -> dict[str, int]:
    return {"bonafide": int((table.label == BONAFIDE).sum()), "attack": int((table.label == ATTACK).sum())}


def _means(folds: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Means over the folds of every rule's HTER, AUC and ACER."""
    first = next(iter(folds.values()))
    return {
        rule: {
            metric: float(np.mean([fold["rules"][rule][metric] for fold in folds.values()])) for metric in _INTERVALS
        }
        for rule in first["rules"]
    }

"""From score tables to the numbers of one experiment, `result.json`, each under the name of the rules that chose it.

Every fold of a protocol is judged under every pair of a selection rule and a threshold rule. Two pairs matter:
`honest`, the experiment's own (default: last checkpoint, threshold at the EER of held-out source videos), and
`papers`, behind the literature's tables (best checkpoint on the target, threshold at the target's own EER).

A fold that tests several domains is judged as a whole and, under `domains`, each domain as if it were the only target:
source rules give all of them the same threshold, `target_eer` gives each its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.classification import classify
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import ScoreTable, read_scores
from pipelines.evaluation.selection import CheckpointScores, papers_best, select
from pipelines.evaluation.settings import (
    PAPERS_RULE,
    PUBLISHED_RULE,
    SELECTION_RULES,
    SOURCE_RULES,
    THRESHOLD_RULES,
    EvaluateSettings,
)
from pipelines.evaluation.thresholds import Threshold, choose_threshold
from pipelines.files import read_json, write_json
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.training.run import read_done, steps_in

_INTERVALS = ("hter", "auc", "acer")
# Version of the content of result.json; older results are computed anew from the same scores.
_CONTENT = 4


def write_result(folder: Path, settings: EvaluateSettings) -> dict[str, Any]:
    """Judge all folds of an experiment and write `result.json` beside them, unless it exists and is up to date.

    A result of other settings or of an older version of this code is computed anew from the same scores.

    Args:
        folder: the experiment's folder, with the score tables of every fold.
        settings: the experiment's own rules and the number of bootstrap replicates.

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
    names = sorted({path.parent.parent.name for path in tables})
    folds = {name: judge_all(load_checkpoints(folder / name), settings, _published(folder / name)) for name in names}
    result = {"key": key, "honest": settings.rules, "papers": PAPERS_RULE, "folds": folds, "mean": _means(folds)}
    write_json(path, result)
    return result


def is_judged(folder: Path, settings: EvaluateSettings) -> bool:
    """Whether `result.json` exists and is of these scores, these settings and this version of the code."""
    return _known(folder / "result.json").get("key") == _key(folder, settings)


def own_numbers(judged: Mapping[str, Any], settings: EvaluateSettings, title: str) -> dict[str, Any]:
    """The numbers of one fold under the experiment's own rules.

    Args:
        judged: the fold's block of `result.json`.
        settings: name the rules.
        title: of the experiment, for the error.

    Raises:
        AgfasError: the fold was judged by an older version that did not know these rules.
    """
    rule = settings.rules
    if rule not in judged["rules"]:
        raise AgfasError(
            f"'{title}' was not judged under {rule}, only under {', '.join(judged['rules'])}. Run the command that"
            " trained it again: its scores are kept, and judging takes seconds."
        )
    return dict(judged["rules"][rule])


def load_checkpoints(fold_folder: Path) -> list[CheckpointScores]:
    """The score tables of one fold's checkpoints, averaged over each video's frames."""
    return [
        CheckpointScores(
            step,
            dev=read_scores(fold_folder, step, "dev").by_video(),
            target=read_scores(fold_folder, step, "test").by_video(),
        )
        for step in steps_in(fold_folder / "scores")
    ]


def _published(fold_folder: Path) -> Threshold | None:
    """The threshold that came with a fold's published weights."""
    known = (read_done(fold_folder) or {}).get(PUBLISHED_RULE)
    return None if known is None else Threshold(known["threshold"], PUBLISHED_RULE, known["origin"])


def judge_all(
    checkpoints: list[CheckpointScores], settings: EvaluateSettings, published: Threshold | None = None
) -> dict[str, Any]:
    """The numbers of a fold and, if it tests several domains, of each domain under `domains`.

    Raises:
        AgfasError: the settings name the published threshold, and there is none.
    """
    if settings.threshold == PUBLISHED_RULE and published is None:
        raise AgfasError(
            "evaluate.threshold = published needs a detector whose published weights have a threshold: set"
            " detector.weights of such a one, and train.steps = 0."
        )
    domains = sorted(set(checkpoints[-1].target.domain.tolist()))
    judged = judge_fold(checkpoints, settings, published)
    if len(domains) > 1:
        judged["domains"] = {domain: _judge_domain(checkpoints, domain, settings, published) for domain in domains}
    return judged


def judge_fold(
    checkpoints: list[CheckpointScores], settings: EvaluateSettings, published: Threshold | None = None
) -> dict[str, Any]:
    """The numbers of one fold under all rules; with intervals under the experiment's own and the papers'.

    The published threshold is one of the rules only where the settings name it.
    """
    rules: dict[str, Any] = {}
    names = (*THRESHOLD_RULES, *([PUBLISHED_RULE] if settings.threshold == PUBLISHED_RULE else []))
    for rule, target, chosen in _choices(checkpoints, SELECTION_RULES, names, published):
        threshold = chosen["threshold"]
        rules[rule] = {
            **chosen,
            **report(target, threshold).to_dict(),
            "classification": classify(target, threshold).to_dict(),
        }
        if rule in (settings.rules, PAPERS_RULE):
            rules[rule]["intervals"] = intervals(target, threshold, _INTERVALS, settings.replicates, seed=0)
    return {"videos": _counts(checkpoints[-1].target), "rules": rules, "papers_best": papers_best(checkpoints)}


def _choices(
    checkpoints: list[CheckpointScores],
    selections: Sequence[str],
    thresholds: Sequence[str],
    published: Threshold | None = None,
) -> Iterator[tuple[str, ScoreTable, dict[str, Any]]]:
    """For each pair of rules its name, the target's scores, and the chosen step and threshold."""
    for selection in selections:
        step = select(selection, checkpoints)
        chosen = next(item for item in checkpoints if item.step == step)
        for rule in thresholds:
            named = published if rule == PUBLISHED_RULE else None
            threshold = named or choose_threshold(rule, chosen.dev, chosen.target)
            choice = {"step": step, "threshold": threshold.value, "threshold_origin": threshold.origin}
            yield f"{selection}/{rule}", chosen.target, choice


def _judge_domain(
    checkpoints: list[CheckpointScores], domain: str, settings: EvaluateSettings, published: Threshold | None
) -> dict[str, Any]:
    parts = [CheckpointScores(c.step, c.dev, c.target.where(c.target.domain == domain)) for c in checkpoints]
    if len(set(parts[-1].target.label.tolist())) == 2:
        return judge_fold(parts, settings, published)
    return {"videos": _counts(parts[-1].target), "one_class": _judge_one_class(parts)}


def _judge_one_class(checkpoints: list[CheckpointScores]) -> dict[str, Any]:
    """BPCER or FAR, the only error rate of a domain with one class, under the rules that look at sources alone."""
    rules = {}
    for rule, target, chosen in _choices(checkpoints, ("last", "source_dev"), SOURCE_RULES):
        accepted = float(np.mean(target.score >= chosen["threshold"]))
        live = target.label[0] == BONAFIDE
        rules[rule] = {**chosen, **({"bpcer": 1 - accepted} if live else {"far": accepted})}
    return rules


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/scores/*.parquet"))


def _key(folder: Path, settings: EvaluateSettings) -> str:
    """A hash of everything that decides a result."""
    scores = [[path.relative_to(folder).as_posix(), file_sha256(path)] for path in _tables(folder)]
    return fingerprint([_CONTENT, settings.rules, settings.replicates, scores])


def _known(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _counts(table: ScoreTable) -> dict[str, int]:
    return {"bonafide": int((table.label == BONAFIDE).sum()), "attack": int((table.label == ATTACK).sum())}


def _means(folds: dict[str, Any]) -> dict[str, dict[str, float]]:
    """HTER, AUC and ACER under every pair of rules, the mean over the folds."""
    judged = [fold["rules"] for fold in folds.values()]
    return {
        rule: {metric: float(np.mean([rules[rule][metric] for rules in judged])) for metric in _INTERVALS}
        for rule in judged[0]
    }

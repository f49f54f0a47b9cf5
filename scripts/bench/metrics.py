"""How fast judging is, against a threshold grid and against scikit-learn; equal values are the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.evaluation.bootstrap import Draws, replicate_values
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import ScoreTable
from scripts.bench.turns import Timings, race

_GRID_NAME = "grid of 10,002"
GRID = np.append(np.arange(10_001) / 10_000, 1.1)
_THRESHOLD = 0.5
_TOLERANCE = 1e-12
_COMPARED = ("eer", "eer_threshold", "hter", "auc", "apcer", "bpcer", "acer", "tpr_at_fpr_01")
_BOOTSTRAPPED = ("hter", "auc", "eer")

Values = Mapping[str, Any]
Judge = Callable[[ScoreTable, float], Values]


def metrics_benchmark(count: int = 1_000_000, repeats: int = 5, grid_repeats: int = 2) -> list[dict[str, Any]]:
    """Time all metrics of `count` scores: ours, the 10,002-threshold grid and scikit-learn.

    Two sets of scores: of four decimals, full of ties, on which the grid is exact too; and double precision,
    on which it is not and does not take part. The grid takes half a minute a run at a million scores, so it has fewer
    repeats. All get attack types as integer codes; ours also computes BPCER at two levels of APCER.

    Returns:
        A row for each contender: `benchmark`, `data`, `contender`, `scores`, `repeats`, `seconds` (median),
        `times_ours` (its median over ours), `largest_difference` of any metric to ours, `equal`.
    """
    judges: dict[str, Judge] = {
        "ours": lambda table, threshold: report(table, threshold).to_dict(),
        "scikit-learn": sklearn_metrics,
    }
    with_grid, fewer = {**judges, _GRID_NAME: grid_metrics}, {_GRID_NAME: grid_repeats}
    return [
        *_race_judges("four decimals", simulated_scores(count, 4), with_grid, repeats, fewer),
        *_race_judges("double precision", simulated_scores(count, None), judges, repeats, {}),
    ]


def bootstrap_benchmark(
    count: int = 1_000_000,
    frames: int = 10,
    replicates: int = 1000,
    repeats: int = 5,
    loop_replicates: int = 3,
) -> list[dict[str, Any]]:
    """Time `replicates` bootstrap replicates of HTER, AUC and EER over videos of `frames` frames each.

    The plain loop gathers the drawn videos' frames, averages them and calls scikit-learn. It runs `loop_replicates`
    replicates of the same draws; its time is scaled up to all replicates.

    Returns:
        Rows as those of `metrics_benchmark`; `largest_difference` is over the replicates that the loop ran.
    """
    table = simulated_scores(count, None, frames)
    loop = f"loop of scikit-learn, {loop_replicates} replicates scaled to {replicates}"
    run_loop = _bootstrap_loop(table)
    timings = race(
        {
            "ours": lambda: replicate_values(table, _THRESHOLD, _BOOTSTRAPPED, replicates),
            loop: lambda: run_loop(loop_replicates),
        },
        repeats,
    )
    timings.seconds[loop] = [run * replicates / loop_replicates for run in timings.seconds[loop]]
    ours = {name: found[:loop_replicates] for name, found in timings.results["ours"][-1].items()}
    differences = {"ours": 0.0, loop: _largest_difference(timings.results[loop][-1], ours, _BOOTSTRAPPED)}
    common = {"benchmark": "bootstrap", "data": f"{count // frames} videos", "scores": count}
    return _rows(common, timings, differences)


def simulated_scores(count: int, decimals: int | None, frames: int = 1, seed: int = 0) -> ScoreTable:
    """Scores in (0, 1) of bona fide (30 %) and three attack types that overlap; `frames` rows to a video."""
    generator = np.random.default_rng(seed)
    videos = count // frames
    kind = np.repeat(generator.choice(4, videos, p=[0.3, 0.3, 0.3, 0.1]), frames)
    mean = np.array([1.6, -1.2, -0.8, -0.2])[kind] + np.repeat(generator.normal(size=videos), frames)
    score = 1 / (1 + np.exp(-mean - generator.normal(size=len(kind))))
    if decimals is not None:
        score = np.round(score * 10**decimals) / 10**decimals  # the very doubles of the grid
    rows = np.arange(len(kind))
    return ScoreTable(
        key=rows.astype(np.str_),
        video=(rows // frames).astype(np.str_),
        subject=np.full(len(kind), "s"),
        domain=np.full(len(kind), "d"),
        attack_type=np.array([NO_ATTACK, "print", "replay", "mask"])[kind],
        label=np.where(kind == 0, BONAFIDE, ATTACK),
        score=score,
    )


def papers_grid_eer(
    labels: np.ndarray,
    scores: np.ndarray,
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """EER as the field's public code finds it: four counts at each of 10,002 thresholds, the last minimiser.

    Returns:
        ((FAR + FRR) / 2 and the threshold there, FAR and FRR of all thresholds, (10002,) each.)
    """
    far, frr = np.empty(len(GRID)), np.empty(len(GRID))
    for i, threshold in enumerate(GRID):
        accepted = scores >= threshold
        accepted_bonafide = np.sum((labels == BONAFIDE) & accepted)
        rejected_bonafide = np.sum((labels == BONAFIDE) & ~accepted)
        accepted_attacks = np.sum((labels == ATTACK) & accepted)
        rejected_attacks = np.sum((labels == ATTACK) & ~accepted)
        far[i] = accepted_attacks / (accepted_attacks + rejected_attacks)
        frr[i] = rejected_bonafide / (accepted_bonafide + rejected_bonafide)
    gap = np.abs(frr - far)
    best = int(np.flatnonzero(gap == gap.min())[-1])
    return float((far[best] + frr[best]) / 2), float(GRID[best]), far, frr


def grid_metrics(table: ScoreTable, threshold: float) -> dict[str, float]:
    """The compared metrics by the grid; AUC by scikit-learn, as in the public code."""
    rate, at, far, frr = papers_grid_eer(table.label, table.score)
    return {
        "eer": rate,
        "eer_threshold": at,
        "auc": float(roc_auc_score(table.label, table.score)),
        "tpr_at_fpr_01": float(np.max((1 - frr)[far <= 0.01])),
        **_rates_by_masks(table, threshold),
    }


def sklearn_metrics(table: ScoreTable, threshold: float) -> dict[str, float]:
    """The compared metrics by scikit-learn's ROC curve."""
    far, tpr, thresholds = roc_curve(table.label, table.score, drop_intermediate=False)
    best = int(np.argmin(np.abs(1 - tpr - far)))  # thresholds fall, so the first is the highest
    return {
        "eer": float((far[best] + 1 - tpr[best]) / 2),
        "eer_threshold": float(thresholds[best]),
        "auc": float(roc_auc_score(table.label, table.score)),
        "tpr_at_fpr_01": float(np.max(tpr[far <= 0.01])),
        **_rates_by_masks(table, threshold),
    }


def _rates_by_masks(table: ScoreTable, threshold: float) -> dict[str, float]:
    codes, names = table.attack_codes
    accepted = table.score >= threshold
    by_type = [np.mean(accepted[codes == i]) for i, name in enumerate(names) if name != NO_ATTACK]
    apcer, bpcer = float(max(by_type)), float(np.mean(~accepted[table.label == BONAFIDE]))
    far = float(np.mean(accepted[table.label == ATTACK]))
    return {"hter": (far + bpcer) / 2, "apcer": apcer, "bpcer": bpcer, "acer": (apcer + bpcer) / 2}


def _race_judges(
    data: str, table: ScoreTable, judges: dict[str, Judge], repeats: int, fewer: dict[str, int]
) -> list[dict[str, Any]]:
    small = simulated_scores(1000, None)
    for judge in judges.values():
        judge(small, _THRESHOLD)  # first calls load code
    report(table, _THRESHOLD)  # the table keeps its attack types' integer codes, which all use, from here on
    timings = race({name: partial(judge, table, _THRESHOLD) for name, judge in judges.items()}, repeats, fewer=fewer)
    last = {name: found[-1] for name, found in timings.results.items()}
    differences = {name: _largest_difference(values, last["ours"], _COMPARED) for name, values in last.items()}
    return _rows({"benchmark": "metrics", "data": data, "scores": len(table)}, timings, differences)


def _bootstrap_loop(table: ScoreTable) -> Callable[[int], Values]:
    """Replicates by gathering frames, in the draws of `replicate_values`; where they lie is found before."""
    videos = table.by_video()
    row_of = {name: row for row, name in enumerate(videos.video.tolist())}
    rows = np.array([row_of[name] for name in table.video.tolist()])
    frames = np.argsort(rows, kind="stable").reshape(len(videos), -1)

    def run(replicates: int) -> Values:
        draws = Draws(videos, "video", seed=0)
        counts = (row for block in draws.blocks(replicates) for row in block)
        found = [_replicate(table, videos.label, frames, np.repeat(np.arange(len(videos)), c)) for c in counts]
        return dict(zip(_BOOTSTRAPPED, np.array(found).T, strict=True))

    return run


def _replicate(
    table: ScoreTable, video_labels: np.ndarray, frames: np.ndarray, drawn: np.ndarray
) -> tuple[float, float, float]:
    """HTER, AUC and EER of the drawn videos (with repetition) by scikit-learn."""
    scores, labels = table.score[frames[drawn]].mean(axis=1), video_labels[drawn]
    far, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    best = np.argmin(np.abs(1 - tpr - far))
    false_accepts = np.mean(scores[labels == ATTACK] >= _THRESHOLD)
    false_rejects = np.mean(scores[labels == BONAFIDE] < _THRESHOLD)
    hter, eer = (false_accepts + false_rejects) / 2, (far[best] + 1 - tpr[best]) / 2
    return float(hter), float(roc_auc_score(labels, scores)), float(eer)


def _largest_difference(values: Values, ours: Values, names: tuple[str, ...]) -> float:
    return max(float(np.max(np.abs(np.asarray(values[name]) - np.asarray(ours[name])))) for name in names)


def _rows(common: dict[str, Any], timings: Timings, differences: dict[str, float]) -> list[dict[str, Any]]:
    medians = timings.medians
    return [
        {
            **common,
            "contender": name,
            "repeats": len(timings.seconds[name]),
            "seconds": median,
            "times_ours": median / medians["ours"],
            "largest_difference": differences[name],
            "equal": differences[name] <= _TOLERANCE,
        }
        for name, median in medians.items()
    ]

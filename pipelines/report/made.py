"""How every number was made, in words that stand beside the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.report.contents import Study, Trial
from pipelines.report.differences import Comparison

_SELECTIONS = {
    "last": "the last checkpoint, chosen by nothing",
    "source_dev": "the best on held-out videos of the source domains",
    "oracle": "the best on the test videos themselves",
}
_THRESHOLDS = {
    "source_dev_eer": "equal error rate on held-out videos of the source domains",
    "source_dev_min_acer": "lowest ACER, of the worst attack type, on held-out videos of the source domains",
    "source_dev_min_hter": "lowest HTER, all attacks pooled, on held-out videos of the source domains",
    "target_eer": "equal error rate on the test videos themselves, so that HTER is EER",
}


def how_made(study: Study, rule: str, comparison: Comparison | None = None) -> list[tuple[str, str]]:
    """Threshold and its origin, selection, videos, seeds and steps, for the reader beside the table."""
    selection, threshold = rule.split("/")
    trials = [trial for trial in study.trials if trial.result is not None]
    seeds = sorted({trial.planned.experiment.seed for trial in trials})
    steps = sorted({trial.planned.experiment.train.steps for trial in trials})
    chosen = f"of {_listed(steps)} steps, {_chosen(trials, rule)}"
    made = [
        ("Checkpoint", f"{selection}: {_SELECTIONS[selection]}; {chosen}"),
        ("Threshold", f"{threshold}: {_THRESHOLDS[threshold]}"),
        ("Its origin", "; ".join(f"{fold}: {text}" for fold, text in _origins(trials, rule))),
        ("Videos", "; ".join(_video_counts(study)) + ". The scores of a video's frames are averaged"),
        ("Seeds", f"{len(seeds)} ({_listed(seeds)}); ± is the standard deviation over seeds"),
        ("Intervals", _intervals(trials, rule, comparison)),
    ]
    return [(what, how) for what, how in made if how]


def how_paired(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """What a difference and its interval are."""
    value = (
        "HTER of the row minus HTER of the column in percentage points, each at its own threshold, averaged"
        " over the folds and over the seeds that both have; below 0 the row is better"
    )
    interval = (
        f"95 %, {comparison.replicates} bootstrap replicates over videos. Both detectors and all seeds see"
        " the same draws; the folds' videos are drawn independently; seeds are not drawn"
    )
    marks = "coloured where the interval does not hold 0; of many comparisons some do so by chance"
    return ("Value", value), ("Interval", interval), ("Marks", marks), ("Rules", comparison.study.honest)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _found(trials: Sequence[Trial], rule: str) -> list[tuple[str, dict[str, Any]]]:
    """(fold, numbers) of all that is judged."""
    return [(fold, numbers) for t in trials for fold in t.folds if (numbers := t.numbers(fold, rule)) is not None]


def _chosen(trials: Sequence[Trial], rule: str) -> str:
    steps = sorted({numbers["step"] for _, numbers in _found(trials, rule)})
    return f"judged at step {_listed(steps)}" if steps else "none judged yet"


def _origins(trials: Sequence[Trial], rule: str) -> list[tuple[str, str]]:
    origins: dict[str, str] = {}
    for fold, numbers in _found(trials, rule):
        origins.setdefault(fold, numbers["threshold_origin"])
    return list(origins.items())


def _video_counts(study: Study) -> list[str]:
    counts = []
    for fold in study.folds:
        videos = next((found for trial in study.trials if (found := trial.videos(fold))), None)
        if videos:
            counts.append(f"{fold}: {videos['bonafide']} live, {videos['attack']} attacks")
    return counts


def _intervals(trials: Sequence[Trial], rule: str, comparison: Comparison | None) -> str:
    if not any("intervals" in numbers for _, numbers in _found(trials, rule)):
        return ""
    replicates = sorted({trial.planned.experiment.evaluate.replicates for trial in trials})
    text = f"95 %, {_listed(replicates)} bootstrap replicates over videos"
    if len({trial.planned.experiment.seed for trial in trials}) > 1:
        text += "; with several seeds, the mean of their ends"
    if comparison is not None:
        text += f"; that of the mean HTER from {comparison.replicates} joint draws of all folds and seeds"
    return text

"""Percentile bootstrap intervals over videos or subjects (Efron and Tibshirani 1993, chapter 13).

Frames of a video are not independent, nor are videos of a person, so whole clusters are drawn with replacement. Scores
are sorted once: a replicate only changes how often each video counts, so its metrics follow from cumulative sums in
O(videos), without another sort.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.exact import LEVEL, Ends, Tallies, tally
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable, encode

BOOTSTRAP_METRICS = ("hter", "auc", "eer", "far", "apcer", "bpcer", "acer")
UNITS = ("video", "subject")


def intervals(
    table: ScoreTable,
    threshold: float,
    metrics: Sequence[str] = ("hter", "auc", "eer", "acer"),
    replicates: int = 1000,
    seed: int = 0,
    *,
    unit: str = "video",
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Intervals (low, high) of metrics at a fixed threshold; frames are averaged to videos first.

    Percentiles of the replicates, or exact where there are few videos or few errors (`exact`).

    Args:
        table: N scores.
        threshold: of the metrics at a fixed threshold.
        metrics: names of `BOOTSTRAP_METRICS`.
        replicates: draws.
        seed: of the draws.
        unit: what is drawn, `video` or `subject`.
        level: share of the replicates inside the interval.

    Raises:
        AgfasError: one class only, an unknown metric or unit.
    """
    values = replicate_values(table, threshold, metrics, replicates, seed, unit=unit)
    videos = table.by_video()
    at = {name: roc(videos.label, videos.score).eer()[1] if name == "eer" else threshold for name in metrics}
    found = {value: tally(videos, value, unit) for value in set(at.values())}
    return {name: checked(interval(values[name], level), found[at[name]], name, level) for name in metrics}


def checked(ends: Ends, tallies: Tallies, metric: str, level: float = LEVEL) -> Ends:
    """The ends of a bootstrap, or the exact ones where it says little: few videos, few errors, or no width."""
    return tallies.ends(metric, level) if tallies.few(metric) or ends[0] == ends[1] else ends


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The ends of the central `level` of the replicates' values (R,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def replicate_values(
    table: ScoreTable,
    threshold: float,
    metrics: Sequence[str],
    replicates: int = 1000,
    seed: int = 0,
    *,
    unit: str = "video",
) -> dict[str, np.ndarray]:
    """The metrics of every replicate, (R,) each; for the arguments see `intervals`.

    The draws depend on `seed` and on the names of the videos, not on scores, so two detectors scored on the same
    videos are drawn alike and their differences are paired. Draws are stratified: by video, over domain and attack
    type; by subject, over domain and whether the subject has bona fide videos, attacks or both.
    """
    for name in metrics:
        if name not in BOOTSTRAP_METRICS:
            raise AgfasError(f"No bootstrap interval for the metric '{name}': {nearest(name, BOOTSTRAP_METRICS)}")
    videos = table.by_video()
    videos.require_both_classes()
    draws = Draws(videos, unit, seed)
    ranking = _Ranking(videos, threshold)
    values = np.empty((len(metrics), replicates))
    for replicate in range(replicates):
        ranking.weigh(draws.counts())
        values[:, replicate] = [getattr(ranking, name)() for name in metrics]
    return dict(zip(metrics, values, strict=True))


class Draws:
    """How often each video is drawn in one replicate after another, from one seeded stream."""

    def __init__(self, videos: ScoreTable, unit: str, seed: int) -> None:
        if unit not in UNITS:
            raise AgfasError(f"Unknown bootstrap unit '{unit}': {nearest(unit, UNITS)}")
        domain, _ = encode(videos.domain)
        self.cluster: np.ndarray | None
        if unit == "video":
            self.cluster = None  # every row is its own cluster
            attack_type, _ = videos.attack_codes
            strata = _pair(domain, attack_type)
        else:
            subject, _ = encode(videos.subject)
            self.cluster = _pair(domain, subject)
            strata = _subject_strata(self.cluster, domain, videos.label)
        self.strata = [np.flatnonzero(strata == stratum) for stratum in range(strata.max() + 1)]
        digest = hashlib.sha256("\n".join(videos.key.tolist()).encode()).digest()
        self.generator = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])

    def counts(self) -> np.ndarray:
        """The next replicate: (N,) int64, how often each row of the table is drawn."""
        drawn = np.zeros(sum(map(len, self.strata)), dtype=np.int64)
        for members in self.strata:
            picks = self.generator.integers(0, len(members), len(members))
            drawn[members] = np.bincount(picks, minlength=len(members))
        return drawn if self.cluster is None else drawn[self.cluster]


class _Ranking:
    """Scores sorted once; every metric is a function of the rows' weights."""

    def __init__(self, videos: ScoreTable, threshold: float) -> None:
        order = np.argsort(videos.score, kind="stable")
        is_attack = videos.label[order] == ATTACK
        self.attack_rows, self.bonafide_rows = order[is_attack], order[~is_attack]
        attacks, bonafide = videos.score[self.attack_rows], videos.score[self.bonafide_rows]
        self.attack_type = videos.attack_codes[0][self.attack_rows]
        self.below = np.searchsorted(attacks, bonafide, "left")
        self.not_above = np.searchsorted(attacks, bonafide, "right")
        thresholds = np.unique(videos.score)
        self.attacks_at = np.append(np.searchsorted(attacks, thresholds), len(attacks)).tolist()
        self.bonafide_at = np.append(np.searchsorted(bonafide, thresholds), len(bonafide)).tolist()
        self.first_attack = int(np.searchsorted(attacks, threshold))
        self.first_bonafide = int(np.searchsorted(bonafide, threshold))
        self.rejected_attacks = np.zeros(len(attacks) + 1, dtype=np.int64)
        self.rejected_bonafide = np.zeros(len(bonafide) + 1, dtype=np.int64)

    def weigh(self, counts: np.ndarray) -> None:
        """Set the weights: row i counts `counts[i]` times; (N,) int64."""
        self.attack_weight, self.bonafide_weight = counts[self.attack_rows], counts[self.bonafide_rows]
        np.cumsum(self.attack_weight, out=self.rejected_attacks[1:])
        np.cumsum(self.bonafide_weight, out=self.rejected_bonafide[1:])
        self.attacks, self.bonafide = int(self.rejected_attacks[-1]), int(self.rejected_bonafide[-1])

    def auc(self) -> float:
        tied_or_below = self.rejected_attacks[self.below] + self.rejected_attacks[self.not_above]
        return int(np.dot(self.bonafide_weight, tied_or_below)) / (2 * self.attacks * self.bonafide)

    def eer(self) -> float:
        """By bisection: FRR - FAR rises monotonically with the threshold."""
        points = range(len(self.attacks_at))
        after = bisect_left(points, 0, key=self._gap)
        if after and -self._gap(after - 1) < self._gap(after):
            after -= 1
        return sum(self._rates(self.attacks_at[after], self.bonafide_at[after])) / 2

    def far(self) -> float:
        return self._rates(self.first_attack, self.first_bonafide)[0]

    def bpcer(self) -> float:
        return self._rates(self.first_attack, self.first_bonafide)[1]

    def hter(self) -> float:
        return (self.far() + self.bpcer()) / 2

    def apcer(self) -> float:
        """Of the worst attack type among those that were drawn."""
        total = np.bincount(self.attack_type, weights=self.attack_weight)
        accepted = np.bincount(
            self.attack_type[self.first_attack :],
            weights=self.attack_weight[self.first_attack :],
            minlength=len(total),
        )
        return float(np.max(accepted[total > 0] / total[total > 0]))

    def acer(self) -> float:
        return (self.apcer() + self.bpcer()) / 2

    def _rates(self, attack: int, bonafide: int) -> tuple[float, float]:
        far = (self.attacks - int(self.rejected_attacks[attack])) / self.attacks
        return far, int(self.rejected_bonafide[bonafide]) / self.bonafide

    def _gap(self, point: int) -> int:
        """(FRR - FAR) * attacks * bonafide at an operating point: an integer, so that its sign is exact."""
        accepted = self.attacks - int(self.rejected_attacks[self.attacks_at[point]])
        rejected = int(self.rejected_bonafide[self.bonafide_at[point]])
        return rejected * self.attacks - accepted * self.bonafide


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) the index of each row's pair of codes among the pairs that occur."""
    return np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1].reshape(-1)


def _subject_strata(cluster: np.ndarray, domain: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(subjects,) stratum by domain and by whether a subject has bona fide videos, attacks or both."""
    subjects = cluster.max() + 1
    has = [np.bincount(cluster, weights=label == value, minlength=subjects) > 0 for value in (ATTACK, BONAFIDE)]
    domain_of = np.zeros(subjects, dtype=np.int64)
    domain_of[cluster] = domain
    return _pair(domain_of, 2 * has[0].astype(np.int64) + has[1])

"""Percentile bootstrap intervals over videos or subjects (Efron and Tibshirani 1993, chapter 13).

Frames of a video are not independent, nor are videos of a person, so whole clusters are drawn with replacement. Scores
are sorted once: a replicate only changes how often each video counts, so its metrics follow from cumulative sums in
O(videos), without another sort, for many replicates at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.exact import LEVEL, Ends, Tallies, tally
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable, encode

BOOTSTRAP_METRICS = ("hter", "auc", "eer", "far", "apcer", "bpcer", "acer")
UNITS = ("video", "subject")
# Counts of videos that are in memory at a time, and kept for the next detector that is judged on the same videos; and
# those whose metrics are found at a time, which fit a core's cache.
_MOST_COUNTS, _KEPT, _CACHED = 2**21, 8, 2**17


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
    videos = table.by_video()
    values = replicate_values(videos, threshold, metrics, replicates, seed, unit=unit)
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
    ranking = _Ranking(videos, threshold)
    parts = []
    for counts in Draws(videos, unit, seed).blocks(replicates, ranking.order):
        for some in np.array_split(counts, -(-counts.size // _CACHED)):
            ranking.weigh(some)
            parts.append([getattr(ranking, name)() for name in metrics])
    return dict(zip(metrics, np.concatenate(parts, axis=1), strict=True))


class Draws:
    """How often each video is drawn in one replicate after another, from one seeded stream.

    Equal draws have an equal hash, whatever the videos' scores.
    """

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
        self._seeds = [seed, int.from_bytes(digest[:8], "big")]
        cluster = b"" if self.cluster is None else self.cluster.tobytes()
        self._decides = (digest, strata.tobytes(), cluster, seed)
        self._rows = len(videos)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Draws) and self._decides == other._decides

    def __hash__(self) -> int:
        return hash(self._decides)

    def blocks(self, replicates: int, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The replicates, some at a time: (R, N) int32, how often each row of the table is drawn.

        Args:
            replicates: in all.
            order: (N,), the rows of the table that columns stand for; default: as they come in the table.
        """
        at_a_time = max(1, _MOST_COUNTS // self._rows)
        if replicates <= at_a_time:
            counts = _only_block(self, replicates)
            yield counts if order is None else counts.take(order, axis=1)
            return
        order = np.arange(self._rows) if order is None else order
        generator = np.random.default_rng(self._seeds)
        sizes = [min(at_a_time, replicates - start) for start in range(0, replicates, at_a_time)]
        with ThreadPoolExecutor(1) as ahead:  # NumPy draws without Python's lock, beside the metrics of the last block
            drawn = ahead.submit(self._draw, generator, sizes[0])
            for size in (*sizes[1:], 0):
                picks, drawn = drawn.result(), ahead.submit(self._draw, generator, size)
                yield self._count(picks, order)

    def _draw(self, generator: np.random.Generator, replicates: int) -> np.ndarray:
        """(R, clusters) places in the strata, one after another."""
        ends = np.cumsum([len(stratum) for stratum in self.strata]).tolist()
        picks = np.empty((replicates, ends[-1]), dtype=np.int64)
        for row in picks:
            for start, end in pairwise([0, *ends]):
                row[start:end] = generator.integers(start, end, end - start)
        return picks

    def _count(self, picks: np.ndarray, order: np.ndarray) -> np.ndarray:
        """(R, N) int32, how often each row is drawn; `order` as in `blocks`."""
        members = np.concatenate(self.strata)
        if self.cluster is None:  # members are rows, which are counted at once where they are wanted
            column = np.empty_like(order)
            column[order] = np.arange(self._rows)
            members = column[members]
        counts = np.empty(picks.shape, dtype=np.int32)
        for row, places in zip(counts, picks, strict=True):
            row[:] = np.bincount(members[places], minlength=len(members))
        return counts if self.cluster is None else counts.take(self.cluster[order], axis=1)


@lru_cache(maxsize=_KEPT)
def _only_block(draws: Draws, replicates: int) -> np.ndarray:
    generator = np.random.default_rng(draws._seeds)
    counts = draws._count(draws._draw(generator, replicates), np.arange(draws._rows))
    counts.flags.writeable = False
    return counts


class _Ranking:
    """Scores sorted once; every metric is a function of the rows' weights, with one value per replicate, (R,)."""

    def __init__(self, videos: ScoreTable, threshold: float) -> None:
        by_score = np.argsort(videos.score, kind="stable")
        is_attack = videos.label[by_score] == ATTACK
        attack_rows, bonafide_rows = by_score[is_attack], by_score[~is_attack]
        self.order = np.concatenate([attack_rows, bonafide_rows])  # of the columns of the counts
        attacks, bonafide = videos.score[attack_rows], videos.score[bonafide_rows]
        self.attack_type = videos.attack_codes[0][attack_rows]
        self.below = np.searchsorted(attacks, bonafide, "left")
        self.not_above = np.searchsorted(attacks, bonafide, "right")
        thresholds = np.unique(videos.score)
        self.attacks_at = np.append(np.searchsorted(attacks, thresholds), len(attacks))
        self.bonafide_at = np.append(np.searchsorted(bonafide, thresholds), len(bonafide))
        self.first_attack = int(np.searchsorted(attacks, threshold))
        self.first_bonafide = int(np.searchsorted(bonafide, threshold))

    def weigh(self, counts: np.ndarray) -> None:
        """Set the weights: row `order[i]` counts `counts[r, i]` times in replicate r; (R, N) int32."""
        self.attack_weight, self.bonafide_weight = np.split(counts, [len(self.attack_type)], axis=1)
        self.rejected_attacks, self.rejected_bonafide = _before(self.attack_weight), _before(self.bonafide_weight)
        # Products of counts do not fit 32 bits.
        self.attacks, self.bonafide = (
            sums[:, -1].astype(np.int64) for sums in (self.rejected_attacks, self.rejected_bonafide)
        )

    def auc(self) -> np.ndarray:
        tied_or_below = self.rejected_attacks.take(self.below, axis=1)
        tied_or_below += self.rejected_attacks.take(self.not_above, axis=1)
        below = np.einsum("rn,rn->r", self.bonafide_weight, tied_or_below, dtype=np.int64)
        return below / (2 * self.attacks * self.bonafide)

    def eer(self) -> np.ndarray:
        """Where FRR - FAR, which rises with the threshold, is next to 0; of two, the one below if it is nearer."""
        before = np.full(len(self.attacks), -1)
        after = np.full_like(before, len(self.attacks_at) - 1)  # where nothing is accepted
        while (after - before > 1).any():
            middle = (before + after) // 2
            reached = self._gap(middle) >= 0
            before, after = np.where(reached, before, middle), np.where(reached, middle, after)
        before = np.maximum(before, 0)
        at = np.where(-self._gap(before) < self._gap(after), before, after)
        far, frr = self._rates(self.attacks_at[at], self.bonafide_at[at])
        return (far + frr) / 2

    def far(self) -> np.ndarray:
        return self._rates(self.first_attack, self.first_bonafide)[0]

    def bpcer(self) -> np.ndarray:
        return self._rates(self.first_attack, self.first_bonafide)[1]

    def hter(self) -> np.ndarray:
        return (self.far() + self.bpcer()) / 2

    def apcer(self) -> np.ndarray:
        """Of the worst attack type among those that were drawn."""
        worst = np.zeros(len(self.attack_weight))
        for kind in np.unique(self.attack_type):
            weight = self.attack_weight * (self.attack_type == kind)
            accepted, total = weight[:, self.first_attack :].sum(axis=1), weight.sum(axis=1)
            worst = np.maximum(worst, accepted / np.maximum(total, 1))
        return worst

    def acer(self) -> np.ndarray:
        return (self.apcer() + self.bpcer()) / 2

    def _rates(self, attack: np.ndarray | int, bonafide: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """FAR and FRR of each replicate at an operating point, or at one of its own."""
        rows = np.arange(len(self.attacks))
        far = (self.attacks - self.rejected_attacks[rows, attack]) / self.attacks
        return far, self.rejected_bonafide[rows, bonafide] / self.bonafide

    def _gap(self, at: np.ndarray) -> np.ndarray:
        """(R,), (FRR - FAR) * attacks * bonafide at an operating point each: integers, whose signs are exact."""
        rows = np.arange(len(at))
        accepted = self.attacks - self.rejected_attacks[rows, self.attacks_at[at]]
        return self.rejected_bonafide[rows, self.bonafide_at[at]] * self.attacks - accepted * self.bonafide


def _before(weights: np.ndarray) -> np.ndarray:
    """(R, n + 1), the sum of the weights (R, n) before each row, and of all."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int32)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


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

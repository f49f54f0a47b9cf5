"""Error rates of presentation attack detection, exact and tie-aware, from one sort of the scores.

A face is accepted as bona fide if `score >= threshold`. With that,

    FAR   = accepted attacks / attacks              FRR   = rejected bona fide / bona fide
    APCER = FAR of the worst attack type            BPCER = FRR         ACER = (APCER + BPCER) / 2
    HTER  = (FAR + FRR) / 2, all attacks pooled     EER   = HTER at the threshold where |FRR - FAR| is smallest
    AUC   = P(bona fide score > attack score) + P(equal) / 2, the Mann-Whitney statistic

APCER, BPCER and ACER are defined by ISO/IEC 30107-3; HTER, EER and AUC are what the field's tables report. All rates
are in [0, 1]. No threshold grid is needed: no decision changes between neighbouring scores, so the scores themselves
are all the thresholds there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable


@dataclass(frozen=True, eq=False)
class Roc:
    """All operating points of a set of scores, by rising threshold.

    Attributes:
        thresholds: (T,) the distinct scores, then the next double above the highest, which rejects everything.
        rejected_attacks: (T,) int64, attacks with a score below the threshold.
        rejected_bonafide: (T,) int64, bona fide faces with a score below the threshold.
        attacks: number of attacks.
        bonafide: number of bona fide faces.
    """

    thresholds: np.ndarray
    rejected_attacks: np.ndarray
    rejected_bonafide: np.ndarray
    attacks: int
    bonafide: int

    @property
    def fpr(self) -> np.ndarray:
        """(T,) FAR, from 1 falling to 0."""
        return (self.attacks - self.rejected_attacks) / self.attacks

    @property
    def tpr(self) -> np.ndarray:
        """(T,) 1 - FRR, from 1 falling to 0."""
        return (self.bonafide - self.rejected_bonafide) / self.bonafide

    def auc(self) -> float:
        """Area under the curve: Mann-Whitney's U / (attacks * bonafide), summed in integers, so free of rounding."""
        tied_or_below = self.rejected_attacks[:-1] + self.rejected_attacks[1:]
        return int(np.dot(np.diff(self.rejected_bonafide), tied_or_below)) / (2 * self.attacks * self.bonafide)

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """(FAR, FRR) at any threshold."""
        index = min(int(np.searchsorted(self.thresholds, threshold)), len(self.thresholds) - 1)
        return self._rates(index)

    def tpr_at_fpr(self, level: float) -> float:
        """The highest TPR of an operating point with FPR at most `level`."""
        enough = self.attacks - allowed(level, self.attacks)
        rejected = int(self.rejected_bonafide[np.searchsorted(self.rejected_attacks, enough)])
        return (self.bonafide - rejected) / self.bonafide

    def eer_index(self) -> int:
        """The last operating point that minimises |FRR - FAR|, compared in integers, so free of rounding."""
        accepted_attacks = self.attacks - self.rejected_attacks
        gap = np.abs(self.rejected_bonafide * self.attacks - accepted_attacks * self.bonafide)
        return len(gap) - 1 - int(np.argmin(gap[::-1]))

    def eer(self) -> tuple[float, float]:
        """The equal error rate and its threshold.

        The threshold minimises |FRR - FAR|; of several that do, the highest is taken, as the published code of SSDG
        and AG-FAS takes the last of its grid. The rate is (FAR + FRR) / 2 there, the HTER of the field's tables.
        """
        index = self.eer_index()
        return sum(self._rates(index)) / 2, float(self.thresholds[index])

    def _rates(self, index: int) -> tuple[float, float]:
        false_accepts = self.attacks - int(self.rejected_attacks[index])
        return false_accepts / self.attacks, int(self.rejected_bonafide[index]) / self.bonafide


@dataclass(frozen=True)
class Metrics:
    """All metrics of one score table at one threshold; rates in [0, 1].

    Attributes:
        threshold: the one at which hter, far, apcer, bpcer and acer are taken.
        hter, far: with all attack types pooled.
        apcer, worst_attack, apcer_per_type: APCER of the worst type, that type, and APCER by type.
        bpcer, acer: share of rejected bona fide faces; mean of apcer and bpcer.
        eer, eer_threshold, auc: over all thresholds of this table.
        bpcer_at_apcer_10, bpcer_at_apcer_05: lowest BPCER with APCER of every type at most 10 % and 5 %.
        tpr_at_fpr_01: highest share of accepted bona fide faces with at most 1 % of all attacks accepted.
        bonafide, attacks: number of rows.
    """

    threshold: float
    hter: float
    far: float
    apcer: float
    worst_attack: str
    apcer_per_type: dict[str, float]
    bpcer: float
    acer: float
    eer: float
    eer_threshold: float
    auc: float
    bpcer_at_apcer_10: float
    bpcer_at_apcer_05: float
    tpr_at_fpr_01: float
    bonafide: int
    attacks: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def roc(labels: np.ndarray, scores: np.ndarray) -> Roc:
    """The operating points of finite `scores` (N,) with `labels` (N,): 0 attack, 1 bona fide.

    Raises:
        AgfasError: unequal lengths, a score that is not finite, or only one class.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    _check(labels, scores)
    values, is_bonafide = _sort_with_labels(labels == BONAFIDE, scores)
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]])
    bonafide_before = np.concatenate([[0], np.cumsum(is_bonafide)])[starts]
    thresholds = np.append(values[starts[:-1]], np.nextafter(values[-1], np.inf))
    bonafide = int(bonafide_before[-1])
    return Roc(thresholds, starts - bonafide_before, bonafide_before, len(values) - bonafide, bonafide)


def report(table: ScoreTable, threshold: float) -> Metrics:
    """All metrics of a table at a threshold that was chosen on other data (see `thresholds.choose_threshold`).

    Raises:
        AgfasError: the table lacks a class, or the threshold is not finite.
    """
    if not np.isfinite(threshold):
        raise AgfasError(f"The threshold {threshold} is not a finite number. Choose it with choose_threshold.")
    curve = roc(table.label, table.score)
    equal_rate, equal_threshold = curve.eer()
    per_type = _apcer_per_type(table, threshold)
    worst = max(per_type, key=per_type.__getitem__)
    far, rejected = curve.rates_at(threshold)
    at_10, at_05 = bpcer_at_apcer(table, [0.10, 0.05])
    return Metrics(
        threshold=float(threshold),
        hter=(far + rejected) / 2,
        far=far,
        apcer=per_type[worst],
        worst_attack=worst,
        apcer_per_type=per_type,
        bpcer=rejected,
        acer=(per_type[worst] + rejected) / 2,
        eer=equal_rate,
        eer_threshold=equal_threshold,
        auc=curve.auc(),
        bpcer_at_apcer_10=at_10,
        bpcer_at_apcer_05=at_05,
        tpr_at_fpr_01=curve.tpr_at_fpr(0.01),
        bonafide=curve.bonafide,
        attacks=curve.attacks,
    )


def bpcer_at_apcer(table: ScoreTable, levels: Sequence[float]) -> list[float]:
    """For each level the lowest BPCER of a threshold that keeps the APCER of every attack type at or below the level.

    Raises:
        AgfasError: the table lacks a class.
    """
    table.require_both_classes()
    codes, names = table.attack_codes
    kinds = [table.score[codes == i] for i, name in enumerate(names) if name != NO_ATTACK]
    bounds = np.max([_highest_rejected(scores, levels) for scores in kinds], axis=0)
    bonafide = table.score[table.label == BONAFIDE]
    return [float(np.mean(bonafide <= bound)) for bound in bounds]


def _apcer_per_type(table: ScoreTable, threshold: float) -> dict[str, float]:
    """APCER of each attack type: the share of its presentations that are accepted."""
    codes, names = table.attack_codes
    accepted = np.bincount(codes, weights=table.score >= threshold)
    total = np.bincount(codes)
    return {name: float(accepted[i] / total[i]) for i, name in enumerate(names) if name != NO_ATTACK}


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise AgfasError(f"Labels {labels.shape} and scores {scores.shape} must be one-dimensional and equally long.")
    if not np.all(np.isfinite(scores)):
        raise AgfasError("A score is NaN or infinite, so scores cannot be ranked. The detector has diverged.")
    bonafide = np.count_nonzero(labels == BONAFIDE)
    if bonafide in (0, len(labels)):
        missing = "attack" if bonafide else "bona fide"
        raise AgfasError(f"None of the {len(labels)} scores is of class {missing}: EER and AUC need both classes.")


def _sort_with_labels(is_bonafide: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores in rising order and their labels.

    The bits of non-negative doubles, read as integers, have the order of their values, and the sign bit is unused:
    shifted out, it makes room for the label. So one sort of integers, which numpy vectorises, replaces an argsort.
    """
    scores = scores + 0.0  # -0.0 becomes 0.0
    if scores.min() < 0:
        order = np.argsort(scores)
        return scores[order], is_bonafide[order]
    packed = scores.view(np.uint64)
    packed <<= np.uint64(1)
    packed |= is_bonafide
    packed.sort()
    return (packed >> np.uint64(1)).view(np.float64), (packed & np.uint64(1)).astype(bool)


def _highest_rejected(scores: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """For each level the lowest bound with at most that share of `scores` above it; -inf if all may be above."""
    ranks = np.array([len(scores) - 1 - allowed(level, len(scores)) for level in levels])
    bounds = np.partition(scores, np.maximum(ranks, 0))[np.maximum(ranks, 0)]
    return np.where(ranks < 0, -np.inf, bounds)


def allowed(level: float, count: int) -> int:
    """How many of `count` presentations are at most the share `level`."""
    return min(int(np.floor(level * count + 1e-9)), count)  # 0.29 * 100 is 28.999999999999996

"""Error rates by demographic group: differential performance as ISO/IEC 19795-10 defines it.

A demographic factor (age, sex, ethnicity) divides the subjects into groups. Every group has an error rate with its
interval, and every factor the largest difference between two groups. The rate of a group of few subjects is too
uncertain to be compared: it is reported with its wide interval and left out of the difference.

Videos of one person are not independent, so intervals count subjects, not videos: Wilson's score interval of the error
rate with n = subjects, which is conservative if a person's videos differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable

SMALLEST = 30
"""Subjects of the smallest group that is compared."""
AGE_BANDS = ((0, 17), (18, 29), (30, 44), (45, 59), (60, 150))
MEASURES = {"BPCER": BONAFIDE, "APCER": ATTACK}
"""The label that a measure is an error rate of; APCER pools all attack types here."""
_PERMUTATIONS = 1000


@dataclass(frozen=True)
class GroupRate:
    """The error rate of one demographic group.

    Attributes:
        group: name.
        errors, videos, subjects: wrong decisions, videos, persons.
        rate, low, high: error rate and its 95 % interval.
        enough: whether the group has enough subjects to be compared.
    """

    group: str
    errors: int
    videos: int
    subjects: int
    rate: float
    low: float
    high: float
    enough: bool


@dataclass(frozen=True)
class Gap:
    """The largest difference in performance between two groups of a factor.

    Attributes:
        best, worst: names of the groups.
        gap, low, high: rate of the worst minus that of the best, and its 95 % interval (Newcombe's).
        ratio: worst over best; None if the best has no error.
        p: of a permutation test: share of random assignments of the subjects to groups of these sizes with a gap at
            least this large. The extremes of several groups always differ; only a small p says that the factor matters.
    """

    best: str
    worst: str
    gap: float
    low: float
    high: float
    ratio: float | None
    p: float


@dataclass(frozen=True)
class Differential:
    """One measure over the groups of one factor.

    Attributes:
        measure: BPCER or APCER.
        rates: of each group, sorted by name.
        gap: None if fewer than two groups have enough subjects.
        unknown: videos whose subject has no record of the factor.
    """

    measure: str
    rates: tuple[GroupRate, ...]
    gap: Gap | None
    unknown: int


def age_group(age: int) -> str:
    """The age band, such as `18-29`; empty for -1, an unrecorded age."""
    for low, high in AGE_BANDS:
        if low <= age <= high:
            return f"{low}+" if (low, high) == AGE_BANDS[-1] else f"{low}-{high}"
    return ""


def differentials(
    table: ScoreTable, threshold: float, groups: Sequence[str] | np.ndarray, smallest: int = SMALLEST, seed: int = 0
) -> tuple[Differential, ...]:
    """BPCER and APCER by group, each if the table has presentations of known groups for it.

    Args:
        table: N rows, one per video; a table of bona fide faces alone has BPCER alone.
        threshold: a video is accepted as bona fide if score >= threshold.
        groups: (N,) group of each row's subject, empty if unrecorded.
        smallest: groups of fewer subjects are not compared.
        seed: of the permutation test.

    Raises:
        AgfasError: `groups` is not of length N, or a subject is in two groups.
    """
    groups = np.asarray(groups)
    if groups.shape != (len(table),):
        raise AgfasError(f"{len(table)} videos need a group each, but {len(groups)} groups were given.")
    subjects = np.char.add(np.char.add(table.domain, "/"), table.subject)
    found = []
    for measure, label in MEASURES.items():
        chosen = table.label == label
        known = chosen & (groups != "")
        if known.any():
            accepted = table.score[known] >= threshold
            wrong = accepted if label == ATTACK else ~accepted
            unknown = int(np.sum(chosen & (groups == "")))
            found.append(_differential(measure, wrong, groups[known], subjects[known], unknown, smallest, seed))
    return tuple(found)


def wilson(errors: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of the proportion `errors` / `count`; within [0, 1], wide for a small count."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, shrink = errors / count, 1 + z**2 / count
    middle = (share + z**2 / (2 * count)) / shrink
    half = z / shrink * float(np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)))
    return max(0.0, middle - half), min(1.0, middle + half)


def _differential(
    measure: str, wrong: np.ndarray, groups: np.ndarray, subjects: np.ndarray, unknown: int, smallest: int, seed: int
) -> Differential:
    _, first, person = np.unique(subjects, return_index=True, return_inverse=True)
    names, of_row = np.unique(groups, return_inverse=True)
    of_person = of_row[first]
    _check_one_group(of_person[person] != of_row, subjects, groups)
    errors = np.bincount(person, weights=wrong)
    videos = np.bincount(person)
    rates = []
    for number, name in enumerate(names.tolist()):
        members = of_person == number
        rate = float(errors[members].sum() / videos[members].sum())
        count = int(members.sum())
        low, high = wilson(rate * count, count)
        rates.append(
            GroupRate(
                name, int(errors[members].sum()), int(videos[members].sum()), count, rate, low, high, count >= smallest
            )
        )
    compared = np.flatnonzero([rate.enough for rate in rates])
    gap = None
    if len(compared) > 1:
        inside = np.isin(of_person, compared)
        places = np.searchsorted(compared, of_person[inside])
        gap = _gap([rates[i] for i in compared], errors[inside], videos[inside], places, seed)
    return Differential(measure, tuple(rates), gap, unknown)


def _gap(rates: list[GroupRate], errors: np.ndarray, videos: np.ndarray, groups: np.ndarray, seed: int) -> Gap:
    best, worst = min(rates, key=lambda rate: rate.rate), max(rates, key=lambda rate: rate.rate)
    size = worst.rate - best.rate
    below = np.hypot(worst.rate - worst.low, best.high - best.rate)
    above = np.hypot(worst.high - worst.rate, best.rate - best.low)
    generator = np.random.default_rng(seed)
    as_large = 0
    for _ in range(_PERMUTATIONS):
        dealt = generator.permutation(groups)
        shares = np.bincount(dealt, weights=errors) / np.bincount(dealt, weights=videos)
        as_large += int(np.ptp(shares) >= size - 1e-12)
    return Gap(
        best=best.group,
        worst=worst.group,
        gap=size,
        low=max(0.0, size - float(below)),
        high=min(1.0, size + float(above)),
        ratio=worst.rate / best.rate if best.rate > 0 else None,
        p=(1 + as_large) / (1 + _PERMUTATIONS),
    )


def _check_one_group(crossing: np.ndarray, subjects: np.ndarray, groups: np.ndarray) -> None:
    wrong = np.flatnonzero(crossing)
    if len(wrong):
        who = subjects[wrong[0]]
        both = " and ".join(f"'{name}'" for name in sorted(set(groups[subjects == who].tolist())))
        raise AgfasError(
            f"Subject '{who}' is in the groups {both}. Correct the dataset's columns, or give each person its own"
            " subject."
        )

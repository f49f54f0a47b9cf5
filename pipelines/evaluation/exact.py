"""Intervals of error rates from few videos, where a bootstrap of the videos is too narrow or has no width at all.

A rate at a fixed threshold is a proportion of videos (ISO/IEC 30107-3: APCER, BPCER), so its interval is exact by
Clopper and Pearson (1934). Half of the sum of two rates lies between the means of their ends at the level's root, since
live and attack videos are other videos: at least as often as the level says, whatever the rates. The highest of several
rates is at most the highest upper end. Means over targets are combined by the square-and-add rule (Newcombe 1998; Zou
and Donner 2008): the distances to the ends add in quadrature. AUC is no proportion; its variance is at most that of one
over as many trials as the smaller class has videos (Birnbaum and Klose 1957).

They replace the bootstrap where a class has fewer than `FEWEST_VIDEOS` videos (the rule of 30 of Doddington et al.
2000), or a rate at a fixed threshold counts fewer than `FEWEST_ERRORS` videos, right or wrong. Videos count as
independent; those of one person are not, so by subject a rate counts as many trials as it has subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable, encode

FEWEST_VIDEOS, FEWEST_ERRORS = 30, 5
LEVEL = 0.95
Ends = tuple[float, float]


@dataclass(frozen=True)
class Tally:
    """How many videos of a class were misjudged.

    Attributes:
        errors: their number; over several seeds of training, the mean.
        count: videos; by subject, subjects.
    """

    errors: float
    count: int

    @property
    def rate(self) -> float:
        return self.errors / self.count

    @property
    def few(self) -> bool:
        """Whether a bootstrap of them says little."""
        return self.count < FEWEST_VIDEOS or min(self.errors, self.count - self.errors) < FEWEST_ERRORS

    def ends(self, level: float = LEVEL) -> Ends:
        """Clopper and Pearson's interval of the rate; also for a mean number of errors, which is no whole one."""
        from scipy.special import betaincinv  # scipy.stats takes a second to import, its special functions a tenth

        tail, right = (1 - level) / 2, self.count - self.errors
        low = float(betaincinv(self.errors, right + 1, tail)) if self.errors > 0 else 0.0
        high = float(betaincinv(self.errors + 1, right, 1 - tail)) if right > 0 else 1.0
        return low, high


@dataclass(frozen=True)
class Tallies:
    """The misjudged videos of one score table at one threshold.

    Attributes:
        live, attacks: of each class.
        types: of each attack type.
        auc: area under the curve.
    """

    live: Tally
    attacks: Tally
    types: Mapping[str, Tally]
    auc: float

    @property
    def videos(self) -> int:
        """Of the smaller class."""
        return min(self.live.count, self.attacks.count)

    def few(self, metric: str) -> bool:
        """Whether the interval of a metric is exact."""
        if metric == "auc":
            return self.videos < FEWEST_VIDEOS
        return any(tally.few for tally in self._of(metric))

    def value(self, metric: str) -> float:
        """A metric at the threshold."""
        worst = max((tally.rate for tally in self.types.values()), default=0.0)
        rates = {"bpcer": self.live.rate, "far": self.attacks.rate, "apcer": worst, "auc": self.auc}
        return (
            rates[metric] if metric in rates else (rates["apcer" if metric == "acer" else "far"] + self.live.rate) / 2
        )

    def ends(self, metric: str, level: float = LEVEL) -> Ends:
        """The exact interval of a metric; of an EER, as if its threshold had been fixed."""
        if metric == "auc":
            return Tally(self.auc * self.videos, self.videos).ends(level)
        if metric == "apcer":
            return _highest(list(self.types.values()), level)
        if metric in ("hter", "eer", "acer"):
            attacks = "apcer" if metric == "acer" else "far"
            (low, high), (lower, higher) = (self.ends(name, level**0.5) for name in (attacks, "bpcer"))
            return (low + lower) / 2, (high + higher) / 2
        return self._of(metric)[0].ends(level)

    def _of(self, metric: str) -> list[Tally]:
        """The proportions that a metric is made of."""
        attacks = list(self.types.values()) if metric in ("apcer", "acer") else [self.attacks]
        return {"bpcer": [self.live], "far": attacks, "apcer": attacks}.get(metric, [*attacks, self.live])


def tally(videos: ScoreTable, threshold: float, unit: str = "video") -> Tallies:
    """Count the misjudged videos of a table by video.

    Args:
        videos: one row per video, of both classes.
        threshold: a video is accepted as bona fide if score >= threshold.
        unit: `video`, or `subject`, which leaves the rates and counts subjects.
    """
    wrong = (videos.score >= threshold) == (videos.label == ATTACK)
    subjects, _ = encode(np.char.add(np.char.add(videos.domain, "/"), videos.subject))

    def of(rows: np.ndarray) -> Tally:
        count = int(rows.sum()) if unit == "video" else len(np.unique(subjects[rows]))
        return Tally(float(wrong[rows].mean()) * count, count)

    attacks = videos.label == ATTACK
    types = {str(kind): of(attacks & (videos.attack_type == kind)) for kind in np.unique(videos.attack_type[attacks])}
    curve = roc(videos.label, videos.score)
    return Tallies(of(videos.label == BONAFIDE), of(attacks), types, curve.auc())


def mean_tallies(found: Sequence[Tallies]) -> Tallies:
    """One detector trained from several seeds and tested on the same videos: the mean number of errors."""

    def mean(tallies: Sequence[Tally]) -> Tally:
        return replace(tallies[0], errors=float(np.mean([each.errors for each in tallies])))

    return Tallies(
        mean([each.live for each in found]),
        mean([each.attacks for each in found]),
        {kind: mean([each.types[kind] for each in found]) for kind in found[0].types},
        float(np.mean([each.auc for each in found])),
    )


def mean_ends(parts: Sequence[tuple[float, Ends]]) -> Ends:
    """The interval of the mean of independent values, each given with its own interval (square and add)."""
    values, lows, highs = np.array([(value, *ends) for value, ends in parts]).T
    below, above = np.sqrt(np.sum((values - lows) ** 2)), np.sqrt(np.sum((highs - values) ** 2))
    mean = values.mean()
    return max(0.0, float(mean - below / len(values))), min(1.0, float(mean + above / len(values)))


def difference_ends(first: tuple[float, Ends], second: tuple[float, Ends]) -> Ends:
    """The interval of `first` minus `second` as if they were independent, which two detectors on the same videos are
    not: wider than theirs where both find the same videos hard."""
    (one, (low, high)), (other, (lower, higher)) = first, second
    below, above = np.hypot(one - low, higher - other), np.hypot(high - one, other - lower)
    return float(one - other - below), float(one - other + above)


def _highest(tallies: Sequence[Tally], level: float) -> Ends:
    """The interval of the highest of several rates: any of the lower ends may be too high, so they share the error."""
    lows = [each.ends(1 - (1 - level) / len(tallies))[0] for each in tallies]
    return max(lows), max(each.ends(level)[1] for each in tallies)


def few_videos(counts: Mapping[str, tuple[int, int]]) -> str:
    """A warning where too few videos were tested for their error rates to be compared; empty if all have enough.

    Args:
        counts: live and attack videos by the name of the target; a name may be empty.
    """
    few = [
        f"{name} {number} {what}".strip()
        for name, pair in counts.items()
        for number, what in zip(pair, ("live", "attack"), strict=True)
        if number < FEWEST_VIDEOS
    ]
    if not few:
        return ""
    return (
        f"Few test videos: {', '.join(few)}. Below {FEWEST_VIDEOS} of a class, a single video changes its error rate by"
        " points: read the intervals, and rank no detectors by these numbers."
    )


HOW = (
    f"exact (Clopper-Pearson) where a class has fewer than {FEWEST_VIDEOS} videos or a rate"
    f" counts fewer than {FEWEST_ERRORS}"
)
"""How an interval is made if not by the bootstrap, for captions."""

"""What a generator's cue gains over a control, with intervals, and whether the gain grows with the generator.

A gain is positive where the cue helps: AUC of the row minus that of the control, HTER of the control minus that of the
row. Gains are paired by video: every draw of the bootstrap applies to all rows and seeds. In the interval of a gain the
seeds are fixed, as in every table of this project; in that of a trend they are drawn as well, all rows alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import checked, interval, replicate_values
from pipelines.evaluation.exact import FEWEST_VIDEOS, Ends, Tallies, difference_ends, mean_ends, mean_tallies, tally
from pipelines.report.contents import Group, Trial
from scripts.gain.rows import Mean

METRICS = ("auc", "hter")
REPLICATES = 1000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and its deviation over seeds, 0 with one seed."""

    value: float
    low: float
    high: float
    deviation: float = 0.0


def points(name: str, found: Estimate | None, digits: int = 1) -> dict[str, Any]:
    """An estimate in per cent or points, as four columns; empty ones without it."""
    columns = (name, f"{name}_low", f"{name}_high", f"{name}_sd")
    if found is None:
        return dict.fromkeys(columns, "")
    values = (found.value, found.low, found.high, found.deviation)
    return {column: round(100 * value, digits) for column, value in zip(columns, values, strict=True)}


@dataclass(frozen=True)
class Judged:
    """One row on one mean.

    Attributes:
        observed: (S,) a metric by seed.
        drawn: (S, R) the same in every replicate.
        parts: for each part of the mean its value over the seeds, with its interval.
        few: whether a part has too few videos for a bootstrap.
    """

    observed: np.ndarray
    drawn: np.ndarray
    parts: tuple[tuple[float, Ends], ...]
    few: bool

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds."""
        ends = mean_ends(self.parts) if self.few else interval(self.drawn.mean(axis=0))
        return _estimate(self.observed, ends)


@dataclass
class Gains:
    """The judged rows of one sweep on one mean, each computed once.

    Attributes:
        mean: what the numbers are averaged over.
        seeds: of every row.
    """

    mean: Mean
    seeds: tuple[int, ...]
    replicates: int = REPLICATES
    _known: dict[tuple[Group, str], Judged] = field(default_factory=dict, repr=False)

    def judged(self, group: Group, metric: str) -> Judged:
        """The metric of a row; the error rate at the threshold of the sources' held-out videos."""
        if (group, metric) not in self._known:
            for name, found in self._judge(group).items():
                self._known[group, name] = found
        return self._known[group, metric]

    def gain(self, group: Group, control: Group, metric: str) -> Estimate:
        """What a row gains over a control."""
        return gain_of(self.judged(group, metric), self.judged(control, metric), metric)

    def _judge(self, group: Group) -> dict[str, Judged]:
        trials = {trial.seed: trial for trial in group.trials if trial.finished}
        cells = [[self._cell(trials[seed], *part) for seed in self.seeds] for part in self.mean.parts]
        found = {}
        for metric in METRICS:
            tallies = [mean_tallies([one for one, _ in row]) for row in cells]
            observed = np.mean([[one.value(metric) for one, _ in row] for row in cells], axis=0)
            drawn = np.mean([[values[metric] for _, values in row] for row in cells], axis=0)
            means = [interval(np.mean([values[metric] for _, values in row], axis=0)) for row in cells]
            parts = [(one.value(metric), checked(ends, one, metric)) for one, ends in zip(tallies, means, strict=True)]
            few = any(one.videos < FEWEST_VIDEOS for one in tallies)
            found[metric] = Judged(observed, drawn, tuple(parts), few)
        return found

    def _cell(self, trial: Trial, fold: str, domain: str) -> tuple[Tallies, dict[str, np.ndarray]]:
        numbers = trial.numbers(fold, trial.honest, domain)
        table = trial.test_scores(fold, trial.honest, domain)
        if numbers is None or table is None:
            raise AgfasError(
                f"{trial.planned.title} has no scores of {domain or fold} any more. Run `agfas sweep` with the same"
                " configuration again."
            )
        drawn = replicate_values(table, numbers["threshold"], METRICS, self.replicates)
        return tally(table.by_video(), numbers["threshold"]), drawn


def gain_of(row: Judged, control: Judged, metric: str) -> Estimate:
    """The gain of a row over a control, from both as judged on the same videos with the same seeds."""
    sign = 1 if metric == "auc" else -1
    better, worse = (row, control) if sign > 0 else (control, row)
    ends = interval((better.drawn - worse.drawn).mean(axis=0))
    if row.few or ends[0] == ends[1]:
        ends = difference_ends(*((one.estimate.value, _ends(one)) for one in (better, worse)))
    return _estimate(better.observed - worse.observed, ends)


@dataclass(frozen=True)
class Trend:
    """How a metric moves with the generator; the control cancels, since it is the same for all of them.

    Attributes:
        slope: points per halving of the noise loss, positive where better generators gain more.
        best_minus_worst: the row with the least noise loss against that with the most.
        rising: share of the draws in which every better generator gains more.
        generators: how many.
    """

    slope: Estimate
    best_minus_worst: Estimate
    rising: float
    generators: int


def trend(losses: Sequence[float], rows: Sequence[Judged], metric: str, seed: int = 0) -> Trend:
    """The trend over generators with comparable noise losses.

    Args:
        losses: of at least two generators, not all equal.
        rows: their detectors.
        metric: of `METRICS`.
        seed: of the draws of seeds.

    Raises:
        AgfasError: there is no trend in fewer than two different losses.
    """
    halvings = -np.log2(np.asarray(losses, dtype=np.float64))
    if len(losses) < 2 or np.ptp(halvings) == 0:
        raise AgfasError(f"A trend needs generators of two different noise losses at least, not {list(losses)}.")
    centred = halvings - halvings.mean()
    weights = centred / (centred**2).sum()
    order = np.argsort(halvings, kind="stable")
    ends = np.zeros(len(losses))
    ends[order[-1]], ends[order[0]] = 1, -1
    sign = 1 if metric == "auc" else -1
    observed = sign * np.stack([row.observed for row in rows])
    drawn = sign * np.stack([_with_seeds(row.drawn, seed) for row in rows])
    exact = any(row.few for row in rows)
    slope, rise = (_combination(each, observed, drawn, rows if exact else (), sign) for each in (weights, ends))
    rising = float((np.diff(drawn[order], axis=0) > 0).all(axis=0).mean())
    return Trend(slope, rise, rising, len(losses))


def _combination(
    weights: np.ndarray, observed: np.ndarray, drawn: np.ndarray, exact: Sequence[Judged], sign: int
) -> Estimate:
    """A weighted sum of rows: (G,) weights, (G, S) observed, (G, R) drawn."""
    values = weights @ observed
    ends = interval(weights @ drawn)
    if exact:
        ends = sum_ends(sign * weights, [(one.estimate.value, _ends(one)) for one in exact])
    return _estimate(values, ends)


def sum_ends(weights: Sequence[float] | np.ndarray, parts: Sequence[tuple[float, Ends]]) -> Ends:
    """The interval of a weighted sum as if its parts were independent (square and add): wider than paired."""
    value = below = above = 0.0
    for weight, (one, (low, high)) in zip(weights, parts, strict=True):
        reach = (one - low, high - one) if weight >= 0 else (high - one, one - low)
        value += weight * one
        below += (weight * reach[0]) ** 2
        above += (weight * reach[1]) ** 2
    return float(value - below**0.5), float(value + above**0.5)


def _with_seeds(drawn: np.ndarray, seed: int) -> np.ndarray:
    """(S, R) -> (R,): means over S seeds drawn with replacement in every replicate, the same for all rows."""
    count, replicates = drawn.shape
    picks = np.random.default_rng(seed).integers(0, count, (count, replicates))
    return np.asarray(np.take_along_axis(drawn, picks, axis=0).mean(axis=0))


def _ends(row: Judged) -> Ends:
    return row.estimate.low, row.estimate.high


def _estimate(observed: np.ndarray, ends: Ends) -> Estimate:
    deviation = float(observed.std(ddof=1)) if len(observed) > 1 else 0.0
    return Estimate(float(observed.mean()), *ends, deviation)

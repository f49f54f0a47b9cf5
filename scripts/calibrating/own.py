"""The study of detectors of one's own on a real set with persons: what a head of face, cue or both is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.bootstrap import interval
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.crops import Loaded, load_parts
from pipelines.verdict.from_run import finished_experiments, open_planned
from pipelines.verdict.settings import Sees
from scripts.calibrating.drawn import KINDS
from scripts.calibrating.real import Table
from scripts.calibrating.seen import RUNS, Faces, Seen, find_faces, joined_sets, seen
from scripts.calibrating.trials import BOTH, DISTANCE, REPLICATES, SCORE, Means, auc, judge, percent

_RULES = {
    "as it was": "score, as it was",
    "threshold alone": "score, by person",
    "head": "head, by person",
}


@dataclass
class _Group:
    """All seeds of one detector.

    Attributes:
        means: over the calibrations on other persons.
        own: of each person, the AUC of each rule when the head is fitted to the person alone.
        seeds: how many.
    """

    means: Means = field(default_factory=Means.empty)
    own: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seeds: int = 0


def own_tables(runs: Sequence[Path], persons: Path, yunet: Path) -> list[Table]:
    """Every table, of the detectors of runs that have seen nothing of the set."""
    loaded = load_parts("yunet", yunet, None)
    groups: dict[tuple[str, str, Sees], _Group] = {}
    faces: Faces | None = None
    for run in runs:
        for planned in finished_experiments(read_plan(run), None):
            if Workspace(planned.experiment).is_control():
                continue
            detector = _opened(planned, loaded)
            faces = faces or find_faces(detector, persons)
            kinds = KINDS if detector.settings.cue is not None else KINDS[:1]
            for kind, each in seen(detector, *faces, sees=kinds).items():
                group = groups.setdefault((run.name, planned.label, kind), _Group())
                _calibrate(group, each, detector.settings.threshold.value)
    return [_unseen(groups), _one_person(groups)]


def _opened(planned: Planned, loaded: Loaded) -> FaceAntiSpoofing:
    return FaceAntiSpoofing(*open_planned(planned, None, loaded), batch_size=64)


def _calibrate(group: _Group, faces: Seen, own: float) -> None:
    group.seeds += 1
    for person in faces.persons:
        mine = faces.person == person
        test = faces.where(mine)
        group.means.add(test, judge(faces.where(~mine & faces.live).live_faces(), test, own))
        group.own.setdefault(person, []).append(_alone(test))


def _alone(test: Seen) -> dict[str, float]:
    """AUC of a person's faces by heads of four of five runs of their own live pictures, the fifth judged."""
    live, attacks = test.where(test.live), test.where(~test.live)
    run = np.arange(len(live.odds)) * RUNS // len(live.odds)
    found: dict[str, list[float]] = {}
    for each in range(RUNS):
        fit, judged_ = live.where(run != each), joined_sets(live.where(run == each), attacks)
        scores = judge(fit.live_faces(run[run != each].astype(str)), judged_).scores
        for name, values in scores.items():
            found.setdefault(name, []).append(auc(judged_.live, values))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _named(groups: dict[tuple[str, str, Sees], _Group]) -> Iterator[tuple[dict[str, Any], _Group]]:
    for (run, label, kind), group in groups.items():
        yield {"run": run, "detector": label, "seeds": group.seeds, "features": kind}, group


def _unseen(groups: dict[tuple[str, str, Sees], _Group]) -> Table:
    rows = []
    for row, group in _named(groups):
        for name in (SCORE, DISTANCE, BOTH):
            row[f"AUC {name}"] = percent(group.means.mean(f"auc {name}"))
        row["both - score"] = percent(_gain(group.means))
        for title, rule in _RULES.items():
            for rate in ("BPCER", "APCER"):
                row[f"{rate}: {title}"] = percent(group.means.mean(f"{rate.lower()} {rule}"))
        rows.append(row)
    words = (
        "Each person in turn is judged by head and threshold (for a BPCER of 5 %) of the live faces of all others."
        " Nothing of this set was in any training or choice of these detectors. In %, the mean of the persons, of each"
        " the mean of the seeds, with the 95 % interval of a bootstrap of persons. As it was: at the run's own"
        " threshold."
    )
    return Table("Persons unseen", words, rows)


def _one_person(groups: dict[tuple[str, str, Sees], _Group]) -> Table:
    rows = []
    for row, group in _named(groups):
        for name in (SCORE, DISTANCE, BOTH):
            values = {person: np.mean([each[name] for each in seeds]) for person, seeds in group.own.items()}
            row[f"AUC {name}"] = percent(_of_persons(np.array(list(values.values()))))
        rows.append(row)
    words = (
        "A head for one person: fitted to four of five runs of neighbouring live pictures of this person alone, judging"
        " the fifth and the attacks on this person. Neighbours are alike, so this is more than another day would give."
        " AUC in %, intervals as above."
    )
    return Table("One person", words, rows)


def _gain(means: Means) -> tuple[float, tuple[float, float]]:
    """AUC of both above that of the score, persons paired."""
    return _of_persons(
        np.array([np.mean(person[f"auc {BOTH}"]) - np.mean(person[f"auc {SCORE}"]) for person in means.of.values()])
    )


def _of_persons(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    draws = np.random.default_rng(0).integers(0, len(values), (REPLICATES, len(values)))
    return float(values.mean()), interval(values[draws].mean(axis=1))

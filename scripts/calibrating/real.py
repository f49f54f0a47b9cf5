"""The study on real sets: one with persons (NUAA), and one of a camera whose persons are not known (a webcam's)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from oanet.head import normalize_feature
from pipelines.markdown import table
from pipelines.verdict.calibration.fit import held_out_fits, quantile
from pipelines.verdict.calibration.head import Gaussian
from scripts.calibrating.seen import RUNS, Seen, joined_sets
from scripts.calibrating.trials import (
    BOTH,
    BPCER,
    DISTANCE,
    RULES,
    SCORE,
    Means,
    auc,
    judge,
    mean_auc,
    percent,
    some,
    subsets,
)

FACES, SEEDS = (20, 100, 300, None), 3
_DEVELOPMENT = 4
"""So many persons of a set, the first, choose between variants; the others report."""


@dataclass(frozen=True)
class Table:
    """One table: a title, what its columns mean, and rows by column."""

    title: str
    words: str
    rows: list[dict[str, Any]]

    def markdown(self) -> str:
        """The table with its heading."""
        header = list(self.rows[0])
        return f"## {self.title}\n\n{self.words}\n\n{table(header, [list(row.values()) for row in self.rows])}\n"


def real_tables(persons: Seen, other: Seen, own_threshold: float = 0.5) -> list[Table]:
    """Every table, of a set with persons and of another camera's."""
    return [
        choices(persons, other),
        how_many(persons, own_threshold),
        thresholds(persons, own_threshold),
        cameras(persons, other),
        sessions(persons),
    ]


VARIANTS: dict[str, dict[str, bool]] = {
    "chosen": {},
    "features scaled as the detectors' losses see them": {"scaled": True},
    "distance, not its logarithm": {"plain": True},
    "the score, not its log-odds": {"score": True},
    "deviations of the fitted faces": {"fitted": True},
    "one Gaussian of all": {"single": True},
    "half the weight of the distance": {"half": True},
}
"""The head, and what else was tried: one thing changed at a time."""


def choices(persons: Seen, other: Seen) -> Table:
    """Features, distance, score and deviations: chosen on the development persons and the other camera."""
    names = persons.persons
    sets = {
        "development": _rest(persons, names[:_DEVELOPMENT]),
        "webcam": _runs(other),
        "report": _rest(persons, names[_DEVELOPMENT:]),
    }
    rows = []
    for title, changed in VARIANTS.items():
        row: dict[str, Any] = {"head": title}
        for label, pairs in sets.items():
            values = np.mean([_variant(fit, test, **changed) for fit, test in pairs], axis=0)
            for name, value in zip(("distance", "both", "BPCER", "APCER"), values, strict=True):
                row[f"{label}: {name}"] = f"{value:.3f}" if name[0].islower() else f"{100 * value:.1f}"
        rows.append(row)
    alone = {label: mean_auc(auc(test.live, test.scores) for _, test in pairs) for label, pairs in sets.items()}
    words = (
        f"AUC by the distance and by both, and BPCER and APCER (%) at the threshold for 5 %, of faces that the head was"
        f" not fitted to, mean over all choices of two or three of four persons. Development:"
        f" {', '.join(names[:_DEVELOPMENT])}; report: {', '.join(names[_DEVELOPMENT:])}; of the webcam set four of five"
        f" runs of neighbouring pictures are in the fit. AUC of the score alone:"
        f" {', '.join(f'{value} ({label})' for label, value in alone.items())}. The head was chosen on development and"
        " webcam; the report's columns took no part in it."
    )
    return Table("Which head", words, rows)


def _rest(seen: Seen, part: Sequence[str]) -> list[tuple[Seen, Seen]]:
    """Live faces of two or three persons, and everything of the others."""
    inside = [np.isin(seen.person, fit) for size in (2, 3) for fit in subsets(part, size)]
    among = np.isin(seen.person, part)
    return [(seen.where(each & seen.live), seen.where(among & ~each)) for each in inside]


def _variant(
    calibration: Seen,
    test: Seen,
    scaled: bool = False,
    plain: bool = False,
    score: bool = False,
    fitted: bool = False,
    single: bool = False,
    half: bool = False,
) -> tuple[float, float, float, float]:
    """AUC by distance and by both, BPCER and APCER."""
    if scaled:
        calibration, test = _scaled(calibration), _scaled(test)
    groups = calibration.person if len(calibration.persons) > 1 else calibration.session
    faces = calibration.live_faces(groups)
    parts, held_out = held_out_fits(faces)
    gaussian = Gaussian.fit(faces.features) if single else Gaussian.mean_of(parts)
    measure = np.exp if plain else np.positive
    held_out, distances = measure(held_out), measure(gaussian.distances(test.features))
    of = measure(gaussian.distances(faces.features)) if fitted else held_out
    own, others = (faces.scores, test.scores) if score else (faces.odds, test.odds)

    def joined(values: np.ndarray, far: np.ndarray) -> np.ndarray:
        return (values - own.mean()) / own.std() - (far - of.mean()) / of.std() * (0.5 if half else 1)

    both = joined(others, distances)
    accepted = both >= quantile(joined(own, held_out), faces.weights, BPCER)
    rates = float((~accepted[test.live]).mean()), float(accepted[~test.live].mean())
    return auc(test.live, -distances), auc(test.live, both), *rates


def _scaled(seen: Seen) -> Seen:
    return seen.with_features(normalize_feature(torch.from_numpy(seen.features)).numpy())


def _runs(seen: Seen) -> list[tuple[Seen, Seen]]:
    """Of a set without persons: the live faces but a run of neighbours, and that run with all attacks."""
    live, attacks = seen.where(seen.live), seen.where(~seen.live)
    run = np.arange(len(live.odds)) * RUNS // len(live.odds)
    live = replace(live, session=run.astype(str))
    return [(live.where(run != each), joined_sets(live.where(run == each), attacks)) for each in range(RUNS)]


def how_many(seen: Seen, own: float) -> Table:
    """AUC by the number of persons and of faces."""
    rows = []
    for size, number in product(range(1, len(seen.persons)), FACES):
        means, faces = _calibrations(seen, size, number, own)
        rows.append(
            {
                "persons": size,
                "faces": "all" if number is None else number,
                "faces, mean": round(faces),
                **{f"AUC {name}": mean_auc(means.pooled[f"auc {name}"]) for name in (SCORE, DISTANCE, BOTH)},
                "per person: score": percent(means.mean(f"auc {SCORE}")),
                "per person: both": percent(means.mean(f"auc {BOTH}")),
                **{
                    f"{rate}: {title}": percent(means.mean(f"{rate.lower()} {rule}"))
                    for title, rule in (("threshold alone", "score, by person"), ("head", "head, by person"))
                    for rate in ("BPCER", "APCER")
                },
            }
        )
    words = (
        "Live faces of so many persons are in the fit, the other persons are judged: all choices of persons, or 20 of"
        " them; with fewer faces than all, 3 draws of each. AUC: of all faces that are judged, mean over the choices;"
        " per person, BPCER and APCER (threshold for 5 %): the mean of the persons in %, with the 95 % interval of a"
        " bootstrap of persons. One person alone is held out in five runs of neighbouring pictures."
    )
    return Table("How many persons and faces", words, rows)


def thresholds(seen: Seen, own: float) -> Table:
    """BPCER and APCER of each rule."""
    rows = []
    for size in range(1, len(seen.persons)):
        means, _ = _calibrations(seen, size, None, own)
        for rule in RULES:
            bpcer, apcer = (percent(means.mean(f"{rate} {rule}")) for rate in ("bpcer", "apcer"))
            rows.append({"persons": size, "threshold": rule, "BPCER": bpcer, "APCER": apcer})
    words = (
        "Each threshold is the quantile for a BPCER of 5 % of held-out scores: `score`, the detector's own (as it"
        " was: live from 0.5); `head`,"
        " both"
        " summed; pooled over faces, or every person counting alike. The control takes it of the faces that the head"
        " was fitted to. All faces of the persons; intervals as above."
    )
    return Table("Which threshold", words, rows)


def _calibrations(seen: Seen, size: int, number: int | None, own: float) -> tuple[Means, float]:
    means, counts = Means.empty(), []
    for seed in range(1 if number is None else SEEDS):
        for fit in subsets(seen.persons, size, seed):
            inside = np.isin(seen.person, fit)
            faces = some(seen.where(inside & seen.live), number, seed)
            test = seen.where(~inside)
            means.add(test, judge(faces.live_faces(), test, own))
            counts.append(len(faces.odds))
    return means, float(np.mean(counts))


def cameras(persons: Seen, other: Seen) -> Table:
    """Calibrated before one camera, judging before another."""
    live = persons.where(persons.live).live_faces()
    single = other.where(other.live).live_faces()
    rows = []
    for name, faces, test in (("NUAA", live, other), ("webcam", single, persons)):
        judged = judge(faces, test)
        before = {label: f"{auc(test.live, judged.scores[label]):.3f}" for label in (SCORE, DISTANCE, BOTH)}
        accepted = judged.scores[BOTH] >= judged.thresholds["head, by person"]
        rows.append(
            {
                "calibrated before": name,
                "judged before": "webcam" if name == "NUAA" else "NUAA",
                **{f"AUC {label}": value for label, value in before.items()},
                "BPCER": f"{100 * (~accepted[test.live]).mean():.1f}",
                "APCER": f"{100 * accepted[~test.live].mean():.1f}",
            }
        )
    words = "The head of one camera on the other's pictures: all live faces of the first, all pictures of the second."
    return Table("Another camera", words, rows)


def sessions(seen: Seen) -> Table:
    """A person's own pictures of one session, judged in another: alone, or with those of others."""
    rows = []
    for person in seen.persons:
        mine = seen.person == person
        known = sorted(set(seen.session[mine & seen.live].tolist()))
        for session in known if len(known) > 1 else []:
            out = mine & seen.live & (seen.session == session)
            test = seen.where(out | (mine & ~seen.live))
            row = {"person": person, "judged session": session, "score alone": f"{auc(test.live, test.scores):.3f}"}
            rest = mine & seen.live & ~out
            for label, inside in (
                ("others", ~mine & seen.live),
                ("own other session", rest),
                ("both", (~mine & seen.live) | rest),
            ):
                calibration = seen.where(inside).live_faces()
                row[f"head of {label}"] = f"{auc(test.live, judge(calibration, test).scores[BOTH]):.3f}"
            rows.append(row)
    words = (
        "AUC (both) on the live faces of one session of a person and attacks on that person; in the fit are"
        " the live faces of the other persons, those of the person's other session, or both."
    )
    return Table("A person's own pictures", words, rows)

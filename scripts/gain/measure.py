"""Measures one sweep: a row per generator and mean, and a trend per mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.artefacts.faces import open_faces
from pipelines.data.faces import Faces
from pipelines.data.protocols import protocol_folds
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import GeneratorSettings
from pipelines.processes import say
from pipelines.report.contents import Group
from scripts.gain.gains import METRICS, Estimate, Gains, Judged, points, trend
from scripts.gain.quality import Quality, autoencoder_errors, quality, separation
from scripts.gain.rows import Mean, Rows, experiment_of, finished_seeds, means_of, read_rows

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """The tables of one sweep, all values in the units of their columns' names.

    Attributes:
        generators: a row per generator.
        gains: a row per row of the sweep and mean.
        trends: a row per mean and metric, over the generators that share the first one's autoencoder.
    """

    generators: Table
    gains: Table
    trends: Table


def measure(experiment: Experiment, name: str, count: int, partial: bool = False) -> Found:
    """Measure the sweep of a configuration.

    Args:
        experiment: with a `sweep:` block.
        name: of the study, in the tables' first column.
        count: held-out live faces for each generator at most.
        partial: as of `read_rows`.
    """
    study, rows = read_rows(experiment, partial)
    faces = open_faces(experiment_of(rows.image))
    qualities = []
    for group in rows.cues:
        say(f"{group.name}: measured on live faces that it has not seen")
        qualities.append(quality(experiment_of(group), faces, count))
    means = [Gains(mean, rows.seeds) for mean in means_of(study, rows.image)]
    return Found(
        [_generator(name, group.name, one) for group, one in zip(rows.cues, qualities, strict=True)],
        [row for gains in means for row in _gains(name, rows, gains, qualities, faces)],
        [row for gains in means for row in _trends(name, rows, gains, qualities)],
    )


def _generator(name: str, label: str, found: Quality) -> dict[str, Any]:
    return {
        "study": name,
        "generator": label,
        "parameters": found.parameters,
        "steps": found.steps,
        "noise_loss": round(found.noise_loss, 4),
        "noise_loss_error": round(found.noise_error, 4),
        "restoration_grey_levels": round(found.restoration, 2),
        "faces": found.faces,
    }


def _gains(name: str, rows: Rows, gains: Gains, qualities: list[Quality], faces: Faces) -> Table:
    """Image only, every generator, and the controls, on one mean; rates and gains in points."""
    found = {group.name: one.errors for group, one in zip(rows.cues, qualities, strict=True)}
    for control in rows.own_errors:
        found[control.name] = autoencoder_errors(experiment_of(control), faces)
    table = []
    for group in rows.groups:
        if not finished_seeds(group).issuperset(gains.seeds):
            continue
        beside = _control(rows, group, gains.seeds)
        line: dict[str, Any] = {"study": name, "on": gains.mean.name, "row": group.name, "seeds": len(gains.seeds)}
        errors = found.get(group.name)
        line["auc_of_the_error_alone"] = (
            "" if errors is None else _alone(experiment_of(group), errors, faces, gains.mean)
        )
        for metric in METRICS:
            line |= points(metric, gains.judged(group, metric).estimate)
            line |= points(f"{metric}_gain_over_image", _over(gains, group, rows.image, metric))
            line |= points(f"{metric}_gain_over_autoencoder", _over(gains, group, beside, metric))
        table.append(line)
    return table


def _control(rows: Rows, group: Group, seeds: tuple[int, ...]) -> Group | None:
    """The autoencoder's error in place of a row's cue, if it has finished the seeds."""
    control = rows.autoencoders.get(group)
    return control if control and finished_seeds(control).issuperset(seeds) else None


def _over(gains: Gains, group: Group, control: Group | None, metric: str) -> Estimate | None:
    return None if control is None or control is group else gains.gain(group, control, metric)


def _alone(experiment: Experiment, errors: np.ndarray, faces: Faces, mean: Mean) -> float:
    """In per cent: the AUC of the error without a detector, the mean over the test domains."""
    folds = {fold.name: fold for fold in protocol_folds(experiment.protocol, faces.columns())}
    domains = [domain for name, one in mean.parts for domain in ((one,) if one else folds[name].test_domains)]
    return round(100 * float(np.mean([separation(errors, faces, domain) for domain in domains])), 1)


def _trends(name: str, rows: Rows, gains: Gains, qualities: list[Quality]) -> Table:
    chosen = comparable(rows)
    table = []
    for metric in METRICS:
        judged: list[Judged] = [gains.judged(rows.cues[place], metric) for place in chosen]
        found = trend([qualities[place].noise_loss for place in chosen], judged, metric)
        line: dict[str, Any] = {"study": name, "on": gains.mean.name, "metric": metric, "generators": found.generators}
        line |= {"seeds": len(gains.seeds)}
        line |= points("points_per_halving_of_the_noise_loss", found.slope)
        line |= points("best_minus_worst", found.best_minus_worst)
        table.append({**line, "share_of_draws_that_rise": round(found.rising, 3)})
    return table


def comparable(rows: Rows) -> list[int]:
    """The places of the generators whose autoencoder is the first one's: their noise losses are on one scale."""
    settings = [experiment_of(group).generator for group in rows.cues]
    first = settings[0]
    assert isinstance(first, GeneratorSettings)  # a cue of a baseline is no generator's
    return [
        place
        for place, one in enumerate(settings)
        if isinstance(one, GeneratorSettings) and one.autoencoder == first.autoencoder
    ]

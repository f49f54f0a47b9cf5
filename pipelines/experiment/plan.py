"""The experiments of an output folder, by label."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oanet.names import takes_cue
from pipelines.claims import in_turn
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment, Variant
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.profile import remember_profile
from pipelines.files import read_json, write_json

PLAN_NAME = "plan.json"


@dataclass(frozen=True)
class Planned:
    """One experiment of a plan.

    Attributes:
        label: the variant's name; experiments of one label differ in the axes alone.
        axes: the values of the sweep's axes, for example {"seed": 1}.
        experiment: the whole configuration.
    """

    label: str
    axes: dict[str, Any]
    experiment: Experiment

    @property
    def title(self) -> str:
        """Label and axes in one line."""
        values = ", ".join(f"{key}={value}" for key, value in self.axes.items())
        return f"{self.label} ({values})" if values else self.label


def expand(experiment: Experiment) -> list[Planned]:
    """The experiments of a `sweep:` block in the order of its variants, or the single one without a block."""
    if experiment.sweep is None:
        return [Planned(_default_label(experiment), {}, experiment)]
    base = experiment.model_copy(update={"sweep": None})
    _check_labels(experiment.sweep.variants)
    planned = []
    for variant in experiment.sweep.variants:
        for values in itertools.product(*experiment.sweep.axes.values()):
            axes = dict(zip(experiment.sweep.axes, values, strict=True))
            changed = with_overrides(base, {"output": str(experiment.root), **variant.set, **axes})
            planned.append(Planned(variant.label, axes, changed))
    return planned


def record(root: Path, planned: list[Planned]) -> None:
    """Add experiments to `plan.json`; those of other commands stay, also of one that adds its own at this moment."""
    for item in planned[:1]:  # before any other file: another process that starts later must find it
        remember_profile(item.experiment)
    path = root / PLAN_NAME
    with in_turn(root / ".plan.lock"):
        known = read_json(path, experiments=list)["experiments"] if path.is_file() else []
        entries = {item["title"]: item for item in known}
        for item in planned:
            entries[item.title] = {
                "title": item.title,
                "label": item.label,
                "axes": item.axes,
                "experiment": item.experiment.model_dump(mode="json"),
            }
        write_json(path, {"experiments": list(entries.values())})


def read_plan(root: Path) -> list[Planned]:
    """The experiments that `plan.json` of an output folder names, as if configured with `output: ROOT`.

    Raises:
        AgfasError: there is no plan.
    """
    path = root / PLAN_NAME
    if not path.is_file():
        raise AgfasError(
            f"{root} holds no {PLAN_NAME}, so it is not the output folder of a quickstart, a sweep or a training."
            " Give the folder of `--output`, or runs/NAME."
        )
    planned = []
    for item in read_json(path, experiments=list)["experiments"]:
        try:
            label, axes, content = str(item["label"]), dict(item["axes"]), {**item["experiment"], "output": str(root)}
        except (KeyError, TypeError, ValueError):
            raise AgfasError(f"{path} does not list experiments. Remove it and run the command again.") from None
        planned.append(Planned(label, axes, build_experiment(content, str(path))))
    return planned


def _default_label(experiment: Experiment) -> str:
    if not takes_cue(experiment.detector.name, experiment.detector.options()):
        return experiment.detector.name + (" as published" if experiment.train.steps == 0 else "")
    cue = experiment.cue
    noised = cue.is_restored and cue.timestep_by(experiment.generator.name)
    level = f" t={cue.timestep}" if noised else ""
    return f"{experiment.detector.name} {cue.source}{level} {cue.form}"


def _check_labels(variants: list[Variant]) -> None:
    labels = [variant.label for variant in variants]
    double = sorted({label for label in labels if labels.count(label) > 1})
    if double:
        raise AgfasError(f"Two variants of the sweep have the label {', '.join(double)}; give each its own.")

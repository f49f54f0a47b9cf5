"""Which rows of a finished sweep are which, and over what they are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import GeneratorSettings
from pipelines.experiment.plan import expand
from pipelines.report.contents import Group, Study
from pipelines.report.gather import read_results


@dataclass(frozen=True)
class Mean:
    """What a gain is measured on.

    Attributes:
        name: for tables.
        parts: (fold, domain) over which it is averaged; the domain is empty where the fold tests one alone.
    """

    name: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rows:
    """The rows of one sweep.

    Attributes:
        image: the detector without a cue.
        cues: those that differ in the generator alone, in the order of the configuration.
        autoencoders: of each of `cues`, and of each of `others` that has one, the control with the same autoencoder,
            detector and settings of the cue.
        others: further controls, and rows with another detector or other settings of the cue.
        seeds: that all of them have finished.
    """

    image: Group
    cues: tuple[Group, ...]
    autoencoders: dict[Group, Group]
    others: tuple[Group, ...]
    seeds: tuple[int, ...]

    @property
    def groups(self) -> list[Group]:
        """All, each once."""
        return list(dict.fromkeys((self.image, *self.cues, *self.own_errors, *self.others)))

    @property
    def own_errors(self) -> list[Group]:
        """The controls of `cues`, each once."""
        return list(dict.fromkeys(self.autoencoders[group] for group in self.cues))


def experiment_of(group: Group) -> Experiment:
    """That of its first seed."""
    return group.trials[0].planned.experiment


def finished_seeds(group: Group) -> set[int]:
    """The seeds of a row whose experiments are finished."""
    return {trial.seed for trial in group.trials if trial.finished}


def read_study(experiment: Experiment) -> Study:
    """What a sweep's output folder holds.

    Raises:
        AgfasError: its rows cannot be compared with each other.
    """
    studies = read_results(expand(experiment))
    if len(studies) != 1:
        raise AgfasError(f"The sweep's rows are {len(studies)} studies of other faces, protocols or rules, not one.")
    return studies[0]


def read_rows(experiment: Experiment, partial: bool = False) -> tuple[Study, Rows]:
    """The rows of a sweep's configuration, as far as they are finished.

    Args:
        experiment: with a `sweep:` block; its output folder holds the results.
        partial: accept a sweep of which rows or seeds are missing, and take what all rows that are begun have.

    Raises:
        AgfasError: something is unfinished, or there is no row without a cue, no control or too few generators.
    """
    if experiment.sweep is None:
        raise AgfasError("A gain needs a sweep: rows without a cue, with generators' cues and with a control's.")
    study = read_study(experiment)
    missing = [trial.planned.title for trial in study.trials if not trial.finished]
    if missing and not partial:
        raise AgfasError(
            f"{len(missing)} of {len(study.trials)} experiments in {experiment.root} are unfinished, the first being"
            f" {missing[0]}. Run `agfas sweep` with the same configuration and overrides, or give --partial to measure"
            " the rows and seeds that are there."
        )
    return study, _sorted([group for group in study.groups if group.finished], experiment)


def _sorted(groups: Sequence[Group], experiment: Experiment) -> Rows:
    plain = [group for group in groups if not group.takes_cue]
    controls = [group for group in groups if group.is_control]
    cues = [
        group
        for group in groups
        if group.takes_cue and not group.is_control and _same_use(experiment_of(group), experiment)
    ]
    if not plain or len(cues) < 2:
        raise AgfasError(
            f"{experiment.root} has {len(plain)} finished rows without a cue and {len(cues)} with a generator's; a gain"
            " against the generator's quality needs at least one and two. Run `agfas sweep` with the configuration."
        )
    own = {group: control for group in groups if (control := _autoencoder(group, controls))}
    for group in cues:
        if group not in own:
            raise AgfasError(
                f"The row '{group.name}' has no finished control with the cue source autoencoder and the same"
                " generator.autoencoder. Add one to the sweep, or run `agfas sweep` to its end."
            )
    kept = [plain[0], *cues, *(own[group] for group in cues)]
    others = [group for group in groups if group not in kept]
    seeds = set.intersection(*map(finished_seeds, kept))
    if not seeds:
        raise AgfasError("The finished rows have no seed in common. Run `agfas sweep` again: it makes what is missing.")
    return Rows(plain[0], tuple(cues), own, tuple(others), tuple(sorted(seeds)))


def _same_use(one: Experiment, other: Experiment) -> bool:
    """Whether two experiments take their cues, wherever these come from, in the same way."""
    if one.detector != other.detector:
        return False
    return one.cue == other.cue.model_copy(update={"source": one.cue.source})


def _autoencoder(group: Group, controls: Sequence[Group]) -> Group | None:
    """The control whose autoencoder is the row's; none of a row without a cue, of a control, or where there is none."""
    wanted = experiment_of(group)
    if not group.takes_cue or group.is_control or not isinstance(wanted.generator, GeneratorSettings):
        return None
    for control in controls:
        found = experiment_of(control)
        if found.cue.source != "autoencoder" or not isinstance(found.generator, GeneratorSettings):
            continue
        if found.generator.autoencoder == wanted.generator.autoencoder and _same_use(found, wanted):
            return control
    return None


def means_of(study: Study, group: Group) -> list[Mean]:
    """One mean over all folds of a protocol with several; of a single fold, each domain by itself."""
    trial = next(trial for trial in group.trials if trial.finished)
    if len(trial.folds) > 1:
        return [Mean(f"mean of {len(trial.folds)} domains", tuple((fold, "") for fold in trial.folds))]
    fold = trial.folds[0]
    domains = (trial.result or {})["folds"][fold].get("domains", {})
    judged = [name for name, found in domains.items() if "rules" in found]
    return [Mean(name, ((fold, name),)) for name in judged] or [Mean(fold, ((fold, ""),))]

"""The models that an experiment trains, with their first weights, as their settings build them."""

from __future__ import annotations

from typing import Any

from dfg.baselines import build_baseline
from dfg.baselines.anoddpm import AnoDdpmObjective
from dfg.baselines.deep_svdd import DeepSvddObjective
from dfg.baselines.memae import MemAEObjective
from dfg.baselines.one_call import OneCallObjective
from oanet.detectors import Detector
from oanet.detectors import build_detector as build_by_name
from oanet.names import CUE_CHANNELS, DETECTORS
from oanet.objectives import Objective, build_objective
from oanet.published import CROP
from pipelines.errors import AgfasError, in_short
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import BaselineSettings, DeepSvddSettings, MemaeSettings, OneCallSettings
from pipelines.experiment.workspace import Workspace


def build_detector(experiment: Experiment) -> Detector:
    """The detector of an experiment, for the form of its cue.

    Raises:
        AgfasError: wrong options, or weights that cannot be read.
    """
    try:
        options = experiment.detector.options()
        if experiment.train.steps and "sees" in DETECTORS.options(experiment.detector.name):
            options.setdefault("sees", CROP)  # published weights that are trained further learn the crops
        if Workspace(experiment).needs_cue():
            options["cue_channels"] = CUE_CHANNELS[experiment.cue.form]
        detector = build_by_name(experiment.detector.name, seed=experiment.seed, **options)
        if detector.feature_dim < 1:
            raise ValueError("its options leave it no feature to decide by, so that every face would score alike.")
        return detector
    except (OSError, ValueError, TypeError) as error:
        raise AgfasError(f"The detector cannot be built: {error}") from error
    except Exception as error:  # whatever a network raises for numbers that no layer has
        raise AgfasError(f"The detector cannot be built with its options: {in_short(error)}.") from error


def build_training(experiment: Experiment, num_domains: int) -> Objective:
    """The detector with the objective that trains it.

    Raises:
        AgfasError: wrong options.
    """
    detector, objective = build_detector(experiment), experiment.objective
    try:
        return build_objective(objective.name, detector, num_domains, seed=experiment.seed, **objective.options())
    except (ValueError, TypeError) as error:
        raise AgfasError(f"The objective cannot be built: {error}") from error
    except Exception as error:
        raise AgfasError(f"The objective cannot be built with its options: {in_short(error)}.") from error


def build_baseline_training(settings: BaselineSettings, image_size: int) -> Any:
    """A baseline with the objective that trains it; that of a student lacks its teacher.

    Raises:
        AgfasError: invalid options, or a size of faces that it cannot take.
    """
    try:
        model = build_baseline(settings.name, settings.preset, image_size, **settings.options)
    except (ValueError, TypeError) as error:
        raise AgfasError(f"generator.name = {settings.name} cannot be built: {error}") from error
    except Exception as error:
        raise AgfasError(f"generator.name = {settings.name} cannot be built: {in_short(error)}.") from error
    if isinstance(settings, MemaeSettings):
        return MemAEObjective(model, settings.entropy_weight)
    if isinstance(settings, DeepSvddSettings):
        return DeepSvddObjective(model, settings.compactness_weight)
    if isinstance(settings, OneCallSettings):
        return OneCallObjective(model)
    return AnoDdpmObjective(model)

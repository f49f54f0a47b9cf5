"""Objectives by name: one paper, one file.

A new one is a file with a class derived from `Objective`, and its lines in `oanet.names`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from oanet.detectors.base import Detector
from oanet.names import OBJECTIVE_CLASSES, OBJECTIVES, check_name, check_objective
from oanet.objectives.base import Objective

__all__ = ["OBJECTIVES", "Objective", "build_objective", "objective_class"]


def objective_class(name: str) -> type[Objective]:
    """The class of an objective. Raises ValueError for an unknown name, with the allowed ones."""
    check_name("objective", name, OBJECTIVES)
    module, class_name = OBJECTIVE_CLASSES[name].split(":")
    return getattr(import_module(module), class_name)


def build_objective(name: str, detector: Detector, num_domains: int, *, seed: int = 0, **options: Any) -> Objective:
    """An objective that owns `detector`, with fresh heads.

    Args:
        name: one of `OBJECTIVES`.
        detector: what is trained.
        num_domains: how many training domains there are; `FaceBatch.domain` lies in [0, num_domains).
        seed: decides the random weights of the heads; torch's global stream is left as it was.
        **options: the objective's own, such as `lambda_triplet`.

    Raises:
        ValueError: for an unknown name or option, with what is allowed and the nearest; for a detector that lacks
            what the objective needs, or has a map that the objective would never train.
    """
    check_objective(name, options)
    if num_domains < 1:
        raise ValueError(f"num_domains = {num_domains}; training needs at least one domain.")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        objective = objective_class(name)(detector, num_domains, **options)
    _check_maps(name, objective)
    return objective


def _check_maps(name: str, objective: Objective) -> None:
    """A map that no loss looks at has a head that never learns."""
    detector = objective.detector
    for untrained in detector.map_names:
        if untrained not in objective.trained_maps and untrained != detector.score_map:
            raise ValueError(
                f"The detector {detector.name!r} predicts the map {untrained!r}, which the objective {name!r} does not"
                f" train. Leave it out of the detector's maps, or use the objective 'auxiliary' with"
                f" lambda_{untrained} above 0."
            )

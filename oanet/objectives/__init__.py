"""Objectives by name: built in, by `module:Class`, or of the entry points `agfas.objectives`; see `oanet.names`."""

from __future__ import annotations

from typing import Any

import torch

from oanet.detectors.base import Detector
from oanet.names import OBJECTIVES
from oanet.objectives.base import Objective

__all__ = ["OBJECTIVES", "Objective", "build_objective"]


def build_objective(name: str, detector: Detector, num_domains: int, *, seed: int = 0, **options: Any) -> Objective:
    """A new objective that owns `detector`.

    Args:
        name: one of `OBJECTIVES`, or `module:Class`.
        detector: the detector to train.
        num_domains: number of training domains; `FaceBatch.domain` is in [0, num_domains), or -1.
        seed: seed of the heads' random weights; torch's global random stream is left unchanged.
        **options: of the objective, such as `lambda_triplet`.

    Raises:
        ValueError: unknown name or option; or a detector that lacks what the objective needs, or predicts a map that
            the objective does not train.
    """
    OBJECTIVES.check(name, options)
    if num_domains < 1:
        raise ValueError(f"num_domains = {num_domains}; training needs at least one domain.")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        objective = OBJECTIVES.load(name, Objective)(detector, num_domains, **options)
    for predicted in detector.map_names:
        if predicted not in objective.trained_maps and predicted != detector.score_map:
            raise ValueError(
                f"The detector {detector.name!r} predicts the map {predicted!r}, which the objective {name!r} does not"
                f" train. Remove it from the detector's maps, or use the objective 'auxiliary' with"
                f" lambda_{predicted} above 0."
            )
    return objective

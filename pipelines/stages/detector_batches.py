"""Training batches of a detector: the protocol's faces, extra live faces, target maps; and the watched dev loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from oanet.detectors import Detector
from oanet.objectives import Objective
from oanet.patches import PatchDetector
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces, open_faces
from pipelines.data.protocol_settings import CORPUS
from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.evaluation.scoring import answers
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.processes import rank_and_world, spread
from pipelines.training.balanced import BalancedBatches, ExtraLive
from pipelines.training.fas_aug import FasAug
from pipelines.training.maps import TargetMaps, target_maps
from pipelines.training.parallel import shares
from pipelines.training.pda import Pda
from pipelines.training.watch import DevWatch


def count_domains(experiment: Experiment, fold: Fold) -> int:
    """Number of domain labels in training: those of the fold, and perhaps one of the extra live faces."""
    extra = experiment.train.extra_live
    return len(fold.train_domains) + (extra is not None and extra.domain == "own")


def check_shares(experiment: Experiment, fold: Fold) -> None:
    """Refuse a batch that leaves a process without a face.

    Raises:
        AgfasError: says how many faces or processes would do.
    """
    settings = experiment.train
    if settings.steps:
        size = 2 * len(fold.train_domains) * settings.per_cell
        what = f"2 labels x {len(fold.train_domains)} domains x train.per_cell"
        shares(size, settings.gradient_accumulation, rank_and_world()[1], what)


def check_extra_live(experiment: Experiment, objective: Objective) -> None:
    """Refuse extra live faces that the detector or the objective cannot use.

    Raises:
        AgfasError: says what to change.
    """
    extra = experiment.train.extra_live
    if extra is None:
        return
    if Workspace(experiment).needs_cue():
        raise AgfasError(
            f"train.extra_live: the detector '{experiment.detector.name}' takes a cue, and extra faces have none: cues"
            " are made for the protocol's domains. Use a detector of the picture alone, such as image_only."
        )
    if extra.domain == "own" and objective.needs_both_labels:
        raise AgfasError(
            f"train.extra_live: the objective '{experiment.objective.name}' learns a classifier for every domain, and a"
            " domain of live faces alone has nothing to classify. Set train.extra_live.domain = none."
        )


def check_augment(experiment: Experiment, objective: Objective) -> None:
    """Refuse changes of faces that the cue, the objective, extra live faces or the detector's patches do not allow.

    Raises:
        AgfasError: says what to change.
    """
    _check_fas_aug(experiment, objective)
    pda = experiment.train.augment.pda
    if pda is not None:
        grid, own = pda.grid, patch_side(objective.detector)
        if grid is None and own is None:
            raise AgfasError(
                f"train.augment.pda: the detector '{experiment.detector.name}' has no square grid of patches to take"
                " over. Set train.augment.pda.grid, for example 14."
            )
        if experiment.objective.name == "apl" and grid not in (None, own):
            raise AgfasError(
                f"train.augment.pda.grid = {grid}, but the objective apl classifies the detector's {own} x {own}"
                " patches. Leave the grid out."
            )


def _check_fas_aug(experiment: Experiment, objective: Objective) -> None:
    settings, extra = experiment.train.augment.fas_aug, experiment.train.extra_live
    if settings is None:
        return
    if Workspace(experiment).needs_cue():
        if settings.cue == "refuse":
            raise AgfasError(
                f"train.augment.fas_aug: the detector '{experiment.detector.name}' takes a cue, and the restorations"
                " are those of unchanged faces. Use a detector of the picture alone, such as image_only, or set"
                " train.augment.fas_aug.cue = trace, which says what the cue then is."
            )
        if experiment.cue.form != "residual" or experiment.cue.source == "shuffled":
            raise AgfasError(
                "train.augment.fas_aug.cue = trace changes the residual of a face and its own restoration: set"
                f" cue.form = residual (not {experiment.cue.form}), and another cue.source than shuffled."
            )
    if extra is not None and extra.domain == "none":
        raise AgfasError(
            "train.augment.fas_aug makes attacks of live faces, and an attack needs a domain: set"
            " train.extra_live.domain = own."
        )
    if "reflection" in objective.needed_maps:
        raise AgfasError(
            "train.augment.fas_aug makes attacks of live faces, which have no reflection maps. Set"
            " objective.reflection_target = ellipse, or leave one of the two out."
        )


def patch_side(detector: Detector) -> int | None:
    """Patches in a row and a column of the detector's square grid; None if it has none."""
    if not isinstance(detector, PatchDetector) or len(set(detector.patch_grid)) > 1:
        return None
    return detector.patch_grid[0]


def make_batches(
    experiment: Experiment,
    faces: Faces,
    reader: CueReader | None,
    fold: Fold,
    rows: np.ndarray,
    objective: Objective,
) -> BalancedBatches:
    """The training batches of a fold.

    Args:
        rows: its training faces.
        objective: its target maps are loaded too.

    Raises:
        AgfasError: missing extra faces or maps, or extra faces from the protocol's own domains.
    """
    settings, augment = experiment.train, experiment.train.augment
    maps = _maps(experiment, faces, rows, objective)
    extra = _extra_live(experiment, faces, fold, objective)
    lacking = sorted(set(maps) - set(extra.maps)) if extra is not None else []
    if lacking:
        raise AgfasError(
            f"The training faces have {lacking[0]} maps, which the objective '{experiment.objective.name}' reads, and"
            " those of train.extra_live.dataset have none. Prepare them alike, or leave the extra faces out."
        )
    return BalancedBatches(
        faces,
        rows,
        list(fold.train_domains),
        reader,
        settings.per_cell,
        experiment.seed,
        settings.flip,
        settings.shift,
        maps,
        extra,
        None if augment.fas_aug is None else FasAug(augment.fas_aug, experiment.seed),
        None if augment.pda is None else Pda(augment.pda, patch_side(objective.detector) or 0, experiment.seed),
    )


def make_watch(experiment: Experiment, faces: Faces, reader: CueReader | None, rows: np.ndarray) -> DevWatch | None:
    """Evaluates the loss on the source dev faces `rows` during training; None unless the settings need it."""
    settings = experiment.train
    if not settings.watches:
        return None
    plateau = settings.plateau if settings.schedule == "plateau" else None

    def measure(objective: Any) -> float:
        return dev_loss(objective.detector, faces, reader, rows, experiment.evaluate.batch_size)

    return DevWatch(measure, settings.look_every, plateau, settings.early_stopping)


@torch.no_grad()
def dev_loss(detector: Any, faces: Faces, reader: CueReader | None, rows: np.ndarray, batch_size: int) -> float:
    """Mean cross-entropy of a detector in eval mode over some faces, unsmoothed and unweighted.

    It is the same for every objective: losses that only training adds are excluded. Every process must call it, and
    computes its share of the batches.
    """

    def total(part: np.ndarray) -> float:
        _, output = next(answers(detector, faces, reader, part, batch_size))
        label = torch.from_numpy(faces.labels[part]).to(output.logits.device)
        return functional.cross_entropy(output.logits, label, reduction="sum").item()

    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return sum(spread(parts, total)) / len(rows)


def _maps(experiment: Experiment, faces: Faces, rows: np.ndarray, objective: Objective) -> dict[str, TargetMaps]:
    folders = {"depth": experiment.train.depth_maps, "reflection": experiment.train.reflection_maps}
    for name, folder in folders.items():
        if folder is not None and name not in objective.wanted_maps:
            raise AgfasError(
                f"train.{name}_maps is given, but the objective '{experiment.objective.name}' as configured reads no"
                f" {name} maps. Leave the folder out, or use the objective depth or auxiliary."
            )
    return target_maps(objective.wanted_maps, objective.needed_maps, faces, rows, folders)


def _extra_live(experiment: Experiment, faces: Faces, fold: Fold, objective: Objective) -> ExtraLive | None:
    settings = experiment.train.extra_live
    if settings is None:
        return None
    if settings.dataset == CORPUS:
        source, rows = faces, faces.live([CORPUS])
    else:
        source = open_faces(Path(settings.dataset), faces.size)
        rows = np.flatnonzero(source.labels == 1)
    if not len(rows):
        raise AgfasError(
            f"train.extra_live.dataset = {settings.dataset} has no live faces. Name a prepared dataset's folder, or"
            " `corpus` where the dataset has such a domain."
        )
    own = {*fold.train_domains, *fold.dev_domains, *fold.test_domains}
    shared = sorted(own & set(source.domains[rows].tolist()))
    if shared:
        raise AgfasError(
            f"train.extra_live.dataset = {settings.dataset} holds live faces of the domain '{shared[0]}', which the"
            f" protocol trains or tests on ({fold.name}). Extra faces must be of other domains."
        )
    number = len(fold.train_domains) if settings.domain == "own" else -1
    maps = _maps(experiment, source, rows, objective)
    return ExtraLive(source, rows, settings.ratio, number, maps)

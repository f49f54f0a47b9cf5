"""`agfas probe`: how well a logistic regression separates live from attack by a cue, before a detector is trained.

The regression gets statistics of the picture, of the cue and of both, and leaves out each fold's target, as detectors
do. It takes a minute where a detector takes hours, and it has no seed. A cue that adds nothing here must be used far
better by a network to add something there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import make_faces
from pipelines.cues.agreement import agreement
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.errors import AgfasError, nearest
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import Planned, expand
from pipelines.experiment.workspace import Workspace
from pipelines.files import csv_text, write_text
from pipelines.pixels import to_unit_range
from pipelines.processes import is_main, say
from pipelines.progress import track
from pipelines.stages import chain

_BATCH = 128


def run(experiment: Experiment, against: str | None = None) -> list[dict[str, Any]]:
    """Probe every cue of an experiment or a sweep; prints and writes `probe.csv` into the output folder.

    All processes make the cues; the main one alone probes them.

    Args:
        experiment: with or without a sweep.
        against: label of the experiment whose cues all others are compared with; see `pipelines.cues.agreement`.

    Returns:
        A row per label: the video AUC, averaged over the folds' targets, from statistics of the picture, of the cue and
        of both; the AUC of the mean |cue| alone for each attack type against live faces of all domains, which is
        informative only for cues without normalisation. With `against`, correlation and PSNR to that label. Other
        processes than the main one return none.

    Raises:
        AgfasError: no detector takes a cue, or no cue has the label `against`.
    """
    items = _first_of_each_label(expand(experiment))
    planned = [item for item in items if Workspace(item.experiment).needs_cue()]
    if not planned:
        names = ", ".join(sorted({item.experiment.detector.name for item in items}))
        raise AgfasError(
            f"There is no cue to probe: no detector here takes one ({names}). Name one that does, such as"
            " detector.name=oanet."
        )
    compared = _labelled(planned, against) if against else None
    faces = make_faces(planned[0].experiment)
    chain.prepare_cues([item.experiment for item in planned], faces)
    if not is_main():
        return []
    picture = _all_statistics(faces, np.arange(len(faces)), None)
    reference = cue_reader(compared.experiment, faces) if compared else None
    rows = [_probe(item, faces, picture, reference) for item in track(planned, "probe", unit="cue")]
    text = csv_text(rows)
    write_text(experiment.root / "probe.csv", text)
    say(text)
    return rows


def image_statistics(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, 13 C): mean and deviation of values and of fine detail, whole and central, and regularity.

    Regularity is the product of fine detail with itself shifted by one and two pixels: halftone and moiré change it.
    """
    fine = image - functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="reflect"), 3, 1)
    coarse = functional.avg_pool2d(image, 4)
    quarter = image.shape[-1] // 4
    middle = (..., slice(quarter, -quarter), slice(quarter, -quarter))
    views = (image, fine, coarse, image[middle], fine[middle])
    parts = [part for view in views for part in (view.abs().mean((2, 3)), view.std((2, 3)))]
    parts.append((fine[..., 1:] * fine[..., :-1]).mean((2, 3)))
    parts.append((fine[..., 1:, :] * fine[..., :-1, :]).mean((2, 3)))
    parts.append((fine[..., 2:] * fine[..., :-2]).mean((2, 3)))
    return torch.cat(parts, dim=1)


def left_out_auc(features: np.ndarray, faces: Faces, fold: Fold) -> float:
    """AUC over the target's videos of a logistic regression fitted to the sources' training faces."""
    parts = indices(faces.columns(), fold)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=3000, class_weight="balanced"))
    model.fit(features[parts["train"]], faces.labels[parts["train"]])
    rows = parts["test"]
    names = np.array([f"{faces.domains[row]}/{faces.videos[row]}" for row in rows])
    videos, first, number = np.unique(names, return_index=True, return_inverse=True)
    scores = np.bincount(number, model.decision_function(features[rows])) / np.bincount(number)
    assert len(videos) == len(scores)
    return float(roc_auc_score(faces.labels[rows][first], scores))


def _probe(item: Planned, faces: Faces, picture: np.ndarray, reference: CueReader | None) -> dict[str, Any]:
    folds = protocol_folds(item.experiment.protocol, faces.columns())
    judged = np.unique(np.concatenate([np.concatenate(list(indices(faces.columns(), s).values())) for s in folds]))
    reader = cue_reader(item.experiment, faces)
    cue = np.zeros((len(faces), 13 * (reader.channels if reader else 0)))
    cue[judged] = _all_statistics(faces, judged, reader)
    sets = {"picture": picture, "cue": cue, "both": np.hstack([picture, cue])}
    row: dict[str, Any] = {"label": item.label}
    for name, features in sets.items():
        row[f"auc_{name}"] = round(float(np.mean([left_out_auc(features, faces, fold) for fold in folds])), 3)
    size = cue[:, : reader.channels if reader else 0].mean(axis=1)
    live = judged[faces.labels[judged] == 1]
    for kind in sorted(set(faces.attack_types[judged]) - {"none"}):
        attacks = judged[faces.attack_types[judged] == kind]
        truth = np.r_[np.zeros(len(live)), np.ones(len(attacks))]
        row[f"size_auc_{kind}"] = round(float(roc_auc_score(truth, np.r_[size[live], size[attacks]])), 3)
    return row if reference is None else {**row, **_agreement(reader, reference, judged)}


def _agreement(reader: CueReader | None, reference: CueReader, judged: np.ndarray) -> dict[str, Any]:
    found = agreement(reader, reference, judged) if reader else None
    return {
        "correlation": round(found.correlation, 3) if found else "",
        "psnr": round(found.psnr, 2) if found else "",
    }


def _labelled(planned: list[Planned], label: str) -> Planned:
    for item in planned:
        if item.label == label:
            return item
    raise AgfasError(f"No cue is labelled '{label}': {nearest(label, [item.label for item in planned])}")


@torch.no_grad()
def _all_statistics(faces: Faces, rows: np.ndarray, reader: Any) -> np.ndarray:
    parts = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        image = to_unit_range(faces.images[part]) if reader is None else reader.batch(part)
        parts.append(image_statistics(image).double().numpy())
    return np.concatenate(parts)


def _first_of_each_label(planned: list[Planned]) -> list[Planned]:
    return list({item.label: item for item in reversed(planned)}.values())[::-1]

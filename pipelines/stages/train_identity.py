"""The identity encoder: trained on the identities of live faces, or loaded from published weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from dfg.arcface import ArcFaceObjective
from dfg.identity import IdentityEncoder
from dfg.onnx_identity import OnnxIdentityEncoder
from pipelines.artefacts.runs import MODEL, load_identity
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import BackboneIdentity, NoIdentity, OnnxIdentity, TrainedIdentity
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import folder_sha256
from pipelines.pixels import to_unit_range
from pipelines.processes import device, is_main, spread, wait
from pipelines.seals import write_sealed
from pipelines.stages.train_baseline import live_faces
from pipelines.training.batches import IdentityBatches
from pipelines.training.loop import fit
from pipelines.training.run import Run

# Faces embedded at once for the verification.
_BATCH = 64


def run(experiment: Experiment, faces: Faces) -> Any:
    """The frozen identity encoder, or None for a zero condition."""
    settings = experiment.identity
    if isinstance(settings, NoIdentity):
        return None
    if isinstance(settings, TrainedIdentity):
        return _trained(experiment, settings, faces)
    return _loaded(settings)


def _loaded(settings: BackboneIdentity | OnnxIdentity) -> Any:
    try:
        if isinstance(settings, BackboneIdentity):
            return IdentityEncoder.from_backbone_pth(settings.path, settings.preset)
        return OnnxIdentityEncoder.from_onnx(
            settings.path,
            tensor=settings.tensor,
            input_mean=settings.input_mean,
            input_scale=settings.input_scale,
        )
    except (ValueError, OSError) as error:
        raise AgfasError(f"The identity encoder {settings.path} cannot be used: {error}") from error


def _trained(experiment: Experiment, settings: TrainedIdentity, faces: Faces) -> IdentityEncoder:
    workspace = Workspace(experiment)
    training = Run(workspace.identity(), workspace.identity_key(), experiment.model_dump(mode="json"))
    model = training.folder / MODEL
    if not training.was_done:
        indices = live_faces(faces, settings.domains, "identity.domains")
        batches = IdentityBatches(faces, indices, settings.loop.batch_size, seed=0)
        torch.manual_seed(0)
        encoder = IdentityEncoder.from_preset(settings.preset)
        objective = ArcFaceObjective(encoder, batches.num_identities, settings.scale, settings.margin)
        fit(objective, batches, settings.loop, training, title="identity encoder")
        summary = {
            "identities": batches.num_identities,
            "faces": len(indices),
            "verification_auc": verification_auc(encoder, faces, settings.domains),
        }
        if is_main():
            write_sealed(model, encoder.save_pretrained)
            training.finish({**summary, "weights_sha256": folder_sha256(model)})
        wait()
    return load_identity(training.folder)


@torch.no_grad()
def verification_auc(encoder: IdentityEncoder, faces: Faces, domains: list[str]) -> float | None:
    """AUC of cosine similarity between pairs of the same and of different persons, over held-out subjects.

    Every process must call it, and embeds its share.
    """
    indices = faces.live(domains, splits=("dev",))[:400]
    subjects = faces.subjects[indices]
    if len(set(subjects)) < 2 or len(set(subjects)) == len(subjects):
        return None
    torch.nn.Module.to(encoder.eval(), device())

    def embed(part: np.ndarray) -> torch.Tensor:
        return encoder.embed(to_unit_range(faces.images[part]).to(device())).cpu()

    batches = [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
    embedding = torch.cat(spread(batches, embed))
    similarity = (embedding @ embedding.T).numpy()
    same = subjects[:, None] == subjects[None, :]
    pairs = np.triu_indices(len(indices), k=1)
    return float(roc_auc_score(same[pairs].astype(int), similarity[pairs]))

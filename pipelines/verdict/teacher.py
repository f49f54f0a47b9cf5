"""A detector as a teacher: its scores of a face dataset, made once and kept, and its verdicts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oanet.published import CROP
from pipelines.blocks import Job, SharedArray, open_shared, share
from pipelines.data.faces import Faces, open_faces
from pipelines.data.records import read_card
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.crops import face_settings
from pipelines.verdict.scorer import Scorer

MOST_ODDS = 12.0
"""Log-odds beyond this are taken as this: a score may be exactly 0 or 1."""


@dataclass(frozen=True)
class Teacher:
    """A detector whose scores a student learns.

    Attributes:
        model: judges aligned crops.
        scorer: its own.
        identity: fingerprint of everything that decides a score.
    """

    model: FaceAntiSpoofing
    scorer: Scorer
    identity: str

    @classmethod
    def of(cls, model: FaceAntiSpoofing) -> Teacher:
        """A model as a teacher.

        Raises:
            AgfasError: it is an exported one, or sees more than the crop.
        """
        settings, scorer = model.settings, model.scorer
        if not isinstance(scorer, Scorer):
            raise AgfasError(
                f"{settings.label} is an exported model, and a teacher must be what it was made of: give the folder of"
                " `agfas save-model`, or --run."
            )
        if settings.sees != CROP:
            raise AgfasError(
                f"'{settings.detector}' sees more of a picture than its aligned crop, and simulated attacks are crops"
                " alone. Give a teacher that judges crops."
            )
        parts = [settings.model_dump(mode="json", include={"face", "cue", "calibration"})]
        return cls(model, scorer, fingerprint([parts, scorer.detector.config, *map(_digest, _networks(scorer))]))

    def scores(self, folder: Path, kept: Path) -> np.ndarray:
        """The score of every face of a dataset, (N,) float64; a file in the folder `kept` once they are made.

        They are made in blocks: what was finished before a kill is not made again.

        Raises:
            AgfasError: the crops were cut by another template than the teacher's, or lack the masks that it needs.
        """
        faces = open_faces(folder, self.model.settings.face.size)
        self._check(faces)
        identity = fingerprint([self.identity, faces.fingerprint])
        path = kept / f"teacher-{identity}.npy"
        made = SharedArray(path, (len(faces), 1), np.float64, self.model.batch_size, identity)

        def judge(block: int) -> None:
            rows = np.array(made.rows(block))
            masks = faces.masks[rows] if self.model.settings.needs_mask and faces.masks is not None else None
            made.write(block, self.scorer(np.array(faces.images[rows]), masks).scores[:, None])

        share([Job(made.blocks, judge, made.publish, len(faces))], "teacher's scores", "face")
        return np.array(open_shared(path, identity, f"Remove {path} and run the command again.")[:, 0])

    def verdicts(self, scores: np.ndarray) -> np.ndarray:
        """(N,) bool, whether it calls faces live."""
        return scores >= self.model.settings.threshold.value

    def _check(self, faces: Faces) -> None:
        settings = self.model.settings
        cut = face_settings(read_card(faces.folder), settings.face.size)
        if cut.template_known and settings.face.template_known and cut.template != settings.face.template:
            raise AgfasError(
                f"{faces.folder} was cut by the template '{cut.template}', and {settings.label} judges faces cut by"
                f" '{settings.face.template}'. Make it again: `agfas prepare ... --template {settings.face.template}`."
            )
        if settings.needs_mask and faces.masks is None:
            raise AgfasError(
                f"The cue of {settings.label} is masked, and {faces.folder} holds no masks. Make it again with"
                " --parsing-weights, or give a teacher without a mask; simulated attacks have none (--per-face 0)."
            )


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Scores in [0, 1] as log-odds, at most `MOST_ODDS` either way."""
    least = 1 / (1 + np.exp(MOST_ODDS))
    shares = np.clip(scores, least, 1 - least)
    return np.log(shares) - np.log1p(-shares)


def _networks(scorer: Scorer) -> list[nn.Module]:
    parts = getattr(scorer.maker, "components", {"maker": scorer.maker})
    return [part for part in (scorer.detector, scorer.head, *parts.values()) if isinstance(part, nn.Module)]


def _digest(network: nn.Module) -> str:
    """The SHA-256 of a network's weights and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

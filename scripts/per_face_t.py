"""A cue whose t is chosen for each face by how far its own latents lie from those of live faces: a trial.

Theorem 2 of the paper wants a t at which noise has made a face like a live one, Theorem 1 the smallest
such t. For one face, the divergence is that between two Gaussians for each channel of its latents, over positions: its
own, and that of live faces. Noised to t, it falls with t (`pipelines.inspection.theorems` measures the same between
groups of faces). A face takes the smallest t of `TIMESTEPS` at which its divergence is no larger than the median live
face's at 301, where both theorems' curves meet.

    agfas sweep configs/one_call.yaml 'sweep.variants=[{label: "t per face, 1 call", set: {cue.source:
        "scripts.per_face_t:PerFaceT", cue.options: {run: runs/study/generator/NAME, faces: runs/study/faces/NAME}}}]'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.artefacts.models import load_pipeline
from pipelines.artefacts.runs import PIPELINE
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.sources import DfgSweep
from pipelines.data.faces import open_faces
from pipelines.files import read_json
from pipelines.pixels import to_unit_range

TIMESTEPS = (201, 301, 401, 501, 601)
MEETING = 301
"""Where `removed - lost` is largest in docs/results.md."""

_LIVE = 500


class PerFaceT:
    """One call of a generator, from a t that the face's own latents decide.

    Args:
        run: folder of a finished generator.
        faces: face dataset whose live corpus says what live latents are like.
        size: side of the faces in pixels.
    """

    def __init__(self, run: str, faces: str, size: int = 64) -> None:
        self.weights = read_json(Path(run) / "done.json")["weights_sha256"]
        self.given = {"faces": Path(faces).name, "size": size}
        self.run, self.faces, self.size = Path(run), Path(faces), size
        self._sweep: DfgSweep | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the restorations."""
        return {"name": "per_face_t", "weights": self.weights, "timesteps": list(TIMESTEPS), **self.given}

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, H) in [-1, 1] -> the restored faces."""
        sweep = self._opened()
        chosen, restored = self.choose(image), torch.empty_like(image)
        for timestep in TIMESTEPS:
            rows = [row for row, t in enumerate(chosen) if t == timestep]
            if rows:
                part = sweep.restore(image[rows], [keys[row] for row in rows], [timestep])[timestep]
                restored[rows] = part
        return restored

    def choose(self, image: torch.Tensor) -> list[int]:
        """The t of each face (B, 3, H, H) in [-1, 1]."""
        divergences = self._divergences(*_moments(self._opened().pipeline.encode(image)))
        return [
            next((t for t in TIMESTEPS if divergences[t][row] <= self.limit), TIMESTEPS[-1])
            for row in range(len(image))
        ]

    def _opened(self) -> DfgSweep:
        """The generator with the moments of live latents, loaded at the first face."""
        if self._sweep is None:
            pipeline = load_pipeline(self.run / PIPELINE)
            opened = open_faces(self.faces, self.size)
            rows = opened.live(["corpus"])
            pixels = opened.images[rows[:: max(1, len(rows) // _LIVE)]]
            means, variances = _moments(pipeline.encode(to_unit_range(pixels)))
            self.live = means.mean(0), variances.mean(0) + means.var(0)
            self.alphas = pipeline.scheduler.alphas_cumprod
            self.limit = float(self._divergences(means, variances)[MEETING].median())
            settings = RestorationSettings(calls=1, num_inference_steps=10)
            self._sweep = DfgSweep(pipeline, TIMESTEPS, self.weights, settings=settings)
        return self._sweep

    def _divergences(self, means: torch.Tensor, variances: torch.Tensor) -> dict[int, torch.Tensor]:
        """KL(face || live) in nats per value at each t, (B,), of faces with moments (B, C)."""
        found = {}
        for timestep in TIMESTEPS:
            kept = float(self.alphas[timestep])
            face, live = kept * variances + 1 - kept, kept * self.live[1] + 1 - kept
            shift = kept * (means - self.live[0]).square()
            found[timestep] = ((face + shift) / live - 1 + (live / face).log()).mean(1) / 2
        return found


def _moments(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over positions of each channel, (B, C) each."""
    return latents.mean((2, 3)), latents.var((2, 3))

"""What every detector returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class DetectorOutput:
    """The answer of a detector for B faces.

    Attributes:
        logits: (B, 2) float32; index 0 attack, index 1 bona fide.
        features: (B, D) float32, the normalised embedding that the classifier and the losses read.
        attention: one (B, heads, T, N) per block, how much each of the T image tokens (class token first)
            looks at each of the N cue tokens, rows summing to one; None unless it was asked for, or where the
            detector has no cross-attention.
        maps: what the detector predicts for every place of the face, by name, such as `depth` (B, 1, 32, 32);
            None where it predicts none.
    """

    logits: torch.Tensor
    features: torch.Tensor
    attention: tuple[torch.Tensor, ...] | None = None
    maps: dict[str, torch.Tensor] | None = None

    @property
    def probability_bonafide(self) -> torch.Tensor:
        """(B,) in [0, 1]: the score, higher is more live."""
        return self.logits.float().softmax(dim=1)[:, 1]

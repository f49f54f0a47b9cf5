"""What a detector is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class FaceBatch:
    """A batch of faces.

    Attributes:
        image: (B, 3, H, W) in [-1, 1], RGB.
        cue: (B, C, H, W), C = 3 or 6, or None where the detector takes none.
        label: (B,) int64, 0 attack, 1 bona fide.
        domain: (B,) int64, index into the training domains.
        key: B strings, the records' keys.
    """

    image: torch.Tensor
    cue: torch.Tensor | None
    label: torch.Tensor
    domain: torch.Tensor
    key: list[str]

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch with its tensors on `device`."""
        cue = None if self.cue is None else self.cue.to(device)
        return FaceBatch(self.image.to(device), cue, self.label.to(device), self.domain.to(device), list(self.key))

"""What a detector is trained on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch


@dataclass
class FaceBatch:
    """A batch of faces.

    Attributes:
        image: (B, 3, H, W) in [-1, 1], RGB.
        cue: (B, C, H, W), C = 3 or 6, or None where the detector takes none.
        label: (B,) int64, 0 attack, 1 bona fide.
        domain: (B,) int64, index into the training domains; -1 for an extra live face that belongs to none.
        key: B strings, the records' keys.
        depth: (B, 1, h, w) in [0, 1], how near each place of a live face is, zero for an attack; None where no
            depth maps are at hand.
        reflection: (B, 1, h, w) in [0, 1], how strongly each place of an attack reflects, zero for a live face;
            None where no reflection maps are at hand.
        mask: (B, 1, h, w), 1 where face parsing found the face, 0 elsewhere; None without masks.
    """

    image: torch.Tensor
    cue: torch.Tensor | None
    label: torch.Tensor
    domain: torch.Tensor
    key: list[str]
    depth: torch.Tensor | None = None
    reflection: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch with its tensors on `device`."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device) if isinstance(value, torch.Tensor) else value
        moved["key"] = list(self.key)
        return FaceBatch(**moved)

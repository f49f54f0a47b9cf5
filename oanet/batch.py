"""What a detector reads in training, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass
class FaceBatch:
    """A batch of faces.

    Attributes:
        image: (B, 3, H, W) in [-1, 1], RGB.
        cue: (B, C, H, W), C = 3 or 6; None for detectors without a cue.
        label: (B,) int64, 0 attack, 1 bona fide.
        domain: (B,) int64, index into the training domains; -1 for an extra live face of no training domain.
        key: B strings, the records' keys.
        depth: (B, 1, h, w) in [0, 1], depth of live faces (1 is nearest), zero for attacks; None if not available.
        reflection: (B, 1, h, w) in [0, 1], reflection of attacks, zero for live faces; None if not available.
        mask: (B, 1, h, w), 1 where face parsing found the face, 0 elsewhere; None if not available.
        patches: (B, N) int64, labels of the patches of a square grid, row by row; None if all are the face's.
        kind: (B,) int64, 0 printed attack, 1 bona fide, 2 other attack; None if not available.
        teacher: (B,) float32, log-odds of live that a teacher gives the faces; None if not available.
    """

    image: Tensor
    cue: Tensor | None
    label: Tensor
    domain: Tensor
    key: list[str]
    depth: Tensor | None = None
    reflection: Tensor | None = None
    mask: Tensor | None = None
    patches: Tensor | None = None
    kind: Tensor | None = None
    teacher: Tensor | None = None

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch with its tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, key=list(self.key), **moved)


def send(drawn: Tensor, device: torch.device | str) -> Tensor:
    """What was drawn on the CPU, on `device`; the host does not wait for a GPU, which copies it in its turn."""
    if torch.device(device).type == "cuda":
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=True)


@dataclass
class DetectorOutput:
    """The output of a detector for B faces.

    Attributes:
        logits: (B, 2) float32; index 0 attack, index 1 bona fide.
        features: (B, D) float32, the embedding that classifier and losses use.
        attention: per block (B, heads, T, N), the attention of the T image tokens (class token, registers, patches) to
            the N cue tokens, rows summing to one; None unless requested by `need_weights`, and without cross-attention.
        maps: predicted maps by name, such as `depth` (B, 1, 32, 32); None for detectors that predict none.
        patches: (B, N, C), final patch tokens of a ViT after its last norm, in row-major order; None unless requested
            by `see_patches`, see `oanet.patches`.
        patch_attention: (B, N) float32 without gradient, the last block's attention of the class token to them: the
            mean of the heads' softmax over all tokens, so that a row sums to less than one; None as `patches`.
        attack_classes: (B, K), the probability of each of several kinds of attack; None for detectors of two classes.
    """

    logits: Tensor
    features: Tensor
    attention: tuple[Tensor, ...] | None = None
    maps: dict[str, Tensor] | None = None
    patches: Tensor | None = None
    patch_attention: Tensor | None = None
    attack_classes: Tensor | None = None

    @property
    def probability_bonafide(self) -> Tensor:
        """(B,) in [0, 1]: the liveness score."""
        return self.logits.float().softmax(dim=1)[:, 1]

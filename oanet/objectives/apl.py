"""The attention-weighted patch loss (APL, arXiv 2505.24402) beside the losses of another objective.

Every final patch token of a ViT is classified as live or attack. Patches to which the class token attends count more.
Patches of mixed faces (`pipelines.training.pda`) have labels of their own; those of other faces have the face's.

The publication names the weights but gives no formula. Here they are the class token's attention in the last block,
averaged over heads, without gradient, and scaled to a mean of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_name, check_range
from oanet.detectors.base import Detector
from oanet.names import OBJECTIVES, check_objective
from oanet.objectives.base import Objective, check_protocol
from oanet.patches import PatchDetector

PATCH_HEADS = ("linear", "cosine")


@dataclass(frozen=True)
class _Seen:
    """The detector's output of B faces, and the loss of each one's patches (B,)."""

    output: DetectorOutput
    patches: Tensor


class AttentionPatchLoss(Objective):
    """The losses of a base objective + weight * the mean over faces of mean_p w_p CE_p.

    Args:
        detector: the detector to train; see `oanet.patches.PatchDetector`.
        num_domains: number of training domains, for the base.
        base: the other objective: its `name` (default: erm) and its options.
        weight: factor of the patches' loss.
        head: classifies a patch: `linear`, or `cosine`, the cosine with a vector per class times `scale`.
        scale: of `cosine`; ignored by `linear`.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        base: Mapping[str, Any] | None = None,
        weight: float = 1.0,
        head: str = "linear",
        scale: float = 16.0,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", weight=weight)
        check_range("(0, inf)", scale=scale)
        check_name("head", head, PATCH_HEADS)
        check_protocol(detector, PatchDetector, "gives its patch tokens", "Use a ViT: 'image_only', 'vit' or 'oanet'.")
        if base is not None:
            check_objective("apl", {"base": base})
        self.base = _build(base or {}, detector, num_domains)
        self.weight = weight
        self.needs_both_labels = self.base.needs_both_labels
        for name in ("trained_maps", "wanted_maps", "needed_maps"):
            setattr(self, name, getattr(self.base, name))
        width = cast(PatchDetector, detector).patch_dim
        self.classifier = nn.Linear(width, 2) if head == "linear" else CosineHead(width, scale)

    def observe(self, batch: FaceBatch) -> _Seen:
        """The detector's output, and the loss of every face's patches, which is this process's own affair."""
        detector = cast(PatchDetector, self.detector)
        self.base.share = self.share
        output = detector.see_patches(batch.image, batch.cue if self.detector.needs_cue else None)
        assert output.patches is not None
        assert output.patch_attention is not None
        labels = patch_labels(batch, detector.patch_grid)
        with torch.autocast(output.patches.device.type, enabled=False):
            logits = self.classifier(output.patches.float())  # (B, N, 2)
            loss = attention_patch_loss(logits, labels, output.patch_attention)
        return _Seen(replace(output, patches=None, patch_attention=None), loss)

    def loss(self, seen: _Seen, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are the base's, and `patches`."""
        result = self.base.loss(seen.output, batch, progress)
        patches = seen.patches.mean()
        return {**result, "loss": result["loss"] + self.weight * patches, "patches": patches.detach()}

    def after_step(self, progress: float) -> None:
        """The base's."""
        self.base.after_step(progress)


class CosineHead(nn.Module):
    """The cosine of a token with a vector for each class, times a scale.

    Args:
        width: of the tokens.
        scale: of the logits.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, width))
        self.scale = scale
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> logits (..., 2)."""
        return self.scale * F.linear(F.normalize(tokens, dim=-1), F.normalize(self.weight, dim=-1))


def attention_patch_loss(logits: Tensor, labels: Tensor, attention: Tensor) -> Tensor:
    """(B,): each face's mean of its patches' cross-entropy, weighted by attention scaled to a mean of one.

    Args:
        logits: (B, N, 2).
        labels: (B, N), 0 attack, 1 bona fide.
        attention: (B, N), at least 0.
    """
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    weight = attention.detach() / attention.detach().mean(dim=1, keepdim=True).clamp_min(1e-12)
    return (weight * each).mean(dim=1)


def patch_labels(batch: FaceBatch, grid: tuple[int, int]) -> Tensor:
    """(B, N) int64: labels of the patches of a grid. Raises ValueError if the batch was mixed on another grid."""
    count = grid[0] * grid[1]
    if batch.patches is None:
        return batch.label[:, None].expand(-1, count)
    if batch.patches.shape[1] != count:
        raise ValueError(
            f"The faces were mixed in {batch.patches.shape[1]} patches, and the detector has {grid[0]} x {grid[1]}."
            " Leave train.augment.pda.grid out, so that it is the detector's."
        )
    return batch.patches


def _build(base: Mapping[str, Any], detector: Detector, num_domains: int) -> Objective:
    """The base objective. Raises ValueError if it does not look at the faces as they are."""
    options = {"name": "erm", **base}
    name = options.pop("name")
    built: Objective = OBJECTIVES.load(name, Objective)(detector, num_domains, **options)
    if type(built).observe is not Objective.observe:
        raise ValueError(
            f"The objective 'apl' classifies the patches of the faces as they are, and its base {name!r} looks at"
            " them otherwise. Use a base such as 'erm', 'label_smoothing' or 'ssdg'."
        )
    # A plain reference instead of a second registration: the detector's weights are saved once.
    del built.detector
    built.__dict__["detector"] = detector
    return built

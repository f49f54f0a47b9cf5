"""DGUA-FAS's network (Hong et al., ICIP 2023): a MobileViT that tells prints, live faces and other attacks apart.

Its training, with a second network that makes features of unknown attacks, is the objective `dgua`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.trunks import create_timm, resize, standardize

LEVELS = 3
"""Maps that a copycat may replace: the outputs of MobileViT's three blocks with transformers, at strides 8, 16 and 32.
The public code replaces three of its network's maps, too, but the file that says which is not in its repository."""

KINDS = 3
"""Classes: 0 print, 1 live, 2 other attack; see `FaceBatch.kind`."""


class DGUA(Detector):
    """MobileViT-S, average pooling, dropout, one Linear to three classes; the score is the probability of `live`.

    Full size: 4,937,632 (MobileViT-S without classifier) + 1,923 = 4,939,555 parameters.

    Args:
        backbone: any timm name of the first MobileViT family.
        image_size: side that images are resized to; values are standardised by ImageNet's mean and deviation.
        pretrained: fetch timm's weights for the name.
        backbone_options: more of timm's arguments.
        dropout: before the Linear, and at the end of the transformers' attention and MLP.
    """

    name = "dgua"

    def __init__(
        self,
        backbone: str = "mobilevit_s",
        image_size: int = 256,
        pretrained: bool = False,
        backbone_options: dict[str, Any] | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_range("[0, 1)", dropout=dropout)
        self.image_size = image_size
        net: Any = create_timm(backbone, pretrained, num_classes=0, **(backbone_options or {}))
        blocks = [block for block in net.modules() if hasattr(block, "transformer")]
        if len(blocks) != LEVELS:
            raise ValueError(
                f"{backbone!r} is no MobileViT with {LEVELS} blocks of transformers, such as 'mobilevit_s'."
            )
        for block in blocks:
            for layer in block.transformer:  # timm has no argument for it
                layer.attn.proj_drop = _FaceDropout(dropout, block.patch_area)
                layer.mlp.drop2 = _FaceDropout(dropout, block.patch_area)
        self.trunk = net.to(memory_format=torch.channels_last)
        self.feature_dim = net.num_features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.feature_dim, KINDS)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        return self.judge(*self.classify(self.trace(image)[1]))

    def trace(self, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, 3, H, W) in [-1, 1] -> the `LEVELS` maps (B, C_i, h_i, w_i) and the last map (B, D, h, w)."""
        pixels = standardize(resize(image, self.image_size)).contiguous(memory_format=torch.channels_last)
        values, levels = self.trunk.stem(pixels), []
        for stage in self.trunk.stages:
            values = stage(values)
            levels.append(values)
        return tuple(levels[-LEVELS:]), self.trunk.final_conv(values)

    def resume(self, level: int, values: Tensor) -> Tensor:
        """The last map (B, D, h, w) if the map `level`, from 0, were `values`."""
        for stage in self.trunk.stages[len(self.trunk.stages) - LEVELS + 1 + level :]:
            values = stage(values)
        return self.trunk.final_conv(values)

    def classify(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """The last map -> features (B, D) and logits of the `KINDS` classes (B, 3), float32."""
        features = last.mean(dim=(2, 3)).float()
        with torch.autocast(features.device.type, enabled=False):
            return features, self.classifier(self.dropout(features))

    def judge(self, features: Tensor, kinds: Tensor) -> DetectorOutput:
        """Both attack classes as one: log(exp(a) + exp(b)), so that the softmax keeps the probability of `live`."""
        attack = torch.logsumexp(kinds[:, 0::2], dim=1)
        return DetectorOutput(torch.stack([attack, kinds[:, 1]], dim=1), features)


class _FaceDropout(nn.Module):
    """Dropout of (B P, N, C), the sequences of each face's P patch positions; a face's are drawn together."""

    def __init__(self, rate: float, positions: int) -> None:
        super().__init__()
        self.dropout, self.positions = nn.Dropout(rate), positions

    def forward(self, values: Tensor) -> Tensor:
        """(B P, N, C) -> (B P, N, C)."""
        return self.dropout(values.unflatten(0, (-1, self.positions))).flatten(0, 1)

"""face-liveness-vit (Affine Institute, 2026): a 128-wide, two-layer vision transformer with published weights.

The public script takes a whole image without face detection: shorter side to 256, centre crop of 224x224, ImageNet's
mean and deviation. Its class 0 is live, and its threshold, 0.1199, is on P(spoof). The weights are reordered to attack
first when they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.attention import Pluggable
from oanet.batch import DetectorOutput
from oanet.checkpoints import load_weights, read_checkpoint
from oanet.cue_encoder import CueEncoder
from oanet.head import LinearHead
from oanet.trunks import standardize

_LAYER_PREFIXES = ("encoder.transformer_encoder.", "encoder.encoder.")


class LivenessViT(Pluggable):
    """Patches, class token and position codes; post-norm layers; a Linear on the class token, without a final norm.

    Full size: 98,432 (patches) + 25,344 (class token and 197 position codes) + 2 x 198,272 (layers) + 258 (Linear)
    = 520,578 parameters.

    Args:
        image_size: side of the centre crop; an image's shorter side is resized to image_size * 256 / 224 before.
        patch_size: must divide `image_size`.
        width: width of the tokens and of the feature.
        depth: number of layers.
        num_heads: must divide `width`.
        hidden: width inside the layers' MLPs.
        dropout: dropout rate of the layers; 0 in the published model.
        weights: file of the published checkpoint to start from; only tensors and numbers are unpickled.
        cue: attend to the cue in every layer, see `oanet.attention`. The cue is not centre-cropped, and its encoder
            starts from random weights.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; they need `cue`.

    Raises:
        FileNotFoundError, ValueError: the checkpoint is missing, or has another layout or size.
    """

    name = "liveness_vit"

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.0,
        weights: str | None = None,
        cue: bool = False,
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if patch_size < 1 or image_size % patch_size:
            raise ValueError(f"patch_size = {patch_size} does not divide image_size = {image_size}.")
        if width % num_heads:
            raise ValueError(f"num_heads = {num_heads} does not divide the width {width}.")
        self.image_size = image_size
        self.feature_dim = width
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (image_size // patch_size) ** 2 + 1, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, num_heads, hidden, dropout, batch_first=True) for _ in range(depth)
        )
        self.head = LinearHead(width)
        if weights is not None:
            load_weights(self, _our_names(read_published(weights), num_heads, weights), weights)
        if cue:  # after loading the weights, which have no cross-attention
            encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options)
            self.plug_in(encoder, width, num_heads, depth, layer_norm_eps=1e-5)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; images need not be square. With `need_weights` and a cue, `attention` is filled."""
        pixels = standardize(centre(image, round(self.image_size * 256 / 224), self.image_size))
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)  # (B, N, width)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
        if self.needs_cue:
            tokens, maps = self.attend(tokens, cue, self.layers, (_self_attention, _mlp), need_weights)
            logits, features = self.head(tokens[:, 0])
            return DetectorOutput(logits, features, maps)
        for layer in self.layers:  # with torch's fused kernel in evaluation
            tokens = layer(tokens)
        return DetectorOutput(*self.head(tokens[:, 0]))


def _self_attention(layer: Any, tokens: Tensor) -> Tensor:
    """First half of a post-norm `nn.TransformerEncoderLayer`."""
    attended, _ = layer.self_attn(tokens, tokens, tokens, need_weights=False)
    return layer.norm1(tokens + layer.dropout1(attended))


def _mlp(layer: Any, tokens: Tensor) -> Tensor:
    """Second half of the layer."""
    hidden = layer.linear2(layer.dropout(layer.activation(layer.linear1(tokens))))
    return layer.norm2(tokens + layer.dropout2(hidden))


def centre(image: Tensor, shorter: int, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side): resize the shorter side to `shorter`, then centre-crop."""
    height, width = image.shape[-2:]
    # The longer side is rounded down, as in torchvision's Resize.
    size = (shorter, shorter * width // height) if height <= width else (shorter * height // width, shorter)
    if size != (height, width):
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image[..., top : top + side, left : left + side]


def read_published(path: str | Path) -> dict[str, Any]:
    """The published checkpoint: `model` (tensors by name), `cfg` (settings) and `threshold` (on P(spoof)).

    Raises:
        FileNotFoundError, ValueError: the file is missing, cannot be read safely, or has no `model`.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), Mapping):
        raise ValueError(
            f"{path} is no face-liveness-vit checkpoint: a dictionary with tensors by name under 'model' is expected."
            " Use `load_detector` for a folder that this program saved."
        )
    return checkpoint


def _our_names(checkpoint: Mapping[str, Any], num_heads: int, path: str | Path) -> dict[str, Any]:
    """The weights under this module's names, attack first."""
    settings = checkpoint.get("cfg")
    trained = settings.get("model") if isinstance(settings, Mapping) else None
    heads = trained.get("nhead", num_heads) if isinstance(trained, Mapping) else num_heads
    if heads != num_heads:
        raise ValueError(f"{path} was trained with {heads} heads; give num_heads: {heads} instead of {num_heads}.")
    state = {}
    for name, value in checkpoint["model"].items():
        for prefix in _LAYER_PREFIXES:
            name = name.removeprefix(prefix)
        # Values that are no tensors are left to `load_weights`, whose error names them.
        flipped = name.startswith("head.") and isinstance(value, Tensor) and value.ndim
        state[_RENAMED.get(name, name)] = value.flip(0) if flipped else value
    return state


_RENAMED = {
    "pos_embed": "positions",
    "cls_token": "class_token",
    "patch_embed.proj.weight": "patches.weight",
    "patch_embed.proj.bias": "patches.bias",
    "head.weight": "head.classifier.weight",
    "head.bias": "head.classifier.bias",
}

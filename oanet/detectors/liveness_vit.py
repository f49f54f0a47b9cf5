"""face-liveness-vit (Affine Institute, 2026): a 128-wide, two-layer vision transformer with published weights.

The public script takes a whole picture, without looking for the face: shorter side to 256, centre 224x224, ImageNet's
mean and deviation. Its first class is live and its threshold (0.1199) one on P(spoof); here the answers come in this
library's order, attack first, whatever the weights' order is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from oanet.checkpoints import load_weights, read_checkpoint
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import captures_config
from oanet.head import LinearHead
from oanet.output import DetectorOutput
from oanet.pixels import standardize
from oanet.plug import Pluggable

_LAYER_PREFIXES = ("encoder.transformer_encoder.", "encoder.encoder.")


class LivenessViT(Pluggable):
    """Patches, class token and position codes; post-norm layers; a Linear on the class token, no last norm.

    Full size: 98,432 (patches) + 25,344 (class token and 197 position codes) + 2 x 198,272 (layers) + 258 (Linear)
    = 520,578 parameters.

    Args:
        image_size: side of what the network sees; a picture's shorter side becomes image_size * 256 / 224 first, and
            its middle is taken.
        patch_size: must divide `image_size`.
        width: of the tokens and of the feature.
        depth: number of layers.
        num_heads: must divide `width`.
        hidden: width inside the layers' MLPs.
        dropout: of the layers while they are trained; the published model has none.
        weights: the published checkpoint to start from, as its repository holds it; it is read without unpickling
            anything but tensors and numbers.
        cue: attend to the cue in every layer, between self-attention and MLP, see `oanet.plug`. The cue enters whole,
            without the cut to the middle, and its encoder starts from random weights.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; read with `cue` alone.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, or one of another layout or size.
    """

    name: ClassVar[str] = "liveness_vit"
    needs_cue: ClassVar[bool] = False

    @captures_config
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
        if cue:  # after the published weights, which have no plug
            encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options)
            self.plug_in(encoder, width, num_heads, depth, layer_norm_eps=1e-5)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; pictures need not be square. With a cue, `attention` can be asked for."""
        pixels = standardize(centre(image, round(self.image_size * 256 / 224), self.image_size))
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)  # (B, places, width)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
        if self.needs_cue:
            blocks = [(partial(_self_attention, layer), partial(_mlp, layer)) for layer in self.layers]
            tokens, maps = self.attend(tokens, cue, blocks, need_weights)
            logits, features = self.head(tokens[:, 0])
            return DetectorOutput(logits, features, maps)
        for layer in self.layers:
            tokens = layer(tokens)
        return DetectorOutput(*self.head(tokens[:, 0]))


def _self_attention(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The first half of a post-norm `nn.TransformerEncoderLayer`."""
    attended, _ = layer.self_attn(tokens, tokens, tokens, need_weights=False)
    return layer.norm1(tokens + layer.dropout1(attended))


def _mlp(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The second half."""
    hidden = layer.linear2(layer.dropout(layer.activation(layer.linear1(tokens))))
    return layer.norm2(tokens + layer.dropout2(hidden))


def centre(image: torch.Tensor, shorter: int, side: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, side, side): shorter side to `shorter`, the longer in proportion, then the middle."""
    height, width = image.shape[-2:]
    size = scaled_size(height, width, shorter)
    if size != (height, width):
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image[..., top : top + side, left : left + side]


def scaled_size(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Height and width once the shorter side is `shorter`; the longer is rounded down, as torchvision's Resize."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def picture_tensor(picture: Image.Image, shorter: int = 256) -> torch.Tensor:
    """A whole picture as the public script feeds it: resized by Pillow, in 8 bits, before it becomes numbers.

    Args:
        picture: of any mode and size.
        shorter: what its shorter side becomes.

    Returns:
        (1, 3, H, W) in [-1, 1], RGB, ready for `LivenessViT.forward`, which then only takes the middle.
    """
    height, width = scaled_size(picture.height, picture.width, shorter)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)
    return pixels[None].float() / 127.5 - 1


def read_published(path: str | Path) -> dict[str, Any]:
    """The published checkpoint: `model` (names and tensors), `cfg` (settings) and `threshold`, a number.

    Raises:
        FileNotFoundError, ValueError: it is not there, cannot be read safely, or has no `model`.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), Mapping):
        raise ValueError(
            f"{path} is no face-liveness-vit checkpoint: a dictionary with the names and tensors under 'model' is"
            " expected. A folder that this program saved is opened with `load_detector` instead."
        )
    return checkpoint


def published_threshold(path: str | Path) -> float | None:
    """The checkpoint's own threshold on our score: live is P(bona fide) > 1 - t where it says P(spoof) < t.

    It was chosen on the CelebA-Spoof test list. None where the checkpoint has none.
    """
    threshold = read_published(path).get("threshold")
    return None if threshold is None else 1.0 - float(threshold)


def _our_names(checkpoint: Mapping[str, Any], num_heads: int, path: str | Path) -> dict[str, Any]:
    """The weights under this module's names, the classes in this library's order."""
    settings = checkpoint.get("cfg")
    trained = settings.get("model") if isinstance(settings, Mapping) else None
    heads = trained.get("nhead", num_heads) if isinstance(trained, Mapping) else num_heads
    if heads != num_heads:
        raise ValueError(f"{path} was trained with {heads} heads; give num_heads: {heads} instead of {num_heads}.")
    state = {}
    for name, value in checkpoint["model"].items():
        for prefix in _LAYER_PREFIXES:
            name = name.removeprefix(prefix)
        state[_RENAMED.get(name, name)] = _ours_first(value) if name.startswith("head.") else value
    return state


def _ours_first(value: Any) -> Any:
    """The classes in this library's order; what is no tensor is left to be refused by its name."""
    return value.flip(0) if isinstance(value, torch.Tensor) and value.ndim else value


_RENAMED = {
    "pos_embed": "positions",
    "cls_token": "class_token",
    "patch_embed.proj.weight": "patches.weight",
    "patch_embed.proj.bias": "patches.bias",
    "head.weight": "head.classifier.weight",
    "head.bias": "head.classifier.bias",
}

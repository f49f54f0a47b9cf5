"""face-liveness-vit (Affine Institute, 2026): a 128-wide, two-layer vision transformer with published weights.

The public script takes a whole picture without face detection: shorter side to 256 by Pillow, centre crop of 224x224,
ImageNet's mean and deviation. Its class 0 is live, and its threshold, 0.1199, is on P(spoof). The weights are reordered
to attack first when they are loaded. Trained here, the network sees the aligned crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from oanet.attention import Pluggable
from oanet.batch import DetectorOutput
from oanet.checkpoints import load_weights, read_checkpoint
from oanet.checks import check_name, check_range
from oanet.cue_encoder import CueEncoder
from oanet.head import LinearHead
from oanet.published import CROP, PICTURE, Decision
from oanet.trunks import standardize

THRESHOLD = 0.1199
"""Of the published decision, on P(spoof), for a checkpoint that states none."""

_ORIGIN = "publisher's threshold, chosen on CelebA-Spoof's TEST list, so that rates measured there are optimistic"
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
        sees: `crop`, or `picture` for the whole picture as in the public script; default: `picture` with
            `weights` and without a cue.
        threshold: of the published decision, on P(spoof); default: the checkpoint's own, with `weights`.
        cue: attend to the cue in every layer, see `oanet.attention`. The cue is not centre-cropped, and its encoder
            starts from random weights.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; they need `cue`.

    Raises:
        FileNotFoundError, ValueError: the checkpoint is missing, or has another layout or size.
    """

    name = "liveness_vit"
    sees_published: ClassVar[str | None] = "picture"
    published: ClassVar[dict[str, Any] | None] = {
        "title": "face-liveness-vit (Affine Institute, 2026)",
        "files": "model.pt from the releases of github.com/affineinsai/face-liveness-vit",
        "licence": "Apache-2.0",
        "trained_on": "CelebA-Spoof's training list",
    }

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
        sees: str | None = None,
        threshold: float | None = None,
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
            checkpoint = read_published(weights)
            load_weights(self, _our_names(checkpoint, num_heads, weights), weights)
            threshold = float(checkpoint.get("threshold", THRESHOLD)) if threshold is None else threshold
        self.sees = sees or (PICTURE if weights and not cue else CROP)
        check_name("sees", self.sees, (CROP, PICTURE))
        if cue and self.sees == PICTURE:
            raise ValueError(
                "The cue is of the aligned crop, so a detector with one sees the crop too: set sees: crop."
            )
        if threshold is not None:
            check_range("[0, 1]", threshold=threshold)
        if threshold is not None and self.sees == PICTURE:
            self.decision = Decision(1 - threshold, _ORIGIN)
        self._threshold = threshold
        if cue:  # after loading the weights, which have no cross-attention
            encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options)
            self.plug_in(encoder, width, num_heads, depth, layer_norm_eps=1e-5)

    @property
    def _shorter(self) -> int:
        """The length to which a picture's shorter side is resized before the centre crop."""
        return round(self.image_size * 256 / 224)

    def look(self, picture: np.ndarray, box: np.ndarray | None = None, points: np.ndarray | None = None) -> np.ndarray:
        """See `Detector.look`: the whole picture as the public script cuts it, or the crop as it is."""
        if self.sees == CROP:
            return picture
        height, width = picture.shape[:2]
        resized = Image.fromarray(picture).resize(_resized(width, height, self._shorter), Image.Resampling.BILINEAR)
        left, top = (round((length - self.image_size) / 2) for length in resized.size)
        return np.asarray(resized)[top : top + self.image_size, left : left + self.image_size]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `Detector.recognises`."""
        if path.suffix not in (".pt", ".pth"):
            return False
        try:
            return "pos_embed" in read_published(path)["model"]
        except ValueError:
            return False

    def save_pretrained(self, folder: str | Path) -> None:
        """See `Detector.save_pretrained`; also writes what follows from `weights`, which is dropped."""
        self.config = {**self.config, "sees": self.sees, "threshold": self._threshold}
        super().save_pretrained(folder)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; crops need not be square. With `need_weights` and a cue, `attention` is filled."""
        pixels = standardize(image if self.sees == PICTURE else centre(image, self._shorter, self.image_size))
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"{self.name!r} with sees: picture takes {self.image_size} x {self.image_size} pixels, not"
                f" {tuple(image.shape[-2:])}: make them from the whole picture with `look`."
            )
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)  # (B, N, width)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.positions
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
    height, width = map(int, image.shape[-2:])  # of a traced image they are tensors
    size = _resized(width, height, shorter)[::-1]
    if size != (height, width):
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image[..., top : top + side, left : left + side]


def _resized(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Width and height with the shorter side at `shorter`; the longer is rounded down, as in torchvision's Resize."""
    return (shorter * width // height, shorter) if height <= width else (shorter, shorter * height // width)


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

"""FLIP (Srivatsan et al., ICCV 2023): CLIP fine-tuned to separate live faces from attacks, with or without prompts.

GD-FAS (Jung et al., ICCV 2025) has its network and prompts. Like their public code, they feed CLIP images standardised
by ImageNet's mean and deviation, not by CLIP's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.attention import Pluggable
from oanet.batch import DetectorOutput
from oanet.clip import (
    build_clip,
    build_vision_tower,
    clip_config,
    cosines,
    embed_text,
    prompt_ids,
    sizes_of,
    text_length,
)
from oanet.cue_encoder import CueEncoder
from oanet.head import LivenessHead
from oanet.trunks import resize_as_pillow, standardize

# From the paper's table of prompts, six per class, attack first.
PROMPTS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "This is an example of a spoof face",
        "This is an example of an attack face",
        "This is not a real face",
        "This is how a spoof face looks like",
        "A photo of a spoof face",
        "A printout shown to be a spoof face",
    ),
    (
        "This is an example of a real face",
        "This is a bonafide face",
        "This is a real face",
        "This is how a real face looks like",
        "A photo of a real face",
        "This is not a spoof face",
    ),
)


class ClipDetector(Pluggable):
    """Base class of detectors on CLIP. A saved one is loaded without the hub and without its CLIP's folder.

    Args:
        clip: hub id or folder of the CLIP to start from; None for random weights.
        clip_options: the sizes without `clip`, see `oanet.clip.clip_config`.

    Attributes:
        clip_sizes: the `clip_options` that give the same sizes.
        image_size: side that images are resized to.
    """

    def __init__(self, clip: str | None, clip_options: dict[str, Any] | None) -> None:
        super().__init__()
        self.clip_config = clip_config(clip, clip_options)
        self.clip_sizes = sizes_of(self.clip_config)
        self.image_size: int = self.clip_sizes["vision"]["image_size"]

    def plug_into_tower(self, encoder: CueEncoder) -> None:
        """`plug_in` for the blocks of the image tower."""
        sizes = self.clip_sizes["vision"]
        width, heads, depth = (sizes[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        self.plug_in(encoder, width, heads, depth, sizes["layer_norm_eps"])

    def encode(
        self, tower: Any, image: Tensor, cue: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """(B, 3, H, W) in [-1, 1] -> class token of the image tower (B, width), and the maps of `attend`."""
        pixels = standardize(resize_as_pillow(image, self.image_size))
        if not self.needs_cue:
            return tower(pixel_values=pixels).pooler_output, None
        tokens = tower.pre_layrnorm(tower.embeddings(pixels))
        tokens, maps = self.attend(tokens, cue, tower.encoder.layers, (_self_attention, _mlp), need_weights)
        return tower.post_layernorm(tokens[:, 0]), maps

    def save_pretrained(self, folder: str | Path) -> None:
        """See `Detector.save_pretrained`; writes `clip` as null, and its sizes as `clip_options`."""
        self.config = {**self.config, "clip": None, "clip_options": self.clip_sizes}
        super().save_pretrained(folder)


class FlipV(ClipDetector):
    """FLIP-V: CLIP's image tower and SSDG's bottleneck, without prompts.

    Full size: 85,799,424 (tower, without its projection) + 393,728 (768 -> 512, ReLU, dropout 0.5, f / sqrt(2 ||f||))
    + 1,026 (classifier) = 86,194,178 parameters.

    Args:
        clip: hub id or folder of the CLIP to start from, openai/clip-vit-base-patch16 in the paper; None for random
            weights.
        clip_options: the sizes without `clip`, see `oanet.clip.clip_config`.
        embedding_dim: width of the feature.
        cue: attend to the cue in every block, see `oanet.attention`; its encoder starts from random weights.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; they need `cue`.

    Raises:
        OSError, ValueError: the CLIP cannot be loaded, or the sizes are invalid.
    """

    name = "flip_v"

    def __init__(
        self,
        clip: str | None = None,
        clip_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        cue: bool = False,
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(clip, clip_options)
        self.feature_dim = embedding_dim
        self.tower = build_vision_tower(clip, self.clip_config)
        self.head = LivenessHead(self.clip_sizes["vision"]["hidden_size"], embedding_dim, bottleneck=True)
        if cue:
            self.plug_into_tower(CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options))

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        pooled, maps = self.encode(self.tower, image, cue, need_weights)
        logits, features = self.head(pooled)
        return DetectorOutput(logits, features, maps)


class FlipIT(ClipDetector):
    """FLIP-IT: the class whose prompts are more similar to the image.

    Logits are CLIP's learned scale times the cosine of the image's embedding with each class's, the mean embedding of
    its six `PROMPTS`. Both towers are trained, so training embeds the twelve prompts in every step; evaluation does it
    once, until the weights change. Features are the image's embedding as a unit vector.

    Full size: 149,620,737 parameters, the whole CLIP ViT-B/16. There is no classifier to exchange.

    Args:
        clip: hub id or folder of the CLIP to start from, openai/clip-vit-base-patch16 in the paper; None for random
            weights and a vocabulary of the prompts' words, see `oanet.clip.prompt_ids`.
        clip_options: the sizes without `clip`, see `oanet.clip.clip_config`.
        cue: attend to the cue in every block of the image tower, see `oanet.attention`; its encoder starts from random
            weights. Not with the objectives `flip_mcl` and `gd_fas`, whose views have no cue.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; they need `cue`.

    Raises:
        OSError, ValueError: the CLIP cannot be loaded, or the sizes are invalid.
    """

    name = "flip_it"
    prompt_ids: Tensor  # (12, length of the longest text)

    def __init__(
        self,
        clip: str | None = None,
        clip_options: dict[str, Any] | None = None,
        cue: bool = False,
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(clip, clip_options)
        self.feature_dim = self.clip_sizes["projection_dim"]
        self.clip = build_clip(clip, self.clip_config)
        with torch.device("cpu"):  # the length is a value, which tensors of the meta device have not
            ids = prompt_ids(clip, self.clip_config, [text for texts in PROMPTS for text in texts])
            self._length: int | None = text_length(ids)  # kept, since a look waits for a GPU; None after new prompts
        self.register_buffer("prompt_ids", ids.to(torch.empty(0).device))
        self._embedded: Tensor | None = None  # the prompts' embeddings in evaluation
        if cue:
            self.plug_into_tower(CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options))
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        pooled, maps = self.encode(self.clip.vision_model, image, cue, need_weights)
        output = self.compare(self.clip.visual_projection(pooled).float(), self.embed_prompts())
        return DetectorOutput(output.logits, output.features, maps)

    def embed_images(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D) float32, not normalised; only without the option `cue`."""
        pooled, _ = self.encode(self.clip.vision_model, image, None, need_weights=False)
        return self.clip.visual_projection(pooled).float()

    def embed_prompts(self) -> Tensor:
        """(2, 6, D) float32, attack first, not normalised; cached in evaluation without gradients."""
        if self.training or torch.is_grad_enabled():
            return self._embed()
        if self._embedded is None:
            with torch.autocast(self.prompt_ids.device.type, enabled=False):
                self._embedded = self._embed()
        return self._embedded

    def _embed(self) -> Tensor:
        if self._length is None:
            self._length = text_length(self.prompt_ids)
        return embed_text(self.clip, self.prompt_ids[:, : self._length]).float().unflatten(0, (2, -1))

    def compare(self, images: Tensor, prompts: Tensor) -> DetectorOutput:
        """Embeddings of images (B, D) and of prompts (2, P, D), averaged per class -> the output."""
        with torch.autocast(images.device.type, enabled=False):
            logits = self.clip.logit_scale.exp() * cosines(images.float(), prompts.float().mean(dim=1))
            return DetectorOutput(logits, F.normalize(images.float(), dim=1))

    def train(self, mode: bool = True) -> FlipIT:
        """See `nn.Module.train`; clears the cached embeddings."""
        self._embedded = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> FlipIT:
        """A move to another device or dtype also clears them."""
        self._embedded = None
        return super()._apply(fn, recurse)


class FlipMCL(FlipIT):
    """FLIP-MCL: `FlipIT` without a cue, named after its objective `flip_mcl`, which holds all else that is trained.

    Args:
        clip, clip_options: see `FlipIT`.
    """

    name = "flip_mcl"

    def __init__(self, clip: str | None = None, clip_options: dict[str, Any] | None = None) -> None:
        super().__init__(clip, clip_options)


class GDFAS(FlipIT):
    """GD-FAS: `FlipIT` without a cue, whose features are the images' embeddings as they are, not as unit vectors.

    All else that is trained belongs to its objective `gd_fas`, and takes no part in the score.

    Args:
        clip, clip_options: see `FlipIT`.
    """

    name = "gd_fas"

    def __init__(self, clip: str | None = None, clip_options: dict[str, Any] | None = None) -> None:
        super().__init__(clip, clip_options)

    def compare(self, images: Tensor, prompts: Tensor) -> DetectorOutput:
        """See `FlipIT.compare`."""
        return replace(super().compare(images, prompts), features=images.float())


def _forget(detector: FlipIT, keys: Any) -> None:
    """New weights, and perhaps prompts, clear what was remembered of the former ones."""
    detector._embedded = detector._length = None


def _self_attention(block: Any, tokens: Tensor) -> Tensor:
    """First half of a block of CLIP's image tower."""
    attended, _ = block.self_attn(hidden_states=block.layer_norm1(tokens))
    return tokens + attended


def _mlp(block: Any, tokens: Tensor) -> Tensor:
    """Second half of a block."""
    return tokens + block.mlp(block.layer_norm2(tokens))

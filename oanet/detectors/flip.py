"""FLIP (Srivatsan et al., ICCV 2023): CLIP fine-tuned to tell live faces from attacks, by pictures or by words too.

Its public code gives CLIP pictures with ImageNet's mean and deviation, not CLIP's own; so it is here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from oanet.clip import (
    build_clip,
    build_vision_tower,
    clip_config,
    cosines,
    embed_text,
    prompt_ids,
    sizes_of,
)
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import captures_config
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.pixels import standardize
from oanet.plug import Pluggable
from oanet.vit import resize

# The wording is the paper's own table of prompts, six a class, attack first.
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
    """A detector on CLIP; saved, it needs neither the hub nor the folder that its weights came from.

    Attributes:
        clip_sizes: what `clip_options` would have to say.
        image_size: side that pictures are resized to.
    """

    clip_sizes: dict[str, Any]
    image_size: int

    def plug_into_tower(self, encoder: CueEncoder) -> None:
        """`plug_in` for the blocks of the image tower."""
        sizes = self.clip_sizes["vision"]
        width, heads, depth = (sizes[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        self.plug_in(encoder, width, heads, depth, sizes["layer_norm_eps"])

    def see(
        self, tower: Any, image: torch.Tensor, cue: torch.Tensor | None, need_weights: bool
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """(B, 3, H, W) in [-1, 1] -> the class token behind the image tower (B, width), and the maps of `attend`."""
        pixels = standardize(resize(image, self.image_size))
        if not self.needs_cue:
            return tower(pixel_values=pixels).pooler_output, None
        blocks = [(partial(_self_attention, block), partial(_mlp, block)) for block in tower.encoder.layers]
        tokens, maps = self.attend(tower.pre_layrnorm(tower.embeddings(pixels)), cue, blocks, need_weights)
        return tower.post_layernorm(tokens[:, 0]), maps

    def save_pretrained(self, folder: str | Path) -> None:
        """See `Detector.save_pretrained`; `clip` is written as none, and its sizes as `clip_options`."""
        self.config = {**self.config, "clip": None, "clip_options": self.clip_sizes}
        super().save_pretrained(folder)


class FlipV(ClipDetector):
    """FLIP-V: CLIP's image tower and SSDG's bottleneck, without words.

    Full size: 85,799,424 (tower, without its projection) + 393,728 (768 -> 512, ReLU, dropout 0.5, f / sqrt(2 ||f||))
    + 1,026 (classifier) = 86,194,178 parameters.

    Args:
        clip: hub id or folder of the CLIP whose weights it starts from, openai/clip-vit-base-patch16 in the paper;
            None for random weights.
        clip_options: the size without `clip`, see `oanet.clip.clip_config`.
        embedding_dim: width of the feature.
        cue: attend to the cue in every block, see `oanet.plug`; its encoder starts from random weights.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; read with `cue` alone.

    Raises:
        OSError, ValueError: no such CLIP, or sizes that do not fit.
    """

    name: ClassVar[str] = "flip_v"
    needs_cue: ClassVar[bool] = False

    @captures_config
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
        super().__init__()
        config = clip_config(clip, clip_options)
        self.clip_sizes = sizes_of(config)
        sizes = self.clip_sizes["vision"]
        self.image_size = sizes["image_size"]
        self.feature_dim = embedding_dim
        self.tower = build_vision_tower(clip, config)
        self.head = LivenessHead(sizes["hidden_size"], embedding_dim, bottleneck=True)
        if cue:
            self.plug_into_tower(CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options))

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        pooled, maps = self.see(self.tower, image, cue, need_weights)
        logits, features = self.head(pooled)
        return DetectorOutput(logits, features, maps)


class FlipIT(ClipDetector):
    """FLIP-IT: the class whose words the picture is nearer to.

    Logits are CLIP's learned scale times the cosine of the picture's embedding with each class's, which is the mean
    of the embeddings of its six `PROMPTS`. Both towers are trained, so in training the twelve prompts are embedded in
    every step; in evaluation once, until the weights change. Features are the picture's embedding as a unit vector.

    Full size: 149,620,737 parameters, CLIP ViT-B/16 whole. There is no classifier that another could replace.

    Args:
        clip: hub id or folder of the CLIP whose weights it starts from, openai/clip-vit-base-patch16 in the paper;
            None for random weights, whose words are numbers of their own, see `oanet.clip.prompt_ids`.
        clip_options: the size without `clip`, see `oanet.clip.clip_config`.
        cue: attend to the cue in every block of the image tower, see `oanet.plug`; its encoder starts from random
            weights. Not with the objective `flip_mcl`, whose views of a face have no cue.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; read with `cue` alone.

    Raises:
        OSError, ValueError: no such CLIP, or sizes that do not fit.
    """

    name: ClassVar[str] = "flip_it"
    needs_cue: ClassVar[bool] = False
    prompt_ids: torch.Tensor  # (12, longest text)

    @captures_config
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
        super().__init__()
        config = clip_config(clip, clip_options)
        self.clip_sizes = sizes_of(config)
        self.image_size = self.clip_sizes["vision"]["image_size"]
        self.feature_dim = self.clip_sizes["projection_dim"]
        self.clip = build_clip(clip, config)
        self.register_buffer("prompt_ids", prompt_ids(clip, config, [text for texts in PROMPTS for text in texts]))
        self._embedded: torch.Tensor | None = None
        if cue:
            self.plug_into_tower(CueEncoder(cue_backbone, cue_channels, cue_stages, options=cue_options))
        self.register_load_state_dict_post_hook(_forget)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        pooled, maps = self.see(self.clip.vision_model, image, cue, need_weights)
        output = self.compare(self.clip.visual_projection(pooled).float(), self.embed_prompts())
        return DetectorOutput(output.logits, output.features, maps)

    def embed_images(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D) float32, not normalised; for a detector without the cue."""
        pooled, _ = self.see(self.clip.vision_model, image, None, need_weights=False)
        return self.clip.visual_projection(pooled).float()

    def embed_prompts(self) -> torch.Tensor:
        """(2, 6, D) float32, attack first, not normalised; remembered in evaluation where no gradient is wanted."""
        if self.training or torch.is_grad_enabled():
            return embed_text(self.clip, self.prompt_ids).float().unflatten(0, (2, -1))
        if self._embedded is None:
            with torch.autocast(self.prompt_ids.device.type, enabled=False):
                self._embedded = embed_text(self.clip, self.prompt_ids).float().unflatten(0, (2, -1))
        return self._embedded

    def compare(self, images: torch.Tensor, prompts: torch.Tensor) -> DetectorOutput:
        """Embeddings of pictures (B, D) and of prompts (2, P, D), each class the mean of its own -> the answer."""
        with torch.autocast(images.device.type, enabled=False):
            logits = self.clip.logit_scale.exp() * cosines(images.float(), prompts.float().mean(dim=1))
            return DetectorOutput(logits, F.normalize(images.float(), dim=1))

    def train(self, mode: bool = True) -> FlipIT:
        """See `nn.Module.train`; the remembered embeddings are forgotten."""
        self._embedded = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> FlipIT:
        """Moving to a device or a dtype; likewise."""
        self._embedded = None
        return super()._apply(fn, recurse)


class FlipMCL(FlipIT):
    """FLIP-MCL: `FlipIT` under the name of its training, the objective `flip_mcl`, which owns what is trained beside.

    Any other objective trains it as `flip_it`.

    Args:
        clip, clip_options: see `FlipIT`. It takes no cue.
    """

    name: ClassVar[str] = "flip_mcl"

    @captures_config
    def __init__(self, clip: str | None = None, clip_options: dict[str, Any] | None = None) -> None:
        super().__init__(clip, clip_options)


def _forget(detector: FlipIT, keys: Any) -> None:
    """The remembered embeddings were of other weights."""
    detector._embedded = None


def _self_attention(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The first half of a block of CLIP's image tower."""
    attended, _ = block.self_attn(hidden_states=block.layer_norm1(tokens))
    return tokens + attended


def _mlp(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The second half."""
    return tokens + block.mlp(block.layer_norm2(tokens))

"""Who is in the picture: the condition of the generator.

A frozen face recogniser turns a face into a 7 x 7 map before pooling; its cells are the identity tokens that
the U-Net attends to. It was trained to tell persons apart, whatever the camera, paper or screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from dfg.iresnet import DEPTHS, WIDTHS, IResNet
from dfg.noise import seeded
from dfg.onnx_identity import OnnxIdentityEncoder
from dfg.tokens import map_to_tokens, pad_tokens, resize_face

__all__ = ["IDENTITY_PRESETS", "IdentityEncoder", "OnnxIdentityEncoder", "map_to_tokens", "pad_tokens"]

IDENTITY_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "layers": (1, 1, 1, 1),
        "widths": (16, 32, 64, 128),
        "input_size": 56,
        "strides": (1, 2, 2, 2),
        "embedding_dim": 128,
    },
    **{f"iresnet{depth}": {"layers": layers} for depth, layers in DEPTHS.items()},
}


class IdentityEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face -> identity tokens, by the trunk of an ArcFace network.

    `forward` and `embed` always run in evaluation mode and without gradients: to the generator the encoder is
    frozen. `embedding` is the differentiable path on which ArcFace trains it.

    Args:
        layers: residual units of the four stages.
        widths: channels of the four stages; the last one is the width of a token.
        input_size: side in pixels to which faces are resized.
        strides: of the four stages.
        embedding_dim: length of the embedding, or None for the trunk alone (tokens, but no `embed`).
    """

    @register_to_config
    def __init__(
        self,
        layers: Sequence[int] = DEPTHS[18],
        widths: Sequence[int] = WIDTHS,
        input_size: int = 112,
        strides: Sequence[int] = (2, 2, 2, 2),
        embedding_dim: int | None = 512,
    ) -> None:
        super().__init__()
        self.backbone = IResNet(layers, widths, input_size, strides, embedding_dim)
        self.num_tokens = self.backbone.map_size**2
        self.token_dim = widths[-1]

    @classmethod
    def from_preset(cls, preset: str, seed: int = 0, **overrides: Any) -> IdentityEncoder:
        """A randomly initialised encoder: `tiny`, `iresnet18`, `iresnet34`, `iresnet50` or `iresnet100`.

        Raises:
            ValueError: no such preset.
        """
        if preset not in IDENTITY_PRESETS:
            raise ValueError(f"no identity preset {preset!r}; there are {', '.join(IDENTITY_PRESETS)}.")
        with seeded(seed):
            return cls(**{**IDENTITY_PRESETS[preset], **overrides}).eval()

    @classmethod
    def from_backbone_pth(cls, path: str | Path, preset: str) -> IdentityEncoder:
        """Load an ArcFace `backbone.pth`, a plain state dict with insightface's names.

        A file without `fc.*` and `features.*` gives the trunk alone. Nothing is unpickled but tensors.

        Raises:
            ValueError: the file is no state dict of this preset; names what is missing or unexpected.
        """
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
            raise ValueError(f"{path} holds no state dict: a dictionary of names and tensors is expected.")
        head = any(name.startswith(("fc.", "features.")) for name in state)
        encoder = cls.from_preset(preset) if head else cls.from_preset(preset, embedding_dim=None)
        _check_state(state, encoder.backbone.state_dict(), f"{path} does not fit the preset {preset!r}")
        # An absent batch counter is harmless: it counts training steps and takes no part in evaluation.
        encoder.backbone.load_state_dict(state, strict=False)
        return encoder

    def embedding(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> embedding before normalisation, (B, E).

        Differentiable, and in the mode that the encoder is in: what ArcFace trains.
        """
        return self.backbone(self._resize(image))

    @torch.no_grad()
    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> embedding of unit length, (B, E).

        Raises:
            ValueError: the encoder is a trunk without a head.
        """
        with _evaluating(self.backbone):
            return F.normalize(self.embedding(image).float())

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> identity tokens, (B, num_tokens, token_dim), row by row of the map."""
        with _evaluating(self.backbone):
            return map_to_tokens(self.backbone.trunk(self._resize(image)))

    def _resize(self, image: torch.Tensor) -> torch.Tensor:
        return resize_face(image.to(self.dtype), self.config["input_size"])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode afterwards: batch statistics would mix the faces of a batch."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _check_state(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], complaint: str) -> None:
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"{complaint}; {'; '.join(found)}. Presets: {', '.join(IDENTITY_PRESETS)}.")


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

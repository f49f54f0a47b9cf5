"""U-Net presets on diffusers' UNet2DConditionModel."""

from __future__ import annotations

from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from dfg.noise import seeded
from dfg.preconditioned import PreconditionedUNet

UNET_PRESETS: dict[str, dict[str, Any]] = {
    # For latents of 16x16 on a processor: minutes, not days.
    "tiny": {
        "block_out_channels": (32, 64, 128),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 128,
    },
    # 111.7 M parameters on identity tokens of 512.
    "compact": {"block_out_channels": (128, 256, 384, 512), "cross_attention_dim": 512},
    # Stable Diffusion 1.5, 859,520,964 parameters with 4 latent channels; its weights load.
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
}


def build_unet(
    preset: str,
    *,
    in_channels: int,
    sample_size: int,
    cross_attention_dim: int | None = None,
    seed: int = 0,
    latent_variance: list[float] | None = None,
    **overrides: Any,
) -> UNet2DConditionModel | PreconditionedUNet:
    """A randomly initialised U-Net that predicts noise of the latents' own shape.

    Args:
        preset: `tiny`, `compact` or `sd15`.
        in_channels: of the latents, in and out.
        sample_size: height and width of the latents.
        cross_attention_dim: width of the padded identity tokens; None takes the preset's (128, 512, 768).
        seed: of the first weights.
        latent_variance: of every latent channel; makes a `PreconditionedUNet` of the preset's size.
        overrides: further arguments of UNet2DConditionModel, in place of the preset's.

    Raises:
        ValueError: no such preset.
    """
    if preset not in UNET_PRESETS:
        raise ValueError(f"no U-Net preset {preset!r}; there are {', '.join(UNET_PRESETS)}.")
    config = {**UNET_PRESETS[preset], **overrides}
    if cross_attention_dim is not None:
        config["cross_attention_dim"] = cross_attention_dim
    if latent_variance is not None:
        width = config.pop("cross_attention_dim")
        inner = {**config, "sample_size": sample_size}
        return PreconditionedUNet(inner, latent_variance, in_channels, in_channels, width, seed)
    with seeded(seed):
        return UNet2DConditionModel(
            in_channels=in_channels, out_channels=in_channels, sample_size=sample_size, **config
        )


def checkpoint_gradients(unet: Any) -> None:
    """Compute the blocks' activations again in the backward pass: less memory for more time, the same gradients."""
    net = unet.net if isinstance(unet, PreconditionedUNet) else unet
    net.enable_gradient_checkpointing()

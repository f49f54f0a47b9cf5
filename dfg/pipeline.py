"""The De-fake Face Generator: noise to t, denoise with the identity, decode.

AG-FAS ("Generalized Face Liveness Detection via De-fake Face Generator"), section III-B, with deterministic DDIM
as in its equation 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image

# diffusers finds a saved component's class by its module's name among the modules already imported.
from dfg import autoencoder as _autoencoder  # noqa: F401
from dfg import identity as _identity  # noqa: F401
from dfg import onnx_identity as _onnx_identity  # noqa: F401
from dfg import preconditioned as _preconditioned
from dfg import taesd as _taesd  # noqa: F401
from dfg.latents import decode_latents, encode_latents, latent_channels
from dfg.noise import noise_for_keys, noise_from_generators
from dfg.schedule import add_noise, ddim_step, timesteps_from
from dfg.tokens import pad_tokens

# Tokens of a 7 x 7 map: the length of the zero condition where there is no encoder to ask.
_DEFAULT_TOKENS = 49

CONDITIONS = ("identity", "none")


@dataclass
class DeFakeOutput(BaseOutput):
    """What a face would look like if it were real.

    Attributes:
        image: (B, 3, H, W) float32 in [-1, 1], or B pictures of PIL with `output_type="pil"`.
        latents: (B, C, h, w) float32, the restored latents before decoding.
    """

    image: Any
    latents: torch.Tensor


class DeFakePipeline(DiffusionPipeline):
    """Restores faces: what a generator of live faces makes of a noised face when told who it is.

    Args:
        autoencoder: AutoencoderKL, AutoencoderTiny, PatchAutoencoder or TaesdAutoencoder.
        unet: UNet2DConditionModel or PreconditionedUNet with as many channels as the latents.
        scheduler: of diffusers, with epsilon prediction; only its schedule is used, the step is DDIM's.
        identity_encoder: IdentityEncoder, OnnxIdentityEncoder, or None for a generator without a condition.

    Raises:
        ValueError: the components do not fit each other; says which numbers differ.
    """

    autoencoder: Any
    unet: Any
    scheduler: Any
    identity_encoder: Any

    _optional_components = ["identity_encoder"]  # noqa: RUF012 (diffusers asks for this list)

    def __init__(
        self,
        autoencoder: Any,
        unet: UNet2DConditionModel | _preconditioned.PreconditionedUNet,
        scheduler: Any,
        identity_encoder: Any = None,
    ) -> None:
        super().__init__()
        _check_components(autoencoder, unet, scheduler, identity_encoder)
        self.register_modules(
            autoencoder=autoencoder, unet=unet, scheduler=scheduler, identity_encoder=identity_encoder
        )

    @torch.no_grad()
    def __call__(
        self,
        image: torch.Tensor,
        timestep: int = 801,
        num_inference_steps: int = 50,
        keys: Sequence[str] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        seed: int = 0,
        condition: str = "identity",
        output_type: str = "pt",
        progress: Callable[[int, int], None] | None = None,
    ) -> DeFakeOutput:
        """Restore a batch of faces; each result depends on its own face, key and seed alone.

        Args:
            image: (B, 3, H, W) float in [-1, 1], RGB, aligned.
            timestep: level of the noise on the grid of steps; higher keeps less of the picture. See
                `dfg.schedule.timesteps_from`.
            num_inference_steps: steps of the whole grid, of which those up to `timestep` are made.
            keys: B strings that name each face's noise; or else
            generators: B generators, one per face. One of the two, unless `timestep` is 0.
            seed: goes with `keys`; another seed gives every face another noise.
            condition: `identity`, or `none` for zero tokens.
            output_type: `pt` for a tensor, `pil` for pictures of PIL.
            progress: called as progress(done, total) after every call of the U-Net.

        Raises:
            ValueError: an argument is out of its range; says what is allowed.
        """
        if output_type not in ("pt", "pil"):
            raise ValueError(f"output_type={output_type!r} must be 'pt' or 'pil'.")
        # 1. To latents, by the mode of the posterior.
        latents = self.encode(image)
        # 2. Who it is.
        tokens = self.identity_tokens(image, condition)
        # 3. One stream of noise per face.
        noise = self.draw_noise(latents, keys, generators, seed) if timestep else torch.zeros_like(latents)
        # 4. Noise to t and denoise.
        latents = self.restore_latents(latents, tokens, timestep, num_inference_steps, noise, progress)
        # 5. Back to pixels.
        restored = self.decode(latents)
        return DeFakeOutput(image=to_pil(restored) if output_type == "pil" else restored, latents=latents)

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32.

        Raises:
            ValueError: not a batch of RGB pictures in [-1, 1].
        """
        _check_image(image)
        return encode_latents(self.autoencoder, image.to(self.autoencoder.device))

    @torch.no_grad()
    def identity_tokens(self, image: torch.Tensor, condition: str = "identity") -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> tokens (B, N, D) zero-padded to the U-Net's width; all zero for `none`.

        Raises:
            ValueError: an unknown condition, or `identity` without an identity encoder.
        """
        if condition not in CONDITIONS:
            raise ValueError(f"condition={condition!r} must be one of {', '.join(CONDITIONS)}.")
        width = self.unet.config["cross_attention_dim"]
        encoder = self.identity_encoder
        if condition == "none":
            number = _DEFAULT_TOKENS if encoder is None else encoder.num_tokens
            return torch.zeros(len(image), number, width, device=self.unet.device)
        if encoder is None:
            raise ValueError("this generator has no identity encoder: use condition='none'.")
        tokens = encoder(image.to(encoder.device)).float()
        return pad_tokens(tokens, width).to(self.unet.device)

    def draw_noise(
        self,
        latents: torch.Tensor,
        keys: Sequence[str] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        seed: int = 0,
    ) -> torch.Tensor:
        """Noise of the latents' shape (B, C, h, w), one stream per face, from keys or from generators.

        Raises:
            ValueError: not exactly one of the two was given, or not one per face.
        """
        if (keys is None) == (generators is None):
            raise ValueError("give either keys (one string per face) or generators (one per face).")
        streams: Sequence[object] = keys or generators or []
        if len(streams) != len(latents):
            raise ValueError(f"{len(latents)} faces need as many streams of noise; got {len(streams)}.")
        shape, device = tuple(latents.shape[1:]), latents.device
        if keys is not None:
            return noise_for_keys(keys, shape, seed, device)
        return noise_from_generators(generators, shape, device)  # type: ignore[arg-type]

    @torch.no_grad()
    def restore_latents(
        self,
        latents: torch.Tensor,
        tokens: torch.Tensor,
        timestep: int,
        num_inference_steps: int,
        noise: torch.Tensor,
        progress: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """Noise latents (B, C, h, w) to `timestep` and denoise them with the tokens (B, N, D).

        Deterministic DDIM. Several timesteps of one batch can share latents, tokens and noise. The arithmetic
        between the U-Net's calls is float32 whatever type the U-Net has.
        """
        timesteps = timesteps_from(self.scheduler, timestep, num_inference_steps)
        if not timesteps:
            return latents
        noisy = add_noise(self.scheduler, latents.float(), noise.float(), timesteps[0]).to(self.unet.device)
        tokens = tokens.to(self.unet.device, self.unet.dtype)
        for i, (t, next_t) in enumerate(zip(timesteps, [*timesteps[1:], None], strict=True)):
            epsilon = self.unet(noisy.to(self.unet.dtype), t, encoder_hidden_states=tokens).sample
            noisy = ddim_step(self.scheduler, noisy, epsilon.float(), t, next_t)
            if progress is not None:
                progress(i + 1, len(timesteps))
        return noisy

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> pictures (B, 3, H, W) float32, clamped to [-1, 1]."""
        return decode_latents(self.autoencoder, latents.to(self.autoencoder.device))


def to_pil(image: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] -> B pictures, rounded to 8 bits."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _check_components(autoencoder: Any, unet: Any, scheduler: Any, identity_encoder: Any) -> None:
    channels = latent_channels(autoencoder)
    if not unet.config["in_channels"] == unet.config["out_channels"] == channels:
        raise ValueError(
            f"the autoencoder makes latents of {channels} channels, but the U-Net takes "
            f"{unet.config['in_channels']} and gives {unet.config['out_channels']}: "
            f"build it with build_unet(..., in_channels={channels})."
        )
    if scheduler.config["prediction_type"] != "epsilon":
        raise ValueError(f"prediction_type must be 'epsilon', not {scheduler.config['prediction_type']!r}.")
    width = unet.config["cross_attention_dim"]
    if identity_encoder is not None and identity_encoder.token_dim > width:
        raise ValueError(
            f"identity tokens of {identity_encoder.token_dim} values do not fit the U-Net's "
            f"cross_attention_dim={width}: build it with {identity_encoder.token_dim} or more."
        )


def _check_image(image: torch.Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"faces must be float tensors (B, 3, H, W); got {tuple(image.shape)} of {image.dtype}.")
    if image.numel() and not image.abs().max() <= 1 + 1e-3:
        raise ValueError(
            f"faces must lie in [-1, 1], but reach from {image.min():.3g} to {image.max():.3g}: "
            "bytes become x / 127.5 - 1."
        )

"""The De-fake Face Generator: noise to t, denoise with the identity, decode.

AG-FAS ("Generalized Face Liveness Detection via De-fake Face Generator"), section III-B, with deterministic DDIM
as in its equation 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from dfg import projection as _projection  # noqa: F401
from dfg import taesd as _taesd  # noqa: F401
from dfg.attention import identity_held
from dfg.fit import check_components, check_image, check_tokens
from dfg.latents import decode_latents, encode_latents
from dfg.noise import noise_for_keys, noise_from_generators
from dfg.prediction import as_epsilon, prediction_of
from dfg.samplers import open_sampler
from dfg.schedule import add_noise
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


@dataclass(frozen=True)
class Told:
    """Identity tokens as the U-Net takes them, their keys and values held; see `DeFakePipeline.told`.

    Attributes:
        tokens: (B, N, D) of the U-Net's type; with guidance (2B, N, D), zero tokens first.
        guidance_scale: of classifier-free guidance; 1 is none.
    """

    tokens: torch.Tensor
    guidance_scale: float


class DeFakePipeline(DiffusionPipeline):
    """Restores faces: what a generator of live faces makes of a noised face when told who it is.

    Args:
        autoencoder: AutoencoderKL, AutoencoderTiny, PatchAutoencoder or TaesdAutoencoder.
        unet: UNet2DConditionModel or PreconditionedUNet with as many channels as the latents.
        scheduler: of diffusers, with epsilon or v prediction; only its schedule is used, the steps are those of
            `dfg.samplers`.
        identity_encoder: IdentityEncoder, OnnxIdentityEncoder, or None for a generator without a condition.
        token_projection: TokenProjection, or None to pad identity tokens with zeros as the paper does.

    Raises:
        ValueError: the components do not fit each other; says which numbers differ.
    """

    autoencoder: Any
    unet: Any
    scheduler: Any
    identity_encoder: Any
    token_projection: Any

    _optional_components = ["identity_encoder", "token_projection"]  # noqa: RUF012 (diffusers asks for this list)

    def __init__(
        self,
        autoencoder: Any,
        unet: UNet2DConditionModel | _preconditioned.PreconditionedUNet,
        scheduler: Any,
        identity_encoder: Any = None,
        token_projection: Any = None,
    ) -> None:
        super().__init__()
        check_components(autoencoder, unet, scheduler)
        check_tokens(unet, identity_encoder, token_projection)
        self.register_modules(
            autoencoder=autoencoder,
            unet=unet,
            scheduler=scheduler,
            identity_encoder=identity_encoder,
            token_projection=token_projection,
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
        sampler: str = "ddim",
        calls: int | None = None,
        guidance_scale: float = 1.0,
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
            sampler: `ddim`, `unipc` or `dpmsolver++`; see `dfg.samplers`.
            calls: so many evenly spaced calls of the U-Net from `timestep` down instead of the grid's.
            guidance_scale: s of classifier-free guidance; see `told`.

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
        with self.told(tokens, guidance_scale) as told:
            latents = self.restore_latents(
                latents, told, timestep, num_inference_steps, noise, progress, sampler=sampler, calls=calls
            )
        # 5. Back to pixels.
        restored = self.decode(latents)
        return DeFakeOutput(image=to_pil(restored) if output_type == "pil" else restored, latents=latents)

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32.

        Raises:
            ValueError: not a batch of RGB pictures in [-1, 1].
        """
        check_image(image)
        return encode_latents(self.autoencoder, image.to(self.autoencoder.device))

    @torch.no_grad()
    def identity_tokens(self, image: torch.Tensor, condition: str = "identity") -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> tokens (B, N, D), padded or projected to the U-Net's width; zeros for `none`.

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
        if self.token_projection is not None:
            return self.token_projection(tokens.to(self.token_projection.device)).float().to(self.unet.device)
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

    @contextmanager
    def told(self, tokens: torch.Tensor, guidance_scale: float = 1.0) -> Iterator[Told]:
        """Project the keys and values of some faces' identity once for all restorations inside the block.

        Args:
            tokens: (B, N, D) of `identity_tokens`.
            guidance_scale: s of classifier-free guidance (Ho and Salimans 2022): the noise is taken to be
                none + s (told - none), where `none` is what the U-Net sees with zero tokens. For a generator trained
                with condition dropout. Both are rows of one batch: half the launches on a GPU, twice the memory of
                the activations. 1 is off, and costs nothing.

        Raises:
            ValueError: a scale below 0.
        """
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale={guidance_scale} must be 0 or more; 1 is no guidance.")
        tokens = tokens.to(self.unet.device, self.unet.dtype)
        if guidance_scale != 1:
            tokens = torch.cat([torch.zeros_like(tokens), tokens])
        with torch.no_grad(), identity_held(self.unet, tokens):
            yield Told(tokens, guidance_scale)

    @torch.no_grad()
    def restore_latents(
        self,
        latents: torch.Tensor,
        tokens: torch.Tensor | Told,
        timestep: int,
        num_inference_steps: int,
        noise: torch.Tensor,
        progress: Callable[[int, int], None] | None = None,
        sampler: str = "ddim",
        calls: int | None = None,
    ) -> torch.Tensor:
        """Noise latents (B, C, h, w) to `timestep` and denoise them with the tokens (B, N, D).

        Deterministic. Several timesteps of one batch can share latents, noise and what `told` gives for the tokens.
        The arithmetic between the U-Net's calls is float32 whatever type the U-Net has.

        Raises:
            ValueError: no such sampler, or an impossible timestep or number of calls.
        """
        if isinstance(tokens, torch.Tensor):
            with self.told(tokens) as told:
                return self.restore_latents(
                    latents, told, timestep, num_inference_steps, noise, progress, sampler=sampler, calls=calls
                )
        way = open_sampler(sampler, self.scheduler, timestep, num_inference_steps, calls)
        if not way.timesteps:
            return latents
        noisy = add_noise(self.scheduler, latents.float(), noise.float(), timestep).to(self.unet.device)
        for index, t in enumerate(way.timesteps):
            noisy = way.step(self.predict_noise(noisy, t, tokens), noisy, index)
            if progress is not None:
                progress(index + 1, len(way.timesteps))
        return noisy

    @torch.no_grad()
    def predict_noise(self, noisy: torch.Tensor, timestep: int, told: Told) -> torch.Tensor:
        """The noise that the U-Net sees in z_t (B, C, h, w), float32, whatever it predicts, guided where asked for."""
        # A PreconditionedUNet does its linear part in the type that it is given.
        exact = isinstance(self.unet, _preconditioned.PreconditionedUNet)
        sample = noisy.float() if exact else noisy.to(self.unet.dtype)
        guided = told.guidance_scale != 1
        # A tensor, because a compiled U-Net would be compiled anew for every number.
        t = torch.tensor(timestep, device=sample.device)
        output = self.unet(torch.cat([sample, sample]) if guided else sample, t, encoder_hidden_states=told.tokens)
        predicted = output.sample.float()
        if guided:
            none, identity = predicted.chunk(2)
            predicted = none + told.guidance_scale * (identity - none)
        abar = float(self.scheduler.alphas_cumprod[timestep])
        return as_epsilon(prediction_of(self.scheduler), predicted, noisy, abar)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> pictures (B, 3, H, W) float32, clamped to [-1, 1]."""
        return decode_latents(self.autoencoder, latents.to(self.autoencoder.device))


def to_pil(image: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] -> B pictures, rounded to 8 bits."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]

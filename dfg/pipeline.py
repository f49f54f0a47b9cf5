"""The De-fake Face Generator: add noise up to timestep t, denoise conditioned on identity, decode.

AG-FAS ("Generalized Face Liveness Detection via De-fake Face Generator"), section III-B, with deterministic DDIM as in
its equation 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import nn

# `from_pretrained` looks up a component's class by module name among the modules that are already imported.
from dfg import taesd as _taesd  # noqa: F401
from dfg.attention import cached_cross_attention
from dfg.autoencoder import Autoencoder, check_image, decode_latents, encode_posterior, latent_channels
from dfg.download import download
from dfg.identity import IdentityEncoder
from dfg.known import check_generator
from dfg.noise import noise_for_keys, noise_from_generators, posterior_keys, to_device
from dfg.onnx_identity import OnnxIdentityEncoder
from dfg.prediction import as_epsilon, prediction_of
from dfg.samplers import open_sampler
from dfg.saved import finish_saving, in_own_memory
from dfg.schedule import NoiseSchedule, add_noise
from dfg.seals import check
from dfg.tokens import TokenProjection, check_width, pad_tokens
from dfg.unet import PreconditionedUNet, check_prediction

# 7 x 7: the number of zero tokens for a generator without an identity encoder.
_DEFAULT_TOKENS = 49

CONDITIONS = ("identity", "none")

POSTERIORS = ("mode", "sample")
"""Which latents of the autoencoder's posterior are noised."""


@dataclass
class DeFakeOutput(BaseOutput):
    """Restored faces.

    Attributes:
        image: (B, 3, H, W) float32 in [-1, 1], or B PIL images with `output_type="pil"`.
        latents: the restored latents before decoding, (B, C, h, w) float32.
    """

    image: torch.Tensor | list[Image.Image]
    latents: torch.Tensor


@dataclass(frozen=True)
class Conditioning:
    """Identity tokens whose keys and values are cached in the U-Net; see `DeFakePipeline.conditioned`.

    Attributes:
        tokens: (B, N, D) in the U-Net's dtype; with guidance (2B, N, D), zero tokens first.
        guidance_scale: s of classifier-free guidance; 1 is none.
    """

    tokens: torch.Tensor
    guidance_scale: float


class DeFakePipeline(DiffusionPipeline):
    """Restores faces: a diffusion model of live faces, conditioned on identity, denoises the noised face.

    Args:
        autoencoder: AutoencoderKL, AutoencoderTiny, PatchAutoencoder or TaesdAutoencoder.
        unet: with as many input and output channels as the latents.
        scheduler: any of diffusers' with epsilon or v prediction; only its noise schedule is used, the steps are those
            of `dfg.samplers`.
        identity_encoder: None for an unconditional generator.
        token_projection: None to pad identity tokens with zeros, as the paper does.

    Raises:
        ValueError: the components do not fit each other; names the numbers that differ.
    """

    autoencoder: Any
    unet: Any
    scheduler: Any
    identity_encoder: Any
    token_projection: Any

    _optional_components = ["identity_encoder", "token_projection"]  # noqa: RUF012 (diffusers requires a list)

    def __init__(
        self,
        autoencoder: Autoencoder,
        unet: UNet2DConditionModel | PreconditionedUNet,
        scheduler: NoiseSchedule,
        identity_encoder: IdentityEncoder | OnnxIdentityEncoder | None = None,
        token_projection: TokenProjection | None = None,
    ) -> None:
        super().__init__()
        _check_latents(autoencoder, unet)
        _check_tokens(unet, identity_encoder, token_projection)
        check_prediction(unet, prediction_of(scheduler))
        self.register_modules(
            autoencoder=autoencoder,
            unet=unet,
            scheduler=scheduler,
            identity_encoder=identity_encoder,
            token_projection=token_projection,
        )

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, *args: Any, **kwargs: Any
    ) -> None:
        """diffusers' `save_pretrained`, without the places that parts were loaded from."""
        super().save_pretrained(save_directory, *args, **kwargs)
        finish_saving(Path(save_directory), ["model_index.json", *(f"{name}/config.json" for name in self.components)])

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> DeFakePipeline:
        """Load a folder of `save_pretrained`, or a model of the hub, after it was checked, into memory of its own.

        Args:
            pretrained_model_name_or_path: the folder, or `USER/NAME`.
            kwargs: diffusers' own, such as `revision`, `token`, `cache_dir` and `local_files_only`.

        Raises:
            ValueError: a file of a sealed folder is not what was written, a class is not known, or a file is no data.
            OSError: the hub does not give it.
        """
        place = Path(pretrained_model_name_or_path)
        if not place.is_dir():
            place = download(str(pretrained_model_name_or_path), cls.__name__, kwargs)
        check(place)
        check_generator(place, cls.__name__, kwargs)
        pipeline = super().from_pretrained(place, **{**kwargs, "use_safetensors": True, "trust_remote_code": False})
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                in_own_memory(part)
        return pipeline

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
        posterior: str = "mode",
    ) -> DeFakeOutput:
        """Restore a batch of faces. Each result depends on its own face, key and seed only.

        Args:
            image: aligned RGB faces (B, 3, H, W), float in [-1, 1].
            timestep: noise level t, on the grid of inference steps; a higher t keeps less of the input. See
                `dfg.schedule.timesteps_from`.
            num_inference_steps: size of the whole grid, of which the steps from `timestep` down are taken.
            keys: B strings; each seeds the noise of its face. Exactly one of `keys` and `generators` is required,
                unless `timestep` is 0.
            generators: B generators, one per face.
            seed: combined with `keys`; another seed gives every face other noise.
            condition: `identity`, or `none` for zero tokens.
            output_type: `pt` for a tensor, `pil` for PIL images.
            progress: called as progress(done, total) after every U-Net call.
            sampler: `ddim`, `unipc`, `dpmsolver++` or `pndm_cut`; see `dfg.samplers`.
            calls: number of evenly spaced U-Net calls from `timestep` down. Default: those of the grid.
            guidance_scale: s of classifier-free guidance; see `conditioned`.
            posterior: `mode`, or `sample` as in the public code, from another stream of the face than its noise; at
                `timestep` 0 always the mode.

        Raises:
            ValueError: an argument is out of range; names the allowed values.
        """
        if posterior not in POSTERIORS:
            raise ValueError(f"posterior={posterior!r} must be one of {', '.join(POSTERIORS)}.")
        if output_type not in ("pt", "pil"):
            raise ValueError(f"output_type={output_type!r} must be 'pt' or 'pil'.")
        # 1. Encode the face.
        latents, deviation = self.encode_posterior(image)
        # 2. Encode the identity that the U-Net is conditioned on.
        tokens = self.identity_tokens(image, condition)
        # 3. Draw noise, one stream per face.
        noise = self.draw_noise(latents, keys, generators, seed) if timestep else torch.zeros_like(latents)
        if timestep and posterior == "sample":
            drawn_for = None if keys is None else posterior_keys(keys)
            latents = latents + deviation * self.draw_noise(latents, drawn_for, generators, seed)
        # 4. Noise the latents to t and denoise them.
        with self.conditioned(tokens, guidance_scale) as conditioning:
            latents = self.restore_latents(
                latents,
                conditioning,
                timestep,
                num_inference_steps,
                noise,
                sampler=sampler,
                calls=calls,
                progress=progress,
            )
        # 5. Decode to pixels.
        restored = self.decode(latents)
        return DeFakeOutput(image=to_pil(restored) if output_type == "pil" else restored, latents=latents)

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w), float32.

        Raises:
            ValueError: not a batch of RGB faces in [-1, 1].
        """
        return self.encode_posterior(image)[0]

    @torch.no_grad()
    def encode_posterior(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mode and deviation of the latents' posterior, both (B, C, h, w) float32; `encode` gives the mode.

        Raises:
            ValueError: not a batch of RGB faces in [-1, 1].
        """
        check_image(image)
        return encode_posterior(self.autoencoder, to_device(image, self.autoencoder.device))

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
            return torch.zeros(image.shape[0], number, width, device=self.unet.device)
        if encoder is None:
            raise ValueError("this generator has no identity encoder: use condition='none'.")
        tokens = encoder(to_device(image, encoder.device)).float()
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
        """Draw noise of the latents' shape (B, C, h, w), one stream per face, from keys or from generators.

        Raises:
            ValueError: not exactly one of the two is given, or not one per face.
        """
        if (keys is None) == (generators is None):
            raise ValueError("give either keys (one string per face) or generators (one per face).")
        streams: Sequence[object] = keys or generators or []
        if len(streams) != len(latents):
            raise ValueError(f"{len(latents)} faces need as many keys or generators; got {len(streams)}.")
        shape, device = tuple(latents.shape[1:]), latents.device
        if keys is not None:
            return noise_for_keys(keys, shape, seed, device)
        return noise_from_generators(generators, shape, device)  # type: ignore[arg-type]

    @contextmanager
    def conditioned(self, tokens: torch.Tensor, guidance_scale: float = 1.0) -> Iterator[Conditioning]:
        """Condition the U-Net on some faces' identity tokens inside the block.

        Their keys and values are projected once, for all timesteps and steps; see `dfg.attention`.

        Args:
            tokens: from `identity_tokens`, (B, N, D).
            guidance_scale: s of classifier-free guidance (Ho and Salimans 2022),
                eps = eps(z, 0) + s (eps(z, tokens) - eps(z, 0)), for a generator trained with condition dropout.
                Both terms are computed in one batch: half the kernel launches on a GPU, twice the activations. 1 is no
                guidance, at no cost.

        Raises:
            ValueError: `guidance_scale` is negative.
        """
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale={guidance_scale} must be 0 or more; 1 is no guidance.")
        tokens = tokens.to(self.unet.device, self.unet.dtype)
        if guidance_scale != 1:
            tokens = torch.cat([torch.zeros_like(tokens), tokens])
        with torch.no_grad(), cached_cross_attention(self.unet, tokens):
            yield Conditioning(tokens, guidance_scale)

    @torch.no_grad()
    def restore_latents(
        self,
        latents: torch.Tensor,
        conditioning: Conditioning,
        timestep: int,
        num_inference_steps: int,
        noise: torch.Tensor,
        *,
        sampler: str = "ddim",
        calls: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """Noise latents (B, C, h, w) to `timestep` and denoise them; returns (B, C, h, w) float32.

        Deterministic. Several timesteps of one batch can share latents, noise and conditioning. Everything between the
        U-Net's calls is float32, whatever the U-Net's dtype. For the other arguments see `__call__`.

        Raises:
            ValueError: an unknown sampler, or `timestep` or `calls` out of range.
        """
        steps = open_sampler(sampler, self.scheduler, timestep, num_inference_steps, calls)
        if not steps.timesteps:
            return latents
        noisy = add_noise(self.scheduler, latents.float(), noise.float(), timestep).to(self.unet.device)
        for index, t in enumerate(steps.timesteps):
            noisy = steps.step(self.predict_noise(noisy, t, conditioning), noisy, index)
            if progress is not None:
                progress(index + 1, len(steps.timesteps))
        return noisy

    @torch.no_grad()
    def predict_noise(self, noisy: torch.Tensor, timestep: int, conditioning: Conditioning) -> torch.Tensor:
        """One U-Net call: the predicted noise eps in z_t, (B, C, h, w) float32, after guidance."""
        # A PreconditionedUNet computes its linear part in the dtype of its input.
        exact = isinstance(self.unet, PreconditionedUNet)
        sample = noisy.float() if exact else noisy.to(self.unet.dtype)
        guided = conditioning.guidance_scale != 1
        if guided:
            sample = torch.cat([sample, sample])
        # A tensor: torch.compile would specialise on, and recompile for, every Python number. Filled on the device: a
        # copy from the host would wait for all kernels before it.
        t = torch.full((), timestep, device=sample.device)
        predicted = self.unet(sample, t, encoder_hidden_states=conditioning.tokens).sample.float()
        if guided:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + conditioning.guidance_scale * (conditional - unconditional)
        abar = float(self.scheduler.alphas_cumprod[timestep])
        return as_epsilon(prediction_of(self.scheduler), predicted, noisy, abar)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> faces (B, 3, H, W), float32 clamped to [-1, 1]."""
        return decode_latents(self.autoencoder, latents.to(self.autoencoder.device))


def to_pil(image: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] -> B PIL images, rounded to 8 bits."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _check_latents(autoencoder: Autoencoder, unet: Any) -> None:
    channels = latent_channels(autoencoder)
    if not unet.config["in_channels"] == unet.config["out_channels"] == channels:
        raise ValueError(
            f"the autoencoder's latents have {channels} channels, but the U-Net has {unet.config['in_channels']} input "
            f"and {unet.config['out_channels']} output channels: build it with build_unet(..., in_channels={channels})."
        )


def _check_tokens(unet: Any, identity_encoder: Any, projection: TokenProjection | None) -> None:
    if identity_encoder is None:
        return
    width, dim = unet.config["cross_attention_dim"], identity_encoder.token_dim
    if projection is None:
        check_width(dim, width)
    elif (projection.config["token_dim"], projection.config["width"]) != (dim, width):
        raise ValueError(
            f"the token projection maps {projection.config['token_dim']} values to {projection.config['width']}, but "
            f"the identity tokens have {dim} values and the U-Net's cross_attention_dim is {width}."
        )

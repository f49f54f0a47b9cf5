"""Models that make the "real" version of a face, as sources of cues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from dfg.baselines.anoddpm import ancestral_steps
from dfg.baselines.base import Baseline
from dfg.noise import noise_for_keys, posterior_keys
from dfg.samplers import open_sampler
from dfg.speed import Speed
from pipelines.cues.custom import CueSource
from pipelines.cues.identity import restoration_identity
from pipelines.cues.settings import (
    AUTOENCODER,
    OWN,
    WITH_TIMESTEP,
    AncestralSettings,
    CueSettings,
    RestorationSettings,
)
from pipelines.errors import AgfasError

_PAPERS = RestorationSettings()


@runtime_checkable
class CueSweep(Protocol):
    """Several sources that differ in t only and share the work that does not depend on it.

    Attributes:
        timesteps: without repetition; 0 is the autoencoder alone.
    """

    timesteps: tuple[int, ...]

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """The fingerprint of the source at one t."""

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) at each of `timesteps`."""


@dataclass(frozen=True)
class EncodedFaces:
    """B faces before the U-Net.

    Attributes:
        latents, deviation: mode and standard deviation of their posterior, (B, C, h, w) float32.
        tokens: of their identity, (B, N, D); None if no t needs them.
    """

    latents: torch.Tensor
    deviation: torch.Tensor
    tokens: torch.Tensor | None

    def drawn(self, keys: Sequence[str], seed: int) -> torch.Tensor:
        """A sample of the posterior, from streams of their own."""
        noise = noise_for_keys(posterior_keys(keys), tuple(self.latents.shape[1:]), seed, self.latents.device)
        return self.latents + self.deviation * noise


class DfgSweep:
    """The De-fake Face Generator at several t: one encode and one identity pass for all.

    Args:
        pipeline: a `dfg.pipeline.DeFakePipeline`; its types and layout are changed to `settings`.
        timesteps: of the sampler's grid; 0 for the autoencoder alone.
        weights_sha256: of the saved pipeline, by `pipelines.fingerprint.folder_sha256`.
        autoencoder_sha256: of the autoencoder alone, for t = 0: another generator with the same autoencoder shares this
            control. With `settings.autoencoder`, of what has taken the place of the generator's own.
        settings: everything else that decides the restorations. With `samples` above 1, restorations from the streams
            seed, seed + 1, ... are averaged: the noise that one restoration leaves is most of a small generator's
            cue, and the mean of four has half of it.
        condition: `identity`, or `none` for zero tokens, the only choice of a pipeline without encoder.

    Raises:
        AgfasError: no t, a repeated one, one off the grid, an autoencoder without a name, or options that exclude each
            other.
    """

    def __init__(
        self,
        pipeline: Any,
        timesteps: Sequence[int],
        weights_sha256: str,
        autoencoder_sha256: str | None = None,
        settings: RestorationSettings = _PAPERS,
        condition: str = "identity",
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.timesteps = tuple(int(t) for t in timesteps)
        self.weights_sha256, self.autoencoder_sha256 = weights_sha256, autoencoder_sha256
        self.condition = "none" if pipeline.identity_encoder is None else condition
        check_timesteps(self.timesteps)
        if AUTOENCODER in self.timesteps and autoencoder_sha256 is None:
            raise AgfasError("t = 0 is the autoencoder alone: give autoencoder_sha256 to name its store.")
        if settings.autoencoder != OWN and autoencoder_sha256 is None:
            raise AgfasError("another autoencoder than the generator's own makes other cues: give autoencoder_sha256.")
        self._check()

    def _check(self) -> None:
        if self.settings.guidance_scale != 1 and self.condition == "none":
            raise AgfasError("guidance_scale guides by the identity, and this source has none: set it to 1.")
        try:
            for timestep in self.timesteps:
                self._sampler(timestep)
            speed_of(self.settings).apply(self.pipeline)
        except ValueError as error:
            raise AgfasError(str(error)) from None

    def _sampler(self, timestep: int) -> Any:
        chosen = self.settings
        return open_sampler(
            chosen.scheduler, self.pipeline.scheduler, timestep, chosen.num_inference_steps, chosen.calls
        )

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """Everything that decides the restoration at one t."""
        # The weights decide whether there is an encoder; only zero tokens in spite of one need an entry.
        known = timestep == AUTOENCODER or self.pipeline.identity_encoder is None or self.condition == "identity"
        forced = {} if known else {"condition": "none"}
        autoencoder = str(self.autoencoder_sha256)
        return restoration_identity(self.settings, "dfg", self.weights_sha256, timestep, autoencoder, **forced)

    @property
    def device(self) -> torch.device:
        """Where faces are restored."""
        return torch.device(self.pipeline.device)

    @property
    def prepares_ahead(self) -> bool:
        """Whether to encode during the loop of the batch before: on accelerators, whose loop leaves the CPU idle."""
        return self.device.type != "cpu"

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`."""
        return self.restore_prepared(self.prepare(image, keys, timesteps), keys, timesteps)

    @torch.no_grad()
    def prepare(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> EncodedFaces:
        """What does not use the U-Net."""
        tokens = self.pipeline.identity_tokens(image, self.condition) if any(timesteps) else None
        latents, deviation = self.pipeline.encode_posterior(image)
        return EncodedFaces(latents, deviation, tokens)

    @torch.no_grad()
    def restore_prepared(
        self, prepared: EncodedFaces, keys: Sequence[str], timesteps: Sequence[int]
    ) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`, from the result of `prepare`."""
        restored = {t: self.pipeline.decode(prepared.latents) for t in timesteps if t == 0}
        if prepared.tokens is not None:
            # The identity's keys and values are projected once for all t, steps and samples.
            with self.pipeline.conditioned(prepared.tokens, self.settings.guidance_scale) as conditioning:
                restored.update({t: self._restored(prepared, conditioning, t, keys) for t in timesteps if t > 0})
        return restored

    def _restored(self, faces: EncodedFaces, conditioning: Any, timestep: int, keys: Sequence[str]) -> torch.Tensor:
        """The mean of `samples` restorations."""
        chosen, total = self.settings, torch.zeros((), device=faces.latents.device)
        for seed in range(chosen.seed, chosen.seed + chosen.samples):
            denoised = self.pipeline.restore_latents(
                faces.drawn(keys, seed) if chosen.posterior == "sample" else faces.latents,
                conditioning,
                timestep,
                chosen.num_inference_steps,
                noise_for_keys(keys, tuple(faces.latents.shape[1:]), seed, faces.latents.device),
                sampler=chosen.scheduler,
                calls=chosen.calls,
            )
            total = self.pipeline.decode(denoised) + total
        return total / chosen.samples


class BaselineSweep:
    """A baseline of the paper's Table IV at several t, or at the one 0 where it adds no noise.

    Args:
        model: of `dfg.baselines`.
        weights_sha256: of the saved model, by `pipelines.fingerprint.folder_sha256`.
        timesteps: numbers of noising steps; (0,) for a baseline without noise.
        settings: everything else that decides the restorations; `calls` None makes all t steps.

    Raises:
        AgfasError: t or calls that are not possible.
    """

    def __init__(
        self,
        model: Baseline,
        weights_sha256: str,
        timesteps: Sequence[int] = (AUTOENCODER,),
        settings: AncestralSettings = _PAPERS,
    ) -> None:
        self.model: Any = model
        self.weights_sha256, self.settings = weights_sha256, settings
        self.timesteps = tuple(int(t) for t in timesteps)
        self.noised = model.name in WITH_TIMESTEP
        check_timesteps(self.timesteps)
        if not self.noised and self.timesteps != (AUTOENCODER,):
            raise AgfasError(f"{model.name} adds no noise, so it has no t; got {list(self.timesteps)}.")
        try:
            for timestep in self.timesteps if self.noised else ():
                ancestral_steps(timestep, settings.calls)
        except ValueError as error:
            raise AgfasError(f"{model.name}: {error}") from None

    @property
    def device(self) -> torch.device:
        """Where faces are restored."""
        return torch.device(self.model.device)

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """Everything that decides the restoration at one t."""
        return restoration_identity(self.settings, self.model.name, self.weights_sha256, timestep)

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`."""
        return {timestep: self._restored(image, keys, timestep) for timestep in timesteps}

    def _restored(self, image: torch.Tensor, keys: Sequence[str], timestep: int) -> torch.Tensor:
        if not self.noised:
            return self.model.reconstruct(image, keys)
        calls, seed = self.settings.calls, self.settings.seed
        made = [
            self.model.reconstruct(image, keys, timestep=timestep, calls=calls, seed=seed + sample)
            for sample in range(self.settings.samples)
        ]
        return torch.stack(made).mean(0)


def sweep_of(
    cue: CueSettings, maker: Any, timesteps: Sequence[int], weights_sha256: str, autoencoder_sha256: str
) -> CueSweep:
    """A generator or baseline with the settings of a cue, for the cue store and for verdicts alike."""
    if isinstance(maker, Baseline):
        return BaselineSweep(maker, weights_sha256, timesteps, cue)
    return DfgSweep(maker, timesteps, weights_sha256, autoencoder_sha256, cue)


def speed_of(settings: RestorationSettings) -> Speed:
    """The part of the settings that `dfg.speed` applies to a pipeline."""
    return Speed(
        dtype=settings.dtype,
        channels_last=settings.channels_last,
        compile=settings.compile,
        attention=settings.attention,
        autoencoder_dtype=settings.autoencoder_dtype,
        tf32=settings.tf32,
    )


def check_timesteps(timesteps: Sequence[int]) -> None:
    """Raise AgfasError if there is no t or one is repeated."""
    if not timesteps or len(set(timesteps)) != len(timesteps):
        raise AgfasError(f"timesteps must be given, each once; got {list(timesteps)}.")


class OneOfSweep:
    """One t of a sweep as a source."""

    def __init__(self, sweep: CueSweep, timestep: int) -> None:
        self.sweep, self.timestep = sweep, timestep
        self.device: torch.device | None = getattr(sweep, "device", None)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the restoration."""
        return self.sweep.fingerprint(self.timestep)

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the restored faces, in the same shape and range."""
        return self.sweep.restore(image, keys, [self.timestep])[self.timestep]


class SingleSource:
    """One source as a sweep of one; t is the source's `timestep`, or 0."""

    def __init__(self, source: CueSource) -> None:
        self.source = source
        self.timesteps: tuple[int, ...] = (int(getattr(source, "timestep", 0)),)
        self.device: torch.device | None = getattr(source, "device", None)

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """The source's fingerprint."""
        return self.source.fingerprint()

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) under the one t."""
        return {timestep: self.source(image, keys) for timestep in timesteps}


def as_sweep(source: CueSource | CueSweep) -> CueSweep:
    """The sweep itself, or one source as a sweep."""
    if isinstance(source, CueSweep):
        return source
    return SingleSource(source)

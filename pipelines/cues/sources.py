"""Makers of the "real" version of a face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from dfg.noise import noise_for_keys
from dfg.samplers import open_sampler
from dfg.speed import Speed
from pipelines.errors import AgfasError

# Names the way in which noise follows from seed and key; another way would make other bytes.
SEED_RULE = "torch CPU generator of the first 63 bits of sha256('{seed}:{key}'), one per face"


@runtime_checkable
class CueSource(Protocol):
    """Anything that makes the "real" version of a face."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the result beside the face, in JSON's types."""

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """Restore faces.

        Args:
            image: (B, 3, H, W) float32 in [-1, 1], RGB.
            keys: B record keys; a source that draws noise draws it from streams keyed by them.

        Returns:
            (B, 3, H, W) in [-1, 1].
        """


@runtime_checkable
class CueSweep(Protocol):
    """Several sources that differ in t alone and share what does not depend on it.

    Attributes:
        timesteps: each once; 0 is the autoencoder alone.
    """

    timesteps: tuple[int, ...]

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """The fingerprint of the source at one t."""

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) at each of `timesteps`."""


class DfgSweep:
    """The De-fake Face Generator at several t: one encode and one identity pass for all.

    Args:
        pipeline: a `dfg.pipeline.DeFakePipeline`.
        timesteps: of the sampler's grid; 0 for the autoencoder alone.
        weights_sha256: of the whole pipeline, `pipelines.fingerprint.folder_sha256` of where it was saved.
        autoencoder_sha256: of the autoencoder alone, for t = 0, so that this control outlives another
        generator.
        num_inference_steps: points of the grid from the last training step to 0.
        seed: of the noise streams.
        condition: `identity`, or `none` for zero tokens, which is all that a pipeline without encoder can do.
        samples: restorations per face, from streams of noise of their own (seed, seed + 1, ...), whose mean is the
            result. One is the paper's. The noise that one restoration leaves is most of a small generator's cue;
            the mean of four has half of it.
        scheduler: `ddim`, `unipc` or `dpmsolver++`; see `dfg.samplers`.
        calls: of the U-Net from t down, evenly spaced; None makes those of the grid.
        guidance_scale: of classifier-free guidance; 1 is none.
        speed: how the generator is run; set up here, once.

    Raises:
        AgfasError: no t, a doubled one, one off the grid, t = 0 without `autoencoder_sha256`, or options that cannot
            be.
    """

    def __init__(
        self,
        pipeline: Any,
        timesteps: Sequence[int],
        weights_sha256: str,
        autoencoder_sha256: str | None = None,
        num_inference_steps: int = 50,
        seed: int = 0,
        condition: str = "identity",
        samples: int = 1,
        scheduler: str = "ddim",
        calls: int | None = None,
        guidance_scale: float = 1.0,
        speed: Speed | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.samples = samples
        self.timesteps = tuple(int(t) for t in timesteps)
        self.weights_sha256 = weights_sha256
        self.autoencoder_sha256 = autoencoder_sha256
        self.num_inference_steps = num_inference_steps
        self.seed = seed
        self.condition = "none" if pipeline.identity_encoder is None else condition
        self.scheduler, self.calls, self.guidance_scale = scheduler, calls, guidance_scale
        self.speed = speed or Speed()
        if not self.timesteps or len(set(self.timesteps)) != len(self.timesteps):
            raise AgfasError(f"timesteps must be given, each once; got {list(self.timesteps)}.")
        if 0 in self.timesteps and autoencoder_sha256 is None:
            raise AgfasError("t = 0 is the autoencoder alone: give autoencoder_sha256 to name its store.")
        self._check()

    def _check(self) -> None:
        if self.guidance_scale != 1 and self.condition == "none":
            raise AgfasError("guidance_scale guides by the identity, and this source has none: set it to 1.")
        try:
            for timestep in self.timesteps:
                self._sampler(timestep)
            self.speed.apply(self.pipeline)
        except ValueError as error:
            raise AgfasError(str(error)) from None

    def _sampler(self, timestep: int) -> Any:
        return open_sampler(self.scheduler, self.pipeline.scheduler, timestep, self.num_inference_steps, self.calls)

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """Everything that decides the restoration at one t."""
        autoencoder_dtype = _name(self.pipeline.autoencoder.dtype)
        if timestep == 0:
            layout = {"channels_last": True} if self.speed.channels_last else {}
            return {"name": "autoencoder", "weights": self.autoencoder_sha256, "dtype": autoencoder_dtype, **layout}
        return {
            "name": "dfg",
            "weights": self.weights_sha256,
            "scheduler": _schedule(self.pipeline.scheduler),
            "timestep": timestep,
            "num_inference_steps": self.num_inference_steps,
            "seed": self.seed,
            "seed_rule": SEED_RULE,
            "samples": self.samples,
            "condition": self.condition,
            "dtype": _name(self.pipeline.unet.dtype),
            "autoencoder_dtype": autoencoder_dtype,
            **self._beyond_the_paper(),
        }

    def _beyond_the_paper(self) -> dict[str, Any]:
        """Options that are not at their default; those that are leave the names of stores as they were before."""
        sampling = {"sampler": self.scheduler, "calls": self.calls, "guidance_scale": self.guidance_scale}
        default = {"sampler": "ddim", "calls": None, "guidance_scale": 1.0}
        changed = {name: value for name, value in sampling.items() if value != default[name]}
        return {**changed, **self.speed.fingerprint()}

    @property
    def prepares_ahead(self) -> bool:
        """Whether encoding may overlap the loop of the batch before: where the loop leaves the processor its cores."""
        return bool(self.pipeline.device.type != "cpu")

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`."""
        return self.restore_prepared(self.prepare(image, keys, timesteps), keys, timesteps)

    @torch.no_grad()
    def prepare(
        self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents and identity tokens (None where no t needs them); touches neither U-Net nor another batch."""
        latents = self.pipeline.encode(image)
        return latents, self.pipeline.identity_tokens(image, self.condition) if any(timesteps) else None

    @torch.no_grad()
    def restore_prepared(
        self, prepared: tuple[torch.Tensor, torch.Tensor | None], keys: Sequence[str], timesteps: Sequence[int]
    ) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`, from what `prepare` gave."""
        latents, tokens = prepared
        restored = {t: self.pipeline.decode(latents) for t in timesteps if t == 0}
        if tokens is not None:
            # The identity's keys and values are projected once for all t, steps and samples.
            with self.pipeline.conditioned(tokens, self.guidance_scale) as conditioning:
                restored.update({t: self._restored(latents, conditioning, t, keys) for t in timesteps if t > 0})
        return restored

    def _restored(self, latents: torch.Tensor, conditioning: Any, timestep: int, keys: Sequence[str]) -> torch.Tensor:
        """The mean of `samples` restorations."""
        total = torch.zeros(())
        for sample in range(self.samples):
            noise = noise_for_keys(keys, tuple(latents.shape[1:]), self.seed + sample, latents.device)
            denoised = self.pipeline.restore_latents(
                latents,
                conditioning,
                timestep,
                self.num_inference_steps,
                noise,
                sampler=self.scheduler,
                calls=self.calls,
            )
            total = self.pipeline.decode(denoised) + total.to(denoised.device)
        return total / self.samples


class OneOfSweep:
    """One t of a sweep as a source."""

    def __init__(self, sweep: CueSweep, timestep: int) -> None:
        self.sweep, self.timestep = sweep, timestep

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the restoration."""
        return self.sweep.fingerprint(self.timestep)

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the same faces as they would look if they were real."""
        return self.sweep.restore(image, keys, [self.timestep])[self.timestep]


class DfgSource(OneOfSweep):
    """The De-fake Face Generator at one t; arguments as `DfgSweep`."""

    def __init__(
        self,
        pipeline: Any,
        weights_sha256: str,
        timestep: int = 801,
        num_inference_steps: int = 50,
        seed: int = 0,
        condition: str = "identity",
        samples: int = 1,
        **options: Any,
    ) -> None:
        arguments = (num_inference_steps, seed, condition, samples)
        super().__init__(DfgSweep(pipeline, [timestep], weights_sha256, None, *arguments, **options), timestep)


class AutoencoderSource(OneOfSweep):
    """The control t = 0: the pipeline's autoencoder alone.

    Args:
        pipeline: a `dfg.pipeline.DeFakePipeline`.
        weights_sha256: of the autoencoder alone.
    """

    def __init__(self, pipeline: Any, weights_sha256: str) -> None:
        super().__init__(DfgSweep(pipeline, [0], "", autoencoder_sha256=weights_sha256), 0)


class SingleSource:
    """One source as a sweep of one; its `timestep` is 0 where it has none."""

    def __init__(self, source: CueSource) -> None:
        self.source = source
        self.timesteps: tuple[int, ...] = (int(getattr(source, "timestep", 0)),)

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """The source's fingerprint."""
        return self.source.fingerprint()

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) under the one t."""
        return {timestep: self.source(image, keys) for timestep in timesteps}


def as_sweep(source: CueSource | CueSweep) -> CueSweep:
    """The sweep itself, or a sweep of one source."""
    if isinstance(source, CueSweep):
        return source
    return SingleSource(source)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _schedule(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration, without what decides no value, as diffusers' version."""
    settings = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return {"class": type(scheduler).__name__, **{name: _plain(value) for name, value in settings.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else str(value)

"""`agfas train-dfg`: the De-fake Face Generator, trained on live faces only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.attention import use_attention
from dfg.autoencoder import PatchAutoencoder, calibrate_scale
from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.saved import in_own_memory
from dfg.schedule import sd_scheduler
from dfg.tokens import TokenProjection
from dfg.unet import build_unet, checkpoint_gradients
from pipelines.artefacts.runs import PIPELINE
from pipelines.cost.models import try_unet
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError, in_short
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import (
    AutoencoderSettings,
    BaselineSettings,
    GeneratorSettings,
    OneCallSettings,
    PatchSettings,
    PretrainedAutoencoder,
    TaesdSettings,
)
from pipelines.experiment.sizes import refuse_side
from pipelines.experiment.untrained import build_baseline_training
from pipelines.experiment.workspace import Workspace, teacher_of
from pipelines.pixels import to_unit_range
from pipelines.processes import is_main, wait
from pipelines.stages import train_baseline, train_identity, train_one_call
from pipelines.training.batches import LatentBatches, LatentViews
from pipelines.training.latents import PaddedTokens, SomeFaces, StoredLatents, nested_share, store_latents
from pipelines.training.loop import fit
from pipelines.training.run import Run, read_done, remove_checkpoints

# Faces that the patch transform is fitted to: it has a few hundred parameters.
_FIT_FACES = 2000
_SCALE_FACES = 200


def run(experiment: Experiment, faces: Faces) -> Path:
    """Train the generator unless it is finished; returns its run folder, which holds `pipeline/`.

    If the settings name a baseline, the baseline is trained instead, and the folder holds `model/`; of a student too,
    whose teacher is trained first.
    """
    if isinstance(experiment.generator, OneCallSettings):
        return train_one_call.run(experiment, faces, experiment.generator, run)
    if isinstance(experiment.generator, BaselineSettings):
        return train_baseline.run(experiment, faces, experiment.generator)
    settings = experiment.generator
    workspace = Workspace(experiment)
    training = Run(workspace.generator(), workspace.generator_key(), experiment.model_dump(mode="json"))
    if training.was_done:
        if is_main() and read_done(workspace.identity()) is not None:
            remove_checkpoints(workspace.identity())  # `train_identity` is not asked again
        return training.folder
    identity = train_identity.run(experiment, faces)
    indices = _faces_to_learn_from(settings, faces)
    autoencoder = build_autoencoder(settings.autoencoder, faces, indices)
    if settings.train:
        pipeline, trained_on = _trained(experiment, faces, indices, autoencoder, identity, training)
    else:
        pipeline, trained_on = _given(experiment, autoencoder, identity), 0
    if is_main():
        train_baseline.save(pipeline, pipeline.unet, training, PIPELINE, trained_on)
    wait()
    return training.folder


def check_options(experiment: Experiment) -> None:
    """Refuse faces that the generator cannot divide and options that make no network, before anything is made.

    Raises:
        AgfasError: what is wrong, and what is allowed.
    """
    settings, side = experiment.generator, experiment.data.size
    refuse_side(side, settings)
    if isinstance(settings, OneCallSettings):
        train_one_call.check_options(settings)
        check_options(teacher_of(experiment))
    if isinstance(settings, BaselineSettings):
        with torch.device("meta"):
            build_baseline_training(settings, side)
    elif settings.unet:
        try:
            try_unet(experiment)
        except Exception as error:  # whatever a network raises for numbers that no layer has
            raise AgfasError(f"generator.unet makes no U-Net for faces of {side} pixels: {in_short(error)}.") from error


def _faces_to_learn_from(settings: GeneratorSettings, faces: Faces) -> np.ndarray:
    """The live faces to train on and to fit the autoencoder to; none if all weights are given."""
    if not settings.train and isinstance(settings.autoencoder, PretrainedAutoencoder):
        return np.array([], dtype=np.int64)
    return train_baseline.live_faces(faces, settings.domains)


def _trained(
    experiment: Experiment, faces: Faces, indices: np.ndarray, autoencoder: Any, identity: Any, training: Run
) -> tuple[DeFakePipeline, int]:
    """The trained generator and the number of faces it was trained on."""
    settings = _settings(experiment)
    latents = _latents(experiment, faces, indices, autoencoder, identity)
    pipeline = build_pipeline(experiment, autoencoder, identity, latents)
    chosen = SomeFaces(latents, nested_share(latents.store.keys, settings.share))
    objective = DenoisingObjective(
        pipeline.unet,
        pipeline.scheduler,
        min_snr_gamma=settings.min_snr_gamma,
        projection=pipeline.token_projection,
    )
    if settings.gradient_checkpointing:
        checkpoint_gradients(pipeline.unet)
    fit(objective, _batches(settings, pipeline, chosen), settings.loop, training, title="generator")
    return pipeline, len(chosen)


def _batches(settings: GeneratorSettings, pipeline: DeFakePipeline, latents: LatentViews) -> LatentBatches:
    if pipeline.token_projection is None:
        latents = PaddedTokens(latents, pipeline.unet.config["cross_attention_dim"])
    steps = pipeline.scheduler.config["num_train_timesteps"]
    return LatentBatches(latents, settings.loop.batch_size, steps, seed=0, condition_dropout=settings.condition_dropout)


def _given(experiment: Experiment, autoencoder: Any, identity: Any) -> DeFakePipeline:
    """The generator with published weights, without training."""
    settings = _settings(experiment)
    return _assemble(autoencoder, _start_from(settings), sd_scheduler(settings.prediction), identity, None)


def build_autoencoder(settings: AutoencoderSettings, faces: Faces, indices: np.ndarray) -> Any:
    """The frozen autoencoder of the settings; the patch transform is fitted to live faces."""
    if isinstance(settings, PatchSettings):
        autoencoder = PatchAutoencoder(settings.patch_size, settings.latent_channels, whitening=settings.whitening)
        chosen = indices[:: max(1, len(indices) // _FIT_FACES)]
        autoencoder.fit(to_unit_range(faces.images[chosen]))
        return autoencoder.eval()
    try:
        autoencoder = _load_autoencoder(settings).eval()
    except (OSError, ValueError) as error:
        raise AgfasError(f"The autoencoder of generator.autoencoder cannot be loaded: {error}") from error
    if isinstance(settings, TaesdSettings):
        # Its state dicts hold no scaling factor, and the noise schedule assumes latents of unit variance.
        chosen = indices[:: max(1, len(indices) // _SCALE_FACES)]
        calibrate_scale(autoencoder, to_unit_range(faces.images[chosen]))
    return autoencoder


def build_pipeline(experiment: Experiment, autoencoder: Any, identity: Any, latents: StoredLatents) -> DeFakePipeline:
    """A generator of the frozen parts and a U-Net with seeded or given weights."""
    settings = _settings(experiment)
    unet = _start_from(settings) if settings.unet_weights else _new_unet(settings, latents)
    try:
        use_attention(unet, settings.attention)
    except ValueError as error:
        raise AgfasError(f"generator.{error}") from None
    projection = _projection(settings, unet, identity)
    return _assemble(autoencoder, unet, sd_scheduler(settings.prediction), identity, projection)


def _new_unet(settings: GeneratorSettings, latents: StoredLatents) -> Any:
    sample, tokens = latents.read(np.array([0]), np.array([0]))
    torch.manual_seed(0)
    options = dict(settings.unet)
    if settings.preset == "tiny":
        options.setdefault("cross_attention_dim", int(tokens.shape[-1]))
    if settings.precondition:
        options["latent_variance"] = latent_variance(latents)
    try:
        return build_unet(
            settings.preset, in_channels=int(sample.shape[1]), sample_size=int(sample.shape[-1]), **options
        )
    except ValueError as error:
        raise AgfasError(
            f"The U-Net cannot be built: {error} Take fewer generator.autoencoder.latent_channels, or more live faces."
        ) from error


def _projection(settings: GeneratorSettings, unet: Any, identity: Any) -> TokenProjection | None:
    if settings.tokens == "zero_pad":
        return None
    if identity is None:
        raise AgfasError("generator.tokens = projection projects identity tokens, but identity.name is none.")
    return TokenProjection(identity.token_dim, unet.config["cross_attention_dim"])


def _assemble(autoencoder: Any, unet: Any, scheduler: Any, identity: Any, projection: Any) -> DeFakePipeline:
    try:
        return DeFakePipeline(autoencoder, unet, scheduler, identity, projection)
    except ValueError as error:
        raise AgfasError(f"The generator's parts do not fit each other: {error}") from error


def latent_variance(latents: StoredLatents) -> list[float]:
    """The mean square of each latent channel over some live faces."""
    rows = np.arange(len(latents))[:: max(1, len(latents) // _SCALE_FACES)]
    values, _ = latents.read(rows, np.zeros(len(rows), dtype=np.int64))
    return [round(float(value), 6) for value in np.square(values).mean(axis=(0, 2, 3))]


def _load_autoencoder(settings: TaesdSettings | PretrainedAutoencoder) -> Any:
    if isinstance(settings, TaesdSettings):
        from dfg.taesd import load_taesd

        return load_taesd(settings.encoder, settings.decoder)
    from diffusers import AutoencoderKL, AutoencoderTiny

    place, subfolder = settings.path, settings.subfolder
    config = AutoencoderKL.load_config(place, subfolder=subfolder)
    chosen = AutoencoderTiny if config.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    found = chosen.from_pretrained(place, subfolder=subfolder, use_safetensors=_in_safetensors(place, subfolder))
    return in_own_memory(found)


def _start_from(settings: GeneratorSettings) -> Any:
    """Published weights in diffusers' layout, from a folder or the hub; of pickled files only tensors are read."""
    from diffusers import UNet2DConditionModel

    place, subfolder = str(settings.unet_weights), settings.unet_subfolder
    try:
        found = UNet2DConditionModel.from_pretrained(
            place, subfolder=subfolder, use_safetensors=_in_safetensors(place, subfolder)
        )
    except (OSError, ValueError) as error:
        raise AgfasError(f"generator.unet_weights = {place} cannot be loaded: {error}") from error
    return in_own_memory(found)


def _settings(experiment: Experiment) -> GeneratorSettings:
    """The settings of the generator; `run` has handled baselines."""
    assert isinstance(experiment.generator, GeneratorSettings)
    return experiment.generator


def _latents(
    experiment: Experiment, faces: Faces, indices: np.ndarray, autoencoder: Any, identity: Any
) -> StoredLatents:
    workspace, flip = Workspace(experiment), _settings(experiment).flip
    return store_latents(workspace.latents(), faces, indices, autoencoder, identity, workspace.latents_key(), flip)


def _in_safetensors(place: str, subfolder: str | None) -> bool | None:
    """The format to ask diffusers for; without it, a folder without safetensors is an error in its log.

    Returns:
        None for an id of the hub.
    """
    folder = Path(place, subfolder or "")
    return any(folder.glob("diffusion_pytorch_model*.safetensors")) if folder.is_dir() else None

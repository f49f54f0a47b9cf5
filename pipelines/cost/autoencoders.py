"""Autoencoders as their settings say, without weights: what costs are counted of. Nothing is fetched from a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny

from dfg.autoencoder import PatchAutoencoder, latent_channels
from dfg.taesd import TaesdAutoencoder
from dfg.tiny_autoencoder import build_tiny, latent_factor
from pipelines.cues.settings import TRAINED
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import GeneratorSettings, PatchSettings, PretrainedAutoencoder

# Stable Diffusion's, 83,653,863 parameters: assumed of an autoencoder that is not in a local folder.
_KL_F8: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def own_autoencoder(settings: Any) -> Any:
    """The generator's own autoencoder; a patch transform is not fitted."""
    if isinstance(settings, PatchSettings):
        return PatchAutoencoder(settings.patch_size, settings.latent_channels)
    if not isinstance(settings, PretrainedAutoencoder):
        return TaesdAutoencoder()
    found = local(AutoencoderKL, settings.path, settings.subfolder)
    kind = AutoencoderTiny if found and found.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    return kind.from_config(found) if found else AutoencoderKL(**_KL_F8)


def autoencoders(experiment: Experiment) -> tuple[Any, Any]:
    """The generator's own, and the small one that takes its place; of the hub, taesd is assumed."""
    assert isinstance(experiment.generator, GeneratorSettings)
    own, chosen = own_autoencoder(experiment.generator.autoencoder).eval(), experiment.cue.autoencoder
    factor, channels, settings = latent_factor(own), latent_channels(own), experiment.tiny_autoencoder
    if isinstance(own, PatchAutoencoder):  # it refuses to encode until it is fitted, and costs next to nothing
        own = build_tiny(factor, channels, width=4, blocks=0)
    found = None if chosen == TRAINED else local(AutoencoderTiny, chosen, None)
    if found and found.get("_class_name") == "AutoencoderTiny":
        return own, AutoencoderTiny.from_config(found)
    sizes = {"width": settings.width, "blocks": settings.blocks} if chosen == TRAINED else {}
    return own, build_tiny(factor, channels, **sizes)


def local(kind: Any, folder: str | None, subfolder: str | None) -> dict[str, Any] | None:
    """The configuration of weights in a local folder; nothing is fetched from a hub."""
    if folder is None or not Path(folder, subfolder or "", "config.json").is_file():
        return None
    return dict(kind.load_config(folder, subfolder=subfolder))

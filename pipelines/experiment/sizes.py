"""The sides of faces that a generator can take, known from settings before anything is made."""

from __future__ import annotations

import json
from pathlib import Path

from dfg.baselines import BASELINE_PRESETS
from pipelines.errors import AgfasError
from pipelines.experiment.generator import (
    AutoencoderSettings,
    BaselineSettings,
    GeneratorSettings,
    OneCallSettings,
    PatchSettings,
    TaesdSettings,
)

_OF_TAESD = 8


def check_side(side: int, generator: GeneratorSettings | BaselineSettings) -> None:
    """Refuse faces that a generator cannot divide into the cells of its smallest map.

    Args:
        side: of the faces in pixels, `data.size`.
        generator: its settings.

    Raises:
        ValueError: names the nearest sides that it can take.
    """
    if isinstance(generator, OneCallSettings):
        check_side(side, generator.teacher)
    what, factor = _divisor(generator)
    if side % factor:
        below, above = side // factor * factor, (side // factor + 1) * factor
        nearest = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"data.size = {side} must be a multiple of {factor}, by which {what} divides it: give {nearest}"
        )


def refuse_side(side: int, generator: GeneratorSettings | BaselineSettings) -> None:
    """As `check_side`, for a stage that uses the generator whatever the detector takes.

    Raises:
        AgfasError: the side is not one that it can take.
    """
    try:
        check_side(side, generator)
    except ValueError as error:
        raise AgfasError(f"{error}.") from None


def _divisor(generator: GeneratorSettings | BaselineSettings) -> tuple[str, int]:
    if isinstance(generator, GeneratorSettings):
        return _of_autoencoder(generator.autoencoder)
    options = {**BASELINE_PRESETS[generator.name][generator.preset], **generator.options}
    halvings = len(options["channels"]) - (generator.name in ("anoddpm", "one_call"))
    return f"generator.name = {generator.name}", options.get("patch", 1) * 2**halvings


def _of_autoencoder(settings: AutoencoderSettings) -> tuple[str, int]:
    if isinstance(settings, PatchSettings):
        return "generator.autoencoder.patch_size", settings.patch_size
    if isinstance(settings, TaesdSettings):
        return "generator.autoencoder.name = taesd", _OF_TAESD
    return f"the autoencoder at {settings.path}", 2 ** (_levels(Path(settings.path, settings.subfolder)) - 1)


def _levels(folder: Path) -> int:
    """Of an AutoencoderKL or AutoencoderTiny, each but the last halves the side; 1 if its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return len(config.get("encoder_block_out_channels") or config["block_out_channels"])
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return 1  # of the hub, or refused with its reason when it is loaded

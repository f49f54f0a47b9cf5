"""Our contenders of bench `cues-recipe` by name; a new way to use the generator is an entry of `CONTENDERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dfg.autoencoder import latent_channels
from dfg.pipeline import DeFakePipeline
from dfg.tiny_autoencoder import build_tiny, latent_factor, take_place
from pipelines.cues.settings import TRAINED, RestorationSettings
from scripts.bench.generators import ALL_HALF, COMPILED, HALF

FEW: dict[str, Any] = {"scheduler": "dpmsolver++", "calls": 8}
ONE: dict[str, Any] = {"calls": 1}
SMALL: dict[str, Any] = {**ONE, "autoencoder": TRAINED}


def leave(pipeline: DeFakePipeline) -> None:
    """Change nothing."""


def put_tiny(pipeline: DeFakePipeline, width: int = 64) -> None:
    """An untrained AutoencoderTiny, by default of taesd's size, in place of the generator's own autoencoder."""
    own = pipeline.autoencoder
    take_place(pipeline, build_tiny(latent_factor(own), latent_channels(own), width))


@dataclass(frozen=True)
class Ways:
    """How a contender makes cues.

    Attributes:
        settings: of the restorations.
        change: what is done to the generator before.
        comparable: whether its weights are those of the public recipe, so that their restorations can be compared.
    """

    settings: RestorationSettings
    change: Callable[[DeFakePipeline], None] = leave
    comparable: bool = True


# What each changes; the first one changes nothing that alters the result.
CONTENDERS: dict[str, Ways] = {
    "ours, the same calls": Ways(RestorationSettings()),
    "bfloat16 U-Net": Ways(HALF),
    "bfloat16 U-Net and autoencoder": Ways(ALL_HALF),
    "bfloat16, U-Net compiled": Ways(COMPILED),
    "dpmsolver++, 8 calls": Ways(RestorationSettings(**FEW)),
    "dpmsolver++, 8 calls, bfloat16, U-Net compiled": Ways(COMPILED.model_copy(update=FEW)),
    "one call": Ways(RestorationSettings(**ONE)),
    "one call, AutoencoderTiny": Ways(RestorationSettings(**SMALL), put_tiny, comparable=False),
    "one call, AutoencoderTiny, bfloat16, U-Net compiled": Ways(
        COMPILED.model_copy(update=SMALL), put_tiny, comparable=False
    ),
    "one call, AutoencoderTiny of half the width, bfloat16, U-Net compiled": Ways(
        COMPILED.model_copy(update=SMALL), partial(put_tiny, width=32), comparable=False
    ),
}

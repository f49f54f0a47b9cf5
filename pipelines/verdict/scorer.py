"""Crops to scores: restored, made a cue and judged exactly as in training, 8-bit steps included."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.cues.settings import MAKERS
from pipelines.experiment.config import CueSettings
from pipelines.verdict.settings import WITH_RESTORATION

if TYPE_CHECKING:
    from pipelines.cues.sources import CueSweep

_AUTOENCODER = 0  # the t that encodes and decodes without noise


@dataclass(frozen=True)
class Scored:
    """The answer for B crops.

    Attributes:
        scores: (B,) float64, probability of a live face.
        panels: what the detector saw of each crop, by name, (H, W, 3) uint8; empty dictionaries unless asked for.
    """

    scores: np.ndarray
    panels: list[dict[str, np.ndarray]]


class Scorer:
    """A detector with what makes its cue.

    Args:
        detector: an `oanet` detector, on its device, in evaluation mode.
        recipe: the cue's settings; None for a detector that takes none.
        pipeline: what restores, a `DeFakePipeline` or a baseline; None where the recipe needs none.
        weights_sha256: names the pipeline's weights.
        device: where faces are judged.

    Attributes:
        sweep: restores at every t that the cue needs; None where it needs none.
    """

    def __init__(
        self, detector: Any, recipe: CueSettings | None, pipeline: Any, weights_sha256: str, device: str
    ) -> None:
        self.detector, self.recipe, self.pipeline, self.device = detector, recipe, pipeline, device
        restores = recipe is not None and recipe.source in WITH_RESTORATION
        self.sweep = _open_sweep(recipe, pipeline, weights_sha256) if recipe is not None and restores else None

    def __call__(self, crops: np.ndarray, masks: np.ndarray | None = None, panels: bool = False) -> Scored:
        """Judge crops.

        A crop's noise is drawn from the stream of the hash of its pixels, so equal crops get equal scores whatever
        their names. Another number of crops in a batch may move a restoration by one grey level.

        Args:
            crops: (B, H, W, 3) uint8, aligned, of the training's size.
            masks: (B, H, W) uint8, 1 on the face, for a recipe with `mask: face`.
            panels: whether to draw what the detector saw.

        Raises:
            AgfasError: a restoration has values that are not finite.
        """
        import torch

        from pipelines.pixels import to_unit_range

        reader = self._reader(crops, masks)
        image = to_unit_range(crops).to(self.device)
        cue = None if reader is None else reader.batch(np.arange(len(crops)))
        with torch.no_grad():
            on_device = None if cue is None else cue.to(self.device)
            scores = self.detector(image, on_device).probability_bonafide.double().cpu().numpy()
            if not panels:
                return Scored(scores, [{} for _ in crops])
            # A second pass: attention is computed by other kernels when its weights are wanted, and a score must not
            # depend on whether somebody looks.
            attention = self.detector(image, on_device, need_weights=True).attention
        restored = None if self.sweep is None or reader is None else reader.cues(np.arange(len(crops)))[1]
        return Scored(scores, [_panels(row, crops, restored, cue, attention) for row in range(len(crops))])

    def _reader(self, crops: np.ndarray, masks: np.ndarray | None) -> Any:
        """What makes the crops' cues, or None."""
        from oanet.names import CUE_FORMS_WITH_AUTOENCODED
        from pipelines.cues.reader import CueReader

        recipe = self.recipe
        if recipe is None:
            return None
        keys = [pixel_key(crop) for crop in crops]
        restored = autoencoded = None
        if self.sweep is not None:
            made = self._restore(crops, keys)
            restored = made[_moment(recipe)]
            autoencoded = made.get(_AUTOENCODER) if recipe.form in CUE_FORMS_WITH_AUTOENCODED else None
        return CueReader(
            recipe.source, keys, keys, crops, restored, autoencoded,
            form=recipe.form, normalize=recipe.normalize, seed=recipe.seed, masks=masks,
        )  # fmt: skip

    def _restore(self, crops: np.ndarray, keys: Sequence[str]) -> dict[int, np.ndarray]:
        """The crops at each t as the cue store keeps them: (B, H, W, 3) uint8."""
        from pipelines.cues.job import to_pixels
        from pipelines.pixels import to_unit_range

        assert self.sweep is not None
        made = self.sweep.restore(to_unit_range(crops).to(self.device), keys, self.sweep.timesteps)
        return {moment: to_pixels(picture, keys) for moment, picture in made.items()}


def _open_sweep(recipe: CueSettings, pipeline: Any, weights_sha256: str) -> CueSweep:
    """The generator as `pipelines.artefacts.open_sweep` opens it for the cue store.

    It is not compiled: that takes minutes, and moves a restoration by roundings alone.
    """
    from pipelines.cues.sources import sweep_of

    moments = recipe.timesteps_by(_maker_of(recipe))
    cue = recipe.model_copy(update={"compile": False})
    return sweep_of(cue, pipeline, moments, weights_sha256, weights_sha256)


def _moment(recipe: CueSettings) -> int:
    """The t of the restorations: no recipe here is `shuffled`, so the source tells who makes them."""
    return recipe.timestep_by(_maker_of(recipe))


def _maker_of(recipe: CueSettings) -> str:
    return MAKERS.get(recipe.source, "dfg")


def pixel_key(crop: np.ndarray) -> str:
    """The name of a crop's noise: the SHA-256 of its pixels."""
    return hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest()


def _panels(row: int, crops: np.ndarray, restored: np.ndarray | None, cue: Any, attention: Any) -> dict[str, Any]:
    from pipelines.verdict.overlay import draw_panels

    return draw_panels(
        crops[row],
        None if restored is None else restored[row],
        None if cue is None else cue[row].numpy(),
        None if attention is None else [block[row : row + 1] for block in attention],
    )

"""From crops to scores: restored, compared to a cue and judged exactly as in training, 8-bit rounding included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from pipelines.artefacts.models import on_device
from pipelines.cues.settings import AUTOENCODER, MAKERS, CueSettings
from pipelines.errors import AgfasError
from pipelines.verdict.crops import Loaded
from pipelines.verdict.settings import About, ModelSettings

if TYPE_CHECKING:
    from dfg.baselines.base import Baseline
    from dfg.pipeline import DeFakePipeline
    from oanet.detectors.base import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.cues.sources import CueSweep

Maker: TypeAlias = "DeFakePipeline | Baseline"
"""What restores faces."""


@dataclass(frozen=True)
class Scored:
    """Result for B crops.

    Attributes:
        scores: (B,) float64, probability of a live face.
        panels: what the detector saw of each crop, (H, W, 3) uint8 by name; empty without `panels=True`.
        attack_classes: (B, K) probability of each kind of attack; K = 0 for detectors of two classes.
    """

    scores: np.ndarray
    panels: list[dict[str, np.ndarray]]
    attack_classes: np.ndarray


class Scorer:
    """A detector with everything that makes its cue.

    Args:
        detector: in evaluation mode.
        recipe: the cue's settings; None for a detector without a cue.
        maker: restores faces; None if the cue needs no restoration.
        weights_sha256: hash of the maker's weights.

    Attributes:
        device: where faces are judged; parts are moved there.
        sweep: the maker at every t that the cue needs; None if it needs no restoration.
    """

    def __init__(
        self, detector: Detector, recipe: CueSettings | None, maker: Maker | None = None, weights_sha256: str = ""
    ) -> None:
        from pipelines.processes import device

        self.device = device()
        self.detector, self.recipe = detector.to(self.device), recipe
        self.maker = maker
        self.sweep: CueSweep | None = None
        if recipe is not None and recipe.is_custom:
            from pipelines.cues.custom import open_source
            from pipelines.cues.sources import as_sweep

            self.sweep = as_sweep(open_source(recipe))
        elif recipe is not None and recipe.is_restored:
            assert maker is not None
            self.maker = on_device(maker)
            self.sweep = _open_sweep(recipe, self.maker, weights_sha256)

    def __call__(self, crops: np.ndarray, masks: np.ndarray | None = None, panels: bool = False) -> Scored:
        """Judge crops.

        The stream of a crop's noise is keyed by the hash of its pixels, so equal crops get equal scores whatever
        their file names. Another number of crops in a batch may change a restoration by one grey level.

        Args:
            crops: (B, H, W, 3) uint8, aligned, of the training's size; or (B, H, W, C) of the detector's own `look`.
            masks: (B, H, W) uint8, 1 on the face, for a cue with `mask: face`.
            panels: whether to draw what the detector saw.

        Raises:
            AgfasError: a restoration has values that are not finite, or the detector refuses its input or output.
        """
        import torch

        from pipelines.pixels import to_unit_range
        from pipelines.verdict.overlay import draw_panels

        reader = self._reader(crops, masks)
        rows = np.arange(len(crops))
        image = to_unit_range(crops).to(self.device)
        cue = None if reader is None else reader.batch(rows)
        with torch.no_grad():
            on_device = None if cue is None else cue.to(self.device)
            try:
                output = self.detector(image, on_device)
            except ValueError as error:
                raise AgfasError(str(error)) from error
            scores = output.probability_bonafide.double().cpu().numpy()
            kinds = output.attack_classes
            classes = np.empty((len(crops), 0)) if kinds is None else kinds.double().cpu().numpy()
            if not panels:
                return Scored(scores, [{} for _ in crops], classes)
            # A second pass: with `need_weights` attention runs in other kernels, whose rounding would make a score
            # depend on whether panels are drawn.
            maps = self.detector(image, on_device, need_weights=True).attention
        restored = None if self.sweep is None or reader is None else reader.cues(rows)[1]
        drawn = [
            draw_panels(
                crops[row],
                None if restored is None else restored[row],
                None if cue is None else cue[row].numpy(),
                None if maps is None else [block[row : row + 1] for block in maps],
            )
            for row in rows
        ]
        return Scored(scores, drawn, classes)

    def _reader(self, crops: np.ndarray, masks: np.ndarray | None) -> CueReader | None:
        """The reader of the crops' cues, restored here instead of by the cue job."""
        from pipelines.cues.reader import CueReader

        recipe = self.recipe
        if recipe is None:
            return None
        keys = [pixel_key(crop) for crop in crops]
        made = {} if self.sweep is None else self._restore(self.sweep, crops, keys)
        return CueReader(
            recipe.source, keys, keys, crops, made.get(recipe.timestep_by(_maker_name(recipe))), made.get(AUTOENCODER),
            form=recipe.form, normalize=recipe.normalize, seed=recipe.seed, masks=masks,
        )  # fmt: skip

    def _restore(self, sweep: CueSweep, crops: np.ndarray, keys: Sequence[str]) -> dict[int, np.ndarray]:
        """The crops at each t, rounded to (B, H, W, 3) uint8 as in the cue store."""
        from pipelines.cues.job import to_pixels
        from pipelines.pixels import to_unit_range

        # Training read 8-bit restorations from the store; unrounded ones would be cues that it never saw.
        made = sweep.restore(to_unit_range(crops).to(self.device), keys, sweep.timesteps)
        return {timestep: to_pixels(picture, keys) for timestep, picture in made.items()}


class Parts(NamedTuple):
    """What `FaceAntiSpoofing` is assembled from: opening a run or a folder gives it, saving a folder takes it.

    Attributes:
        settings: everything that decides a score besides the weights.
        scorer: detector, generator and cue.
        describe: makes the facts for the model card, which takes seconds (bootstrap intervals), so only on demand.
        loaded: face detector and face parser.
    """

    settings: ModelSettings
    scorer: Scorer
    describe: Callable[[], About]
    loaded: Loaded


def pixel_key(crop: np.ndarray) -> str:
    """The key of a crop's noise: the SHA-256 of its pixels."""
    return hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest()


def _open_sweep(recipe: CueSettings, maker: Maker, weights_sha256: str) -> CueSweep:
    """The maker at the t of the cue, as the cue job runs it.

    It is not compiled: compiling takes minutes, and changes a restoration by rounding only.
    """
    from pipelines.cues.sources import sweep_of

    timesteps = recipe.timesteps_by(_maker_name(recipe))
    return sweep_of(recipe.model_copy(update={"compile": False}), maker, timesteps, weights_sha256, weights_sha256)


def _maker_name(recipe: CueSettings) -> str:
    """The `generator.name` behind the source, which names it, since no recipe here is `shuffled`."""
    return MAKERS.get(recipe.source, "dfg")

"""From crops to scores: restored, compared to a cue and judged exactly as in training, 8-bit rounding included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from pipelines.artefacts.models import on_device
from pipelines.cues.settings import AUTOENCODER, MAKERS, CueSettings
from pipelines.errors import AgfasError
from pipelines.verdict.crops import Loaded
from pipelines.verdict.settings import About, ModelSettings, Sees

if TYPE_CHECKING:
    from torch import Tensor

    from dfg.baselines.base import Baseline
    from dfg.pipeline import DeFakePipeline
    from oanet.batch import DetectorOutput
    from oanet.detectors.base import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.cues.sources import CueSweep
    from pipelines.verdict.calibration.head import OneClassHead

Maker: TypeAlias = "DeFakePipeline | Baseline"
"""What restores faces."""


@dataclass(frozen=True)
class Scored:
    """Result for B crops.

    Attributes:
        scores: (B,) float64 in [0, 1], higher is more live: the detector's probability of a live face, or the score of
            its head.
        panels: what the detector saw of each crop, (H, W, 3) uint8 by name; empty without `panels=True`.
        attack_classes: (B, K) probability of each kind of attack; K = 0 for detectors of two classes.
        raw: (B,) float64, the detector's own score beside that of its head; None without a head.
    """

    scores: np.ndarray
    panels: list[dict[str, np.ndarray]]
    attack_classes: np.ndarray
    raw: np.ndarray | None = None


@dataclass(frozen=True)
class Embedded:
    """What a head is fitted to, of B crops.

    Attributes:
        odds: (B,) float64, log-odds of live.
        scores: (B,) float64, the detector's own score.
        features: (B, D) float64, by what they are of.
    """

    odds: np.ndarray
    scores: np.ndarray
    features: dict[Sees, np.ndarray]


class Scorer:
    """A detector with everything that makes its cue.

    Args:
        detector: in evaluation mode.
        recipe: the cue's settings; None for a detector without a cue.
        maker: restores faces; None if the cue needs no restoration.
        weights_sha256: hash of the maker's weights.
        head: of a calibrated detector, see `pipelines.verdict.calibration`; it gives the scores.

    Attributes:
        device: where faces are judged; parts are moved there.
        sweep: the maker at every t that the cue needs; None if it needs no restoration.
    """

    def __init__(
        self,
        detector: Detector,
        recipe: CueSettings | None,
        maker: Maker | None = None,
        weights_sha256: str = "",
        head: OneClassHead | None = None,
    ) -> None:
        from pipelines.processes import device

        self.device = device()
        self.detector, self.recipe = detector.to(self.device), recipe
        self.head = None if head is None else head.to(self.device)
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

        from pipelines.verdict.overlay import draw_panels

        reader = self._reader(crops, masks)
        rows = np.arange(len(crops))
        with torch.no_grad():
            image, cue, output = self._look(crops, reader)
            raw = output.probability_bonafide.double().cpu().numpy()
            scores = raw if self.head is None else self._judge(self.head, output, image, cue)
            kinds = output.attack_classes
            classes = np.empty((len(crops), 0)) if kinds is None else kinds.double().cpu().numpy()
            own = None if self.head is None else raw
            if not panels:
                return Scored(scores, [{} for _ in crops], classes, own)
            # A second pass: with `need_weights` attention runs in other kernels, whose rounding would make a score
            # depend on whether panels are drawn.
            maps = self.detector(image, cue, need_weights=True).attention
        restored = None if self.sweep is None or reader is None else reader.cues(rows)[1]
        drawn = [
            draw_panels(
                crops[row],
                None if restored is None else restored[row],
                None if cue is None else cue[row].cpu().numpy(),
                None if maps is None else [block[row : row + 1] for block in maps],
            )
            for row in rows
        ]
        return Scored(scores, drawn, classes, own)

    def with_head(self, head: OneClassHead | None) -> Scorer:
        """The same networks with another head, or without."""
        made = copy(self)
        made.head = None if head is None else head.to(self.device)
        return made

    def embed(self, crops: np.ndarray, masks: np.ndarray | None = None, sees: Sequence[Sees] = ("both",)) -> Embedded:
        """What a head is fitted to; for crops and masks see `__call__`, for `sees` `calibration.head.embed`."""
        import torch

        from pipelines.verdict.calibration.head import embed, log_odds

        with torch.no_grad():
            image, cue, output = self._look(crops, self._reader(crops, masks))
            features = {kind: embed(self.detector, output, image, cue, kind) for kind in sees}
        return Embedded(
            log_odds(output).double().cpu().numpy(),
            output.probability_bonafide.double().cpu().numpy(),
            {kind: value.double().cpu().numpy() for kind, value in features.items()},
        )

    def _look(self, crops: np.ndarray, reader: CueReader | None) -> tuple[Tensor, Tensor | None, DetectorOutput]:
        """Crops and their cues on the device, and what the detector says of them."""
        from pipelines.pixels import to_unit_range

        image = to_unit_range(crops).to(self.device)
        cue = None if reader is None else reader.batch(np.arange(len(crops))).to(self.device)
        try:
            return image, cue, self.detector(image, cue)
        except ValueError as error:
            raise AgfasError(str(error)) from error

    def _judge(self, head: OneClassHead, output: DetectorOutput, image: Tensor, cue: Tensor | None) -> np.ndarray:
        from pipelines.verdict.calibration.head import judged

        return judged(head, self.detector, output, image, cue).double().cpu().numpy()

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

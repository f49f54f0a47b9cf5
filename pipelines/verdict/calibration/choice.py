"""How to calibrate, as `agfas calibrate` asks; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from pipelines.errors import AgfasError, nearest
from pipelines.verdict.anti_spoofing import FRAMES
from pipelines.verdict.calibration.enough import check_share
from pipelines.verdict.settings import Sees


@dataclass(frozen=True)
class Choice:
    """How to calibrate.

    Attributes:
        bpcer: share of live pictures and videos that the threshold may reject.
        threshold_only: choose the threshold alone; the score stays the detector's.
        features: what the head's features are of: `face`, `cue` or `both`; None: both.
        one_person: all pictures are of one person, and each folder or video is a session.
        aligned: the pictures are aligned, square crops.
        frames: of a video, evenly spaced in time; None: as many as `agfas detect` takes.
    """

    bpcer: float = 0.05
    threshold_only: bool = False
    features: str | None = None
    one_person: bool = False
    aligned: bool = False
    frames: int | None = None

    @property
    def sees(self) -> Sees:
        """What the head's features are of."""
        return cast(Sees, self.features or "both")

    @property
    def frames_of_video(self) -> int:
        """How many frames of a video are judged."""
        return FRAMES if self.frames is None else self.frames

    def check(self) -> None:
        """Refuse what no detector and no picture could make right.

        Raises:
            AgfasError: an unknown or senseless value.
        """
        if self.features is not None and self.features not in get_args(Sees):
            raise AgfasError(f"--features {self.features}: {nearest(self.features, get_args(Sees))}")
        if self.features is not None and self.threshold_only:
            raise AgfasError(
                f"--features {self.features} is of a head, and --threshold-only makes none: leave one of both out."
            )
        if self.frames_of_video < 1:
            raise AgfasError(f"--frames must be at least 1, not {self.frames}.")
        check_share(self.bpcer)

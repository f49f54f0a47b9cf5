"""The live faces of a calibration and their persons: who is held out of which fit, and what is too little to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.data.leaks import CORRELATION, correlations, neighbours
from pipelines.errors import AgfasError
from pipelines.verdict.calibration.enough import check_enough

MOST_FOLDS = 20


@dataclass(frozen=True)
class LiveFaces:
    """N live faces in C captures, each a picture or a video, of G groups: persons, or sessions of one person.

    Attributes:
        odds: (N,) float64, the detector's log-odds of live.
        scores: (N,) float64 in [0, 1], its score.
        features: (N, D) float64; D = 0 of a detector without any.
        capture: (N,) int64, the capture of each face.
        group: (C,) int64, the group of each capture.
        names: of the G groups.
        different: how many of the faces differ in a pixel.
        one_person: whether the groups are sessions of one person.
    """

    odds: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    capture: np.ndarray
    group: np.ndarray
    names: Sequence[str]
    different: int
    one_person: bool = False

    @property
    def fold(self) -> np.ndarray:
        """(G,) int64: groups of one fold are held out together, one alone where there are at most `MOST_FOLDS`."""
        return np.arange(len(self.names)) % MOST_FOLDS

    def by_capture(self, values: np.ndarray) -> np.ndarray:
        """(C,) means over the faces of each capture of values (N,)."""
        return np.bincount(self.capture, values, len(self.group)) / np.bincount(self.capture, minlength=len(self.group))

    @property
    def weights(self) -> np.ndarray:
        """(C,) of each capture, by which every group counts alike."""
        return 1.0 / np.bincount(self.group)[self.group]

    def check(self, bpcer: float, head: bool) -> None:
        """Refuse what is too little.

        Args:
            bpcer: share of captures that the threshold is to reject.
            head: whether a head is fitted too.

        Raises:
            AgfasError: too few persons, faces or captures, and what to do.
        """
        check_enough(self.names, len(self.group), self.different, bpcer, head=head, one_person=self.one_person)


def check_apart(group: np.ndarray, names: Sequence[str], places: Sequence[str], looks: Looks) -> None:
    """Refuse pictures of two groups that are nearly one: who is held out of a fit would be in it.

    Args:
        group: (N,) int64, of each face.
        names: of the groups.
        places: where each face comes from, for messages.
        looks: of each face.

    Raises:
        AgfasError: there are such pictures.
    """
    for first, second in neighbours(looks.hashes):
        pairs = np.stack([first, second], axis=1)
        pairs = pairs[group[first] != group[second]]
        pairs = pairs[correlations(looks.thumbnails, pairs) >= CORRELATION]
        if len(pairs):
            one, other = pairs[0].tolist()
            raise AgfasError(
                f"{places[one]} ({names[group[one]]}) and {places[other]} ({names[group[other]]}) are nearly the same"
                " picture. If both folders show one person, make them one; else remove the copy."
            )


@dataclass(frozen=True)
class Looks:
    """What `pipelines.data.leaks.signature` gives of N faces.

    Attributes:
        hashes: (N,) uint64.
        thumbnails: (N, 256) uint8.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray

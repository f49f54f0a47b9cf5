"""A detector's answers over the faces of a dataset, in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from dfg.noise import to_device
from dfg.speed import use_tf32
from pipelines.errors import AgfasError
from pipelines.evaluation.sight import look
from pipelines.pixels import to_unit_range
from pipelines.processes import device

if TYPE_CHECKING:
    from oanet.batch import DetectorOutput
    from oanet.detectors import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.data.faces import Faces


@torch.no_grad()
def answers(
    detector: Detector, faces: Faces, reader: CueReader | None, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, DetectorOutput]]:
    """Each batch's rows with the detector's output, in order.

    A face that the publisher of a network rejects as an input gets the score 0: it is not accepted as live.

    Args:
        detector: moved to this process's device and set to evaluation mode.
        faces: the dataset.
        reader: of its cues; None for a detector without.
        rows: (n,) indices of the faces.
        batch_size: faces judged at once.

    Raises:
        AgfasError: a face is not what the detector takes, or its output is no probability.
    """
    use_tf32(False)  # scores are float32, in whatever arithmetic the detector was trained
    detector = detector.to(device()).eval()
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        seen, rejected = look(detector, faces, part)
        image = to_device(to_unit_range(seen), device())
        cue = None if reader is None else to_device(reader.batch(part), device())
        try:
            output = detector(image, cue)
        except ValueError as error:
            raise AgfasError(str(error)) from error
        if rejected.any():
            output.logits[torch.from_numpy(rejected)] = output.logits.new_tensor((0.0, -math.inf))
        yield part, output


def score_faces(
    detector: Detector, faces: Faces, reader: CueReader | None, rows: np.ndarray, batch_size: int
) -> np.ndarray:
    """Probability of bona fide of some faces, (n,) float64; arguments as of `answers`."""
    found = [
        output.probability_bonafide.double().cpu().numpy()
        for _, output in answers(detector, faces, reader, rows, batch_size)
    ]
    return np.concatenate(found)

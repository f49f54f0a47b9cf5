"""The detector of an insightface pack (SCRFD, Guo et al., ICLR 2022; RetinaFace in older packs), by onnxruntime.

The code of insightface has the MIT licence; its packs are for non-commercial research only.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.detection import DetectedFace, in_short
from pipelines.data.detection.scales import ScaledDetector, SearchScales
from pipelines.errors import AgfasError, nearest
from pipelines.fingerprint import content_sha256

LICENCE = "non-commercial research only (insightface's model packs)"
PACKS = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2")

logger = logging.getLogger(__name__)


class InsightFace(ScaledDetector):
    """The face detector of an insightface pack.

    The picture is resized, up or down, to fill a black square of `longer_side`, then of the next sides of
    `SearchScales`. A network with a fixed input size runs at that size only.

    Args:
        weights: the folder of a pack, or the ONNX file of its detector. Default: insightface downloads `pack`.
        pack: name in `PACKS`; ignored if `weights` is given.
        root: folder of insightface's packs.
        score_threshold: in [0, 1], of the class score.
        nms_threshold: intersection over union above which the box with the lower score is dropped.
        longer_side, largest_side, small_face: as in `SearchScales`; multiples of 32.

    Raises:
        AgfasError: unknown pack, no connection, no detector in the folder, or one without landmarks.
    """

    name = "insightface"
    licence = LICENCE

    def __init__(
        self,
        weights: Path | None = None,
        pack: str = "buffalo_l",
        root: Path = Path("~/.insightface"),
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        longer_side: int = 640,
        largest_side: int = 2560,
        small_face: int = 32,
    ) -> None:
        scales = SearchScales(longer_side, largest_side, small_face)
        super().__init__(scales, score_threshold=score_threshold, nms_threshold=nms_threshold)
        for option, value in (("longer_side", longer_side), ("largest_side", largest_side)):
            if value % 32:
                raise AgfasError(f"{option} of the face detector 'insightface' must be a multiple of 32; got {value}.")
        path = _download(pack, root) if weights is None else weights
        self._net, file = _open_first_detector(_onnx_files(path), path)
        self.sha256 = content_sha256(file)
        self._net.prepare(-1, det_thresh=score_threshold, nms_thresh=nms_threshold)
        fixed = self._net.static_input_size
        self.fixed_side = None if fixed is None else int(max(fixed))
        if self.fixed_side:
            self.scales = SearchScales(self.fixed_side, self.fixed_side, 0)

    def fingerprint(self) -> dict[str, Any]:
        """Weights, thresholds, input size and sizes."""
        return {**super().fingerprint(), "fixed_side": self.fixed_side}

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        side = max(self.scales.longer_side, -(-max(picture.shape[:2]) // 32) * 32)
        # insightface expects BGR and returns rows of left, top, right, bottom, score.
        boxes, landmarks = self._net.detect(np.ascontiguousarray(picture[:, :, ::-1]), input_size=(side, side))
        return [DetectedFace.from_corners(box, points) for box, points in zip(boxes, landmarks, strict=True)]


def _onnx_files(place: Path) -> list[Path]:
    """The graphs of a pack, also one level deeper, where some of insightface's archives have them."""
    if not place.exists():
        raise AgfasError(
            f"No insightface pack at {place}: there is neither a folder nor a file. Unpack a pack there, or leave out"
            f" the weights and give the name of a pack to download: {', '.join(PACKS)}."
        )
    if place.is_file():
        return [place]
    files = sorted([*place.glob("*.onnx"), *place.glob("*/*.onnx")])
    if not files:
        raise AgfasError(f"{place} holds no ONNX file, so it is not an insightface pack. Unpack one there.")
    return files


def _open_first_detector(files: Sequence[Path], place: Path) -> tuple[Any, Path]:
    from insightface.model_zoo import get_model

    for file in files:
        try:
            net = get_model(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime and insightface raise various errors on foreign bytes
            raise AgfasError(
                f"{file} cannot be opened as a model of insightface ({in_short(error)}). Download the pack again."
            ) from error
        if getattr(net, "taskname", None) == "detection":
            if not net.use_kps:
                raise AgfasError(f"The detector {file} gives no landmarks, which are needed to align faces.")
            return net, file
    names = ", ".join(file.name for file in files)
    raise AgfasError(f"{place} holds no face detector of insightface, only {names}. Unpack a complete pack there.")


def _download(pack: str, root: Path) -> Path:
    if pack not in PACKS:
        raise AgfasError(f"insightface has no pack {pack!r}: {nearest(pack, PACKS)}")
    from insightface.utils import ensure_available

    folder = root.expanduser() / "models" / pack
    if not folder.is_dir():
        logger.warning("downloading insightface's pack %s into %s; licence: %s", pack, folder, LICENCE)
    try:
        with redirect_stdout(sys.stderr):  # standard output is for the command's result
            return Path(ensure_available("models", pack, root=str(root)))
    except Exception as error:  # requests, zipfile and insightface itself, which raises RuntimeError
        raise AgfasError(
            f"insightface's pack {pack} is not in {folder} and cannot be downloaded ({in_short(error)})."
            f" Download {pack}.zip from insightface's releases (model-zoo) on a machine with a connection, unpack it,"
            " and name the folder with --weights."
        ) from error

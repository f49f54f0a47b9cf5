"""The detector of an insightface pack (SCRFD, Guo et al., ICLR 2022; RetinaFace in older packs), by onnxruntime.

The code of insightface is under the MIT licence, its packs are for non-commercial research only.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.detection.base import DetectedFace
from pipelines.data.detection.scales import SearchScales, search_scales
from pipelines.errors import AgfasError, nearest
from pipelines.fingerprint import file_sha256

LICENCE = "non-commercial research only (insightface's model packs)"
PACKS = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2")

logger = logging.getLogger(__name__)


class InsightFace:
    """Finds faces with the detector of an insightface pack. Its landmarks come in the order of `DetectedFace`.

    The net sees a black square of `longer_side`, or of the next sides of `SearchScales`, in which the picture fills
    the longer side: a smaller picture is enlarged to it. A pack whose net has a fixed input is always run at that.

    Args:
        weights: the pack's folder, or its detector's ONNX file. Without it, `pack` is downloaded by insightface.
        pack: a name in `PACKS`; used only where `weights` is not given.
        root: where insightface keeps its packs.
        score_threshold: in [0, 1], of the class score.
        nms_threshold: overlap (intersection over union) above which the less sure of two boxes is dropped.
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
        _check_options(score_threshold, nms_threshold, longer_side, largest_side)
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        path = _download(pack, root) if weights is None else _check_place(weights)
        self._net, file = _open_first_detector(_onnx_files(path), path)
        self._sha256 = file_sha256(file)
        self._net.prepare(-1, det_thresh=score_threshold, nms_thresh=nms_threshold)
        fixed = self._net.static_input_size
        self.fixed_side = None if fixed is None else int(max(fixed))
        side = self.fixed_side
        self.scales = SearchScales(longer_side, largest_side, small_face) if side is None else _one_scale(side)

    def fingerprint(self) -> dict[str, Any]:
        """Weights, thresholds and sizes."""
        return {
            "detector": self.name,
            "weights": self._sha256,
            "score_threshold": self.score_threshold,
            "nms_threshold": self.nms_threshold,
            "fixed_side": self.fixed_side,
            **self.scales.fingerprint(),
        }

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""
        return search_scales(picture, self._search, self.scales)

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        side = max(self.scales.longer_side, -(-max(picture.shape[:2]) // 32) * 32)
        # Blue, green, red. Boxes are left, top, right, bottom, score.
        boxes, landmarks = self._net.detect(np.ascontiguousarray(picture[:, :, ::-1]), input_size=(side, side))
        return [_face(box, points) for box, points in zip(boxes, landmarks, strict=True)]


def _face(row: np.ndarray, points: np.ndarray) -> DetectedFace:
    left, top, right, bottom, score = row
    box = np.array([left, top, right - left, bottom - top], dtype=np.float32)
    return DetectedFace(box, np.asarray(points, dtype=np.float32), float(score))


def _one_scale(side: int) -> SearchScales:
    return SearchScales(side, side, 0)


def _check_options(score_threshold: float, nms_threshold: float, longer_side: int, largest_side: int) -> None:
    for option, share in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
        if not 0 <= share <= 1:
            raise AgfasError(f"{option} is a share from 0 to 1; got {share}.")
    for option, side in (("longer_side", longer_side), ("largest_side", largest_side)):
        if side % 32:
            raise AgfasError(f"{option} of the detector 'insightface' is a multiple of 32; got {side}.")


def _check_place(weights: Path) -> Path:
    if not weights.exists():
        raise AgfasError(
            f"No insightface pack at {weights}: there is neither a folder nor a file. Unpack a pack there, or leave the"
            f" weights out and give a pack's name, which insightface downloads: {', '.join(PACKS)}."
        )
    return weights


def _onnx_files(place: Path) -> list[Path]:
    """A pack's graphs; one level deeper too, where some of insightface's archives have them."""
    if place.is_file():
        return [place]
    files = sorted([*place.glob("*.onnx"), *place.glob("*/*.onnx")])
    if not files:
        raise AgfasError(f"{place} holds no ONNX file, so it is no insightface pack. Unpack one there.")
    return files


def _open_first_detector(files: Sequence[Path], place: Path) -> tuple[Any, Path]:
    from insightface.model_zoo import get_model

    for file in files:
        try:
            net = get_model(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime and insightface each raise errors of their own on foreign bytes
            raise AgfasError(
                f"{file} cannot be opened as a model of insightface ({_reason(error)}). Download the pack again."
            ) from error
        if getattr(net, "taskname", None) == "detection":
            if not net.use_kps:
                raise AgfasError(f"The detector {file} gives no landmarks, without which no face can be aligned.")
            return net, file
    names = ", ".join(file.name for file in files)
    raise AgfasError(f"{place} holds no face detector of insightface's, only {names}. Unpack a whole pack there.")


def _download(pack: str, root: Path) -> Path:
    if pack not in PACKS:
        raise AgfasError(f"insightface has no pack {pack!r}: {nearest(pack, PACKS)}")
    from insightface.utils import ensure_available

    folder = root.expanduser() / "models" / pack
    if not folder.is_dir():
        logger.warning("downloading insightface's pack %s into %s; its licence: %s", pack, folder, LICENCE)
    try:
        with redirect_stdout(sys.stderr):  # standard output belongs to the command's answer
            return Path(ensure_available("models", pack, root=str(root)))
    except Exception as error:  # requests, zipfile and insightface itself, which raises RuntimeError
        raise AgfasError(
            f"insightface's pack {pack} is not in {folder} and cannot be downloaded ({_reason(error)})."
            f" Where there is a connection, download {pack}.zip from insightface's releases (model-zoo), unpack it, and"
            " name the folder as the detector's weights."
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

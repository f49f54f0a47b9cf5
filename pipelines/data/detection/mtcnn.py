"""MTCNN (Zhang et al., IEEE Signal Processing Letters 2016) with the weights and rules of facenet-pytorch 2.6.0.

The released crops of AG-FAS and SSDG were made with its landmarks. Three networks look in turn: P-Net at every place of
a pyramid of copies, R-Net and O-Net at the squares that are left, and O-Net gives the landmarks. The rules are those of
the package's `MTCNN(keep_all=True).detect`, with two exceptions. A square that reaches beyond the picture is filled up
with black, as in the paper's code; the package stretches what is inside, which moves the landmarks of faces that fill
the picture, and `edges="stretch"` does as the package. A square without a pixel in the picture, which makes the package
fail, is dropped.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.data.detection import DetectedFace
from pipelines.data.detection.mtcnn_networks import LAYOUTS, StageNet
from pipelines.data.detection.scales import ScaledDetector, SearchScales
from pipelines.data.state_dict import load_state_dict, read_state_dict
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256, fingerprint

PACKAGE = "facenet_pytorch"
_WHERE = (
    f"Its three files {', '.join(f'{name}.pt' for name in LAYOUTS)} (2 MB, MIT) are in the package facenet-pytorch:"
    " `pip install --no-deps facenet-pytorch==2.6.0`. Or `pip download` it in the same way, unpack the wheel (a zip"
    f" file), and name its folder {PACKAGE}/data with --weights"
)
# Side of P-Net's window and the distance of its windows, in pixels of a copy.
_WINDOW, _STRIDE = 12, 2
EDGES = ("pad", "stretch")
# Squares looked at together: bounds memory where P-Net leaves thousands.
_AT_ONCE = 512
# Overlap above which the worse of two boxes is dropped: of P-Net in one copy, and everywhere else.
_SAME_COPY, _SAME_FACE = 0.5, 0.7


class MTCNN(ScaledDetector):
    """The MTCNN face detector.

    Turned faces are not searched again, and pictures up to `largest_side` are searched at their own size.

    Args:
        weights: a folder with pnet.pt, rnet.pt and onet.pt, or of the unpacked package. Default: the installed package,
            of which no code runs.
        min_face_size: side of the smallest faces to find, in pixels; at least 12.
        factor: ratio of the sides of neighbouring copies, above 0 and below 1.
        pnet_threshold, rnet_threshold, onet_threshold: least score of each network, in [0, 1].
        edges: what R-Net and O-Net see of a square that reaches beyond the picture: `pad` or `stretch`.
        device: torch device.
        largest_side: larger pictures are searched in a copy of this longer side.

    Raises:
        AgfasError: no weights, other weights, or a value that is not allowed.
    """

    name = "mtcnn"
    licence = "MIT (facenet-pytorch)"

    def __init__(
        self,
        weights: Path | None = None,
        min_face_size: int = 20,
        factor: float = 0.709,
        pnet_threshold: float = 0.6,
        rnet_threshold: float = 0.7,
        onet_threshold: float = 0.7,
        edges: str = "pad",
        device: str = "cpu",
        largest_side: int = 4096,
    ) -> None:
        thresholds = {"pnet": pnet_threshold, "rnet": rnet_threshold, "onet": onet_threshold}
        super().__init__(
            SearchScales(largest_side, largest_side, small_face=0),
            **{f"{name}_threshold": value for name, value in thresholds.items()},
        )
        if min_face_size < _WINDOW or not 0 < factor < 1:
            raise AgfasError(
                f"The face detector 'mtcnn' needs min_face_size of at least {_WINDOW} and factor between 0 and 1; got"
                f" {min_face_size} and {factor}."
            )
        if edges not in EDGES:
            raise AgfasError(f"edges of the face detector 'mtcnn' must be {' or '.join(EDGES)}; got {edges}.")
        self.min_face_size, self.factor, self.edges = min_face_size, factor, edges
        self.device = torch.device(device)
        folder = _folder(weights)
        self.sha256 = fingerprint([file_sha256(folder / f"{name}.pt") for name in LAYOUTS])
        self._pnet, self._rnet, self._onet = (_load(folder / f"{name}.pt", name).to(self.device) for name in LAYOUTS)

    def fingerprint(self) -> dict[str, object]:
        """Weights, thresholds and sizes."""
        own = {"min_face_size": self.min_face_size, "factor": self.factor, "edges": self.edges}
        return {**super().fingerprint(), **own}

    @torch.inference_mode()
    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        pixels = torch.tensor(picture, device=self.device).permute(2, 0, 1)[None].float()
        boxes = self._propose(pixels)
        boxes, scores, offsets, _ = self._look(self._rnet, pixels, boxes, self.thresholds["rnet_threshold"])
        kept = suppress(boxes, scores, _SAME_FACE)
        boxes = square(moved(boxes[kept], offsets[kept], 1))
        boxes, scores, offsets, points = self._look(self._onet, pixels, boxes, self.thresholds["onet_threshold"])
        points = placed(points, boxes)
        boxes = moved(boxes, offsets, 1)
        kept = suppress(boxes, scores, _SAME_FACE, of_smaller=True)
        rows = np.concatenate([boxes, scores[:, None]], axis=1)
        return [DetectedFace.from_corners(rows[place], points[place]) for place in kept]

    def _propose(self, pixels: Tensor) -> np.ndarray:
        """P-Net's squares (N, 4), of all copies of a picture."""
        height, width = pixels.shape[2:]
        found = [np.zeros((0, 9), np.float32)]
        for scale in pyramid(min(height, width), self.min_face_size, self.factor):
            copy = F.interpolate(pixels, size=(int(height * scale + 1), int(width * scale + 1)), mode="area")
            scores, offsets = self._pnet(_normalised(copy))
            rows = candidates(_numpy(scores[0]), _numpy(offsets[0]), scale, self.thresholds["pnet_threshold"])
            found.append(rows[suppress(rows[:, :4], rows[:, 4], _SAME_COPY)])
        rows = np.concatenate(found)
        rows = rows[suppress(rows[:, :4], rows[:, 4], _SAME_FACE)]
        return square(moved(rows[:, :4], rows[:, 5:], 0))

    def _look(
        self, network: StageNet, pixels: Tensor, boxes: np.ndarray, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Boxes that a network keeps (N, 4), their scores (N,), offsets (N, 4), and what else it gives (N, 10 or 0)."""
        cuts, boxes = cut(pixels, boxes, network.side, self.edges)
        if not len(cuts):
            return boxes, np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 10), np.float32)
        parts = [network(_normalised(part)) for part in cuts.split(_AT_ONCE)]
        scores, offsets, *more = (_numpy(torch.cat(outputs)) for outputs in zip(*parts, strict=True))
        passed = scores > threshold
        points = more[0] if more else np.zeros((len(scores), 0), np.float32)
        return boxes[passed], scores[passed], offsets[passed], points[passed]


def pyramid(shorter: int, min_face_size: int, factor: float) -> list[float]:
    """Scales of the copies of a picture with the shorter side `shorter`, in each of which a window is another face."""
    scale = float(_WINDOW) / min_face_size
    side, scales = shorter * scale, []
    while side >= _WINDOW:
        scales.append(scale)
        scale, side = scale * factor, side * factor
    return scales


def candidates(scores: np.ndarray, offsets: np.ndarray, scale: float, threshold: float) -> np.ndarray:
    """P-Net's windows with a score of at least `threshold`, in pixels of the picture.

    Args:
        scores: (h, w) float32, of the windows.
        offsets: (4, h, w) float32, of the sides, in sides of the window.
        scale: of the copy.

    Returns:
        (N, 9) float32: left, top, right, bottom, score, four offsets.
    """
    down, across = np.nonzero(scores >= threshold)
    corner = np.stack([across, down], axis=1).astype(np.float32) * _STRIDE
    first = np.floor((corner + 1) / np.float32(scale))
    last = np.floor((corner + _WINDOW) / np.float32(scale))
    return np.concatenate([first, last, scores[down, across][:, None], offsets[:, down, across].T], axis=1)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Places of the boxes to keep, the highest score first; what overlaps a better one by more is dropped.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,).
        threshold: largest overlap: intersection over union. Of equal scores, which round to 1, the first is better.
        of_smaller: intersection over the smaller box instead, with sides that count both end pixels. Of equal scores,
            the last is better.
    """
    end = np.float32(of_smaller)
    area = (boxes[:, 2] - boxes[:, 0] + end) * (boxes[:, 3] - boxes[:, 1] + end)
    waiting = np.argsort(scores, kind="stable")[::-1] if of_smaller else np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[waiting, :2]), np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        both = np.maximum(0, high - low + end).prod(axis=1)
        whole = np.minimum(area[best], area[waiting]) if of_smaller else area[best] + area[waiting] - both
        waiting = waiting[both <= threshold * whole]
    return np.array(kept, dtype=np.int64)


def moved(boxes: np.ndarray, offsets: np.ndarray, end: int) -> np.ndarray:
    """Boxes (N, 4) whose sides are moved by offsets (N, 4) in units of the box; `end` 1: its sides count both ends."""
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(end)
    return boxes + offsets * np.concatenate([size, size], axis=1)


def square(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) with both sides as long as the longer one, around the same middle."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * np.float32(0.5) - side * np.float32(0.5)
    return np.concatenate([corner, corner + side], axis=1)


def cut(pixels: Tensor, boxes: np.ndarray, side: int, edges: str) -> tuple[Tensor, np.ndarray]:
    """Boxes of a picture, each resized to a square by area averaging.

    Args:
        pixels: (1, 3, H, W).
        boxes: (N, 4), whose first pixel has the number 1.
        side: of the squares.
        edges: `pad`: what lies outside the picture is black; `stretch`: it is left away.

    Returns:
        (M, 3, side, side) and the boxes (M, 4) that have a pixel inside.
    """
    end = (pixels.shape[3], pixels.shape[2])
    first, last = boxes[:, :2].astype(np.int64) - 1, boxes[:, 2:].astype(np.int64)
    start, stop = np.maximum(first, 0), np.minimum(last, end)
    inside = (stop > start).all(axis=1)
    squares = [pixels.new_zeros(0, 3, side, side)]
    for (left, top), (right, bottom), before, after in zip(
        *(part[inside].tolist() for part in (start, stop, start - first, last - stop)), strict=True
    ):
        part = pixels[:, :, top:bottom, left:right]
        if edges == "pad":
            part = F.pad(part, (before[0], after[0], before[1], after[1]))
        squares.append(F.interpolate(part, size=(side, side), mode="area"))
    return torch.cat(squares), boxes[inside]


def placed(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """O-Net's landmarks (N, 10), five x then five y in units of their box (N, 4), as (N, 5, 2) in pixels."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return points.reshape(-1, 2, 5).transpose(0, 2, 1) * size[:, None] + boxes[:, None, :2] - 1


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def _numpy(values: Tensor) -> np.ndarray:
    return np.asarray(values.cpu())


def _folder(weights: Path | None) -> Path:
    """The folder that holds the three files."""
    if weights is None:
        spec = find_spec(PACKAGE)  # of a top package: finds it without running it
        if spec is None or not spec.submodule_search_locations:
            raise AgfasError(f"The face detector 'mtcnn' needs its weights. {_WHERE}.")
        weights = Path(spec.submodule_search_locations[0])
    for folder in (weights, weights / "data", weights / PACKAGE / "data"):
        if all((folder / f"{name}.pt").is_file() for name in LAYOUTS):
            return folder
    raise AgfasError(f"No weights of the face detector 'mtcnn' in {weights}. {_WHERE}.")


def _load(path: Path, name: str) -> StageNet:
    network = StageNet(LAYOUTS[name])
    load_state_dict(network, read_state_dict(path, "weights of MTCNN"), path)
    return network.eval().requires_grad_(False)

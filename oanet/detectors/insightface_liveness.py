"""insightface's liveness add-on (insightface 2.1): an ONNX graph that the user brings, run by onnxruntime.

It sees 80x80 pixels that it cuts out of the whole picture by the face's five points: a similarity to a template of its
own, some 1.6 times as wide as ArcFace's, bilinear, with the picture's border repeated; RGB / 255. Its output is the
probability of a live face, without a softmax.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from oanet.batch import DetectorOutput
from oanet.detectors.base import Detector
from oanet.published import Decision, RejectedInput

if TYPE_CHECKING:
    import onnxruntime

SIDE = 80
TEMPLATE = np.array([(32.03, 38.06), (47.89, 37.98), (40.01, 47.08), (33.50, 56.36), (46.63, 56.29)], dtype=np.float32)
"""Where the five points go, in pixels of the crop."""

LARGEST_OUTSIDE = 0.30
"""Share of the crop that may lie outside the picture."""


class InsightfaceLiveness(Detector):
    """The graph behind the contract of `Detector`; it is saved as bytes beside the other weights.

    `train` raises an error. The feature is the probability itself.

    Args:
        weights: the `.onnx` file; None: a detector to load saved weights into.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or holds another graph.
    """

    name = "insightface_liveness"
    sees = "points"
    feature_dim = 1
    inference_only: ClassVar[str | None] = "its weights are an ONNX graph"
    published: ClassVar[dict[str, Any] | None] = {
        "title": "the liveness add-on of insightface 2.1",
        "files": "liveness.onnx from the release 'addons' of github.com/deepinsight/insightface-model-addons;"
        " insightface stores it in ~/.insightface/addons",
        "licence": "its publisher's: non-commercial research only",
        "trained_on": "pictures that its publisher does not name",
    }
    decision = Decision(0.8, "publisher's threshold; on what it was chosen is not published")

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self._graph = b""
        self._session: onnxruntime.InferenceSession | None = None
        if weights is not None:
            path = Path(weights)
            if not path.is_file():
                raise FileNotFoundError(f"No weights at {path}: there is no such file. Check the detector's `weights`.")
            self._graph = path.read_bytes()
            try:
                self._session = _open(self._graph)
            except ValueError as error:
                raise ValueError(f"{path} is not insightface's liveness add-on: {error}.") from error
        self.eval()

    def train(self, mode: bool = True) -> InsightfaceLiveness:
        """Stay in eval mode. Raises ValueError for `mode=True`."""
        if mode:
            raise ValueError(f"{self.name!r} is for inference only: {self.inference_only}. Set train.steps: 0.")
        return super().train(False)

    def get_extra_state(self) -> Tensor:
        """The graph's bytes, saved with the tensors."""
        return torch.frombuffer(bytearray(self._graph), dtype=torch.uint8) if self._graph else torch.empty(0)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the graph of `get_extra_state`."""
        self._graph, self._session = state.to(torch.uint8).cpu().numpy().tobytes(), None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session cannot be copied or sent to another process

    def num_parameters(self) -> int:
        """Number of values in the graph's initial tensors."""
        import onnx

        graph = onnx.load_from_string(self._graph).graph if self._graph else onnx.GraphProto()
        return sum(math.prod(tensor.dims) for tensor in graph.initializer)

    def look(self, picture: np.ndarray, box: np.ndarray | None = None, points: np.ndarray | None = None) -> np.ndarray:
        """The aligned crop (80, 80, 3). See `Detector.look`."""
        matrix = _similarity(points)
        inside = cv2.warpAffine(np.ones(picture.shape[:2], np.float32), matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        outside = 1 - float(inside.mean())
        if outside > LARGEST_OUTSIDE:
            raise RejectedInput(
                f"{outside:.0%} of the crop around the face lies outside the picture; {self.name!r} rejects more than"
                f" {LARGEST_OUTSIDE:.0%}. Take the picture with more space around the face."
            )
        return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `Detector.recognises`."""
        if path.suffix != ".onnx":
            return False
        try:
            _open(path.read_bytes())
        except ValueError:
            return False
        return True

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; `image` is (B, 3, 80, 80) of `look`."""
        if image.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(
                f"{self.name!r} takes its own crops, (3, {SIDE}, {SIDE}), and not {tuple(image.shape[1:])}: make them"
                " from the whole picture and the face's five points with `look`."
            )
        pixels = ((image.float() + 1) * 127.5).round() / 255
        scores = np.concatenate([self._score(face) for face in pixels.cpu().numpy()])
        live = torch.from_numpy(scores).to(image.device)
        logits = torch.stack([torch.log1p(-live), live.log()], dim=1)
        return DetectorOutput(logits, live[:, None])

    def _score(self, pixels: np.ndarray) -> np.ndarray:
        """(3, 80, 80) in [0, 1] -> (1,): one face at a time, as the published graph's batch may be fixed."""
        if self._session is None:
            if not self._graph:
                raise ValueError(f"{self.name!r} has no graph. Give its `weights`.")
            self._session = _open(self._graph)
        (score,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels[None]})
        if score.shape != (1,) or not 0 <= score[0] <= 1:  # also refuses NaN
            raise ValueError(
                f"The graph of {self.name!r} gave {score.tolist()}, which is no probability of a live face."
            )
        return score


def _open(graph: bytes) -> onnxruntime.InferenceSession:
    """A session of a graph with the add-on's input and output. Raises ValueError for any other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ValueError(f"onnxruntime cannot read it ({' '.join(str(error).split())[:200]})") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (
        len(inputs) != 1
        or len(outputs) != 1
        or list(inputs[0].shape[1:]) != [3, SIDE, SIDE]
        or len(outputs[0].shape) != 1
        or {inputs[0].type, outputs[0].type} != {"tensor(float)"}
    ):
        raise ValueError(f"it must take (N, 3, {SIDE}, {SIDE}) and give (N,), both of float32")
    return session


def _similarity(points: np.ndarray | None) -> np.ndarray:
    """The similarity (2, 3) from the five points to `TEMPLATE` (Umeyama 1991, reflections excluded).

    Raises:
        ValueError: not five finite points, points at one place, or points that no similarity brings near.
    """
    given = np.asarray(math.nan if points is None else points, dtype=np.float64)
    if given.shape != (5, 2) or not (np.abs(given) < 1e9).all():  # also refuses NaN
        raise ValueError("The liveness add-on needs the five finite points of a face: eyes, nose, mouth corners.")
    target = TEMPLATE.astype(np.float64)
    source_mean, target_mean = given.mean(axis=0), target.mean(axis=0)
    source, centred = given - source_mean, target - target_mean
    variance = (source**2).sum() / len(source)
    if variance < 1e-12:
        raise ValueError("The five points of the face coincide, so that it cannot be aligned. Detect it again.")
    left, spread, right = np.linalg.svd(centred.T @ source / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = float((spread * signs).sum()) / variance
    if scale < 1e-9:
        raise ValueError("The five points of the face are no face's, so that it cannot be aligned. Detect it again.")
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])

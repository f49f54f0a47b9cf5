"""RetinaFace (Deng et al., CVPR 2020) as facexlib implements it: ResNet-50 or MobileNet-0.25, five landmarks."""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.detection.base import DetectedFace
from pipelines.data.detection.scales import SearchScales, search_scales
from pipelines.data.state_dict import find_weights, load_state_dict, read_state_dict
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256

LICENCE = "MIT (facexlib)"
URL = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth"
_WHAT = "weights of RetinaFace"


class RetinaFace:
    """Finds faces with facexlib's RetinaFace. Its landmarks come in the order of `DetectedFace`.

    Args:
        weights: the state dict (detection_Resnet50_Final.pth or detection_mobilenet0.25_Final.pth), or a folder with
            nothing else of that kind; which of the two networks it is shows in its names. Without it, facexlib's
            ResNet-50 (104 MB) is downloaded once into torch's cache.
        score_threshold: in [0, 1], of the class score.
        nms_threshold: overlap (intersection over union) above which the less sure of two boxes is dropped.
        device: torch's name of where it runs.
        longer_side, largest_side, small_face: as in `SearchScales`.

    Raises:
        AgfasError: no file, another file, no connection, or a threshold outside [0, 1].
    """

    name = "retinaface"
    licence = LICENCE

    def __init__(
        self,
        weights: Path | None = None,
        score_threshold: float = 0.8,
        nms_threshold: float = 0.4,
        device: str = "cpu",
        longer_side: int = 640,
        largest_side: int = 4096,
        small_face: int = 32,
    ) -> None:
        for option, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise AgfasError(f"{option} is a share from 0 to 1; got {value}.")
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.scales = SearchScales(longer_side, largest_side, small_face)
        path = _download() if weights is None else find_weights(weights, _WHAT)
        self._net, self.network = _build(path, device)
        self._sha256 = file_sha256(path)

    def fingerprint(self) -> dict[str, Any]:
        """Weights, thresholds and sizes."""
        return {
            "detector": self.name,
            "network": self.network,
            "weights": self._sha256,
            "score_threshold": self.score_threshold,
            "nms_threshold": self.nms_threshold,
            **self.scales.fingerprint(),
        }

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""
        return search_scales(picture, self._search, self.scales)

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        import torch

        with torch.inference_mode():
            # Blue, green, red. Rows of 15: left, top, right, bottom, score, five times x and y.
            rows = self._net.detect_faces(picture[:, :, ::-1], self.score_threshold, self.nms_threshold)
        return [_face(row) for row in np.asarray(rows, dtype=np.float32)]


def _face(row: np.ndarray) -> DetectedFace:
    left, top, right, bottom, score = row[:5]
    box = np.array([left, top, right - left, bottom - top], dtype=np.float32)
    return DetectedFace(box, row[5:15].reshape(5, 2), float(score))


def _build(path: Path, device: str) -> tuple[Any, str]:
    from facexlib.detection.retinaface import RetinaFace as Network

    state = read_state_dict(path, _WHAT)
    network = "resnet50" if any(name.startswith("body.layer1") for name in state) else "mobile0.25"
    with warnings.catch_warnings():
        # facexlib names torchvision's option for no weights as older versions did; nothing is loaded by it.
        warnings.simplefilter("ignore", UserWarning)
        net = Network(network, device=device)
    load_state_dict(net, state, path)
    return net.eval().requires_grad_(False), network


def _download() -> Path:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / URL.rsplit("/", 1)[1]
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # standard output belongs to the command's answer
            torch.hub.download_url_to_file(URL, str(path))
    except OSError as error:  # urllib's errors are OSErrors
        raise AgfasError(
            f"The weights of the detector 'retinaface' are not at {path}, and {URL} cannot be downloaded ({error})."
            " Download that file where there is a connection, and name it as the detector's weights."
        ) from error
    return path

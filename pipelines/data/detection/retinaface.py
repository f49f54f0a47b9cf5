"""RetinaFace (Deng et al., CVPR 2020) as facexlib implements it: ResNet-50 or MobileNet-0.25, five landmarks."""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.detection import DetectedFace
from pipelines.data.detection.scales import ScaledDetector, SearchScales
from pipelines.data.state_dict import find_weights, load_state_dict, read_state_dict
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256

URL = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth"
_WHAT = "weights of RetinaFace"


class RetinaFace(ScaledDetector):
    """The RetinaFace detector of facexlib.

    Args:
        weights: detection_Resnet50_Final.pth or detection_mobilenet0.25_Final.pth, or a folder with one such file; the
            network follows from the names of the tensors. Default: facexlib's ResNet-50 (104 MB) is downloaded once
            into torch's cache.
        score_threshold: in [0, 1], of the class score.
        nms_threshold: intersection over union above which the box with the lower score is dropped.
        device: torch device.
        longer_side, largest_side, small_face: as in `SearchScales`.

    Raises:
        AgfasError: no file, another file, no connection, or a threshold outside [0, 1].
    """

    name = "retinaface"
    licence = "MIT (facexlib)"

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
        scales = SearchScales(longer_side, largest_side, small_face)
        super().__init__(scales, score_threshold=score_threshold, nms_threshold=nms_threshold)
        path = _download() if weights is None else find_weights(weights, _WHAT)
        self._net = _build(path, device)
        self.sha256 = file_sha256(path)

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        import torch

        with torch.inference_mode():
            # facexlib expects BGR and returns rows of 15: left, top, right, bottom, score, five times x and y.
            rows = self._net.detect_faces(
                picture[:, :, ::-1], self.thresholds["score_threshold"], self.thresholds["nms_threshold"]
            )
        return [DetectedFace.from_corners(row[:5], row[5:15]) for row in np.asarray(rows, dtype=np.float32)]


def _build(path: Path, device: str) -> Any:
    from facexlib.detection.retinaface import RetinaFace as Network

    state = read_state_dict(path, _WHAT)
    network = "resnet50" if any(name.startswith("body.layer1") for name in state) else "mobile0.25"
    with warnings.catch_warnings():
        # facexlib passes torchvision's deprecated option `pretrained=False`.
        warnings.simplefilter("ignore", UserWarning)
        net = Network(network, device=device)
    load_state_dict(net, state, path)
    return net.eval().requires_grad_(False)


def _download() -> Path:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / URL.rsplit("/", 1)[1]
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # standard output is for the command's result
            torch.hub.download_url_to_file(URL, str(path))
    except OSError as error:  # urllib's errors are OSErrors
        raise AgfasError(
            f"The weights of the face detector 'retinaface' are not at {path}, and {URL} cannot be downloaded"
            f" ({error}). Download that file on a machine with a connection, and name it with --weights."
        ) from error
    return path

"""Face parsing: which pixels of a crop are face, by facexlib's BiSeNet (Yu et al., ECCV 2018) for CelebAMask-HQ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipelines.data.state_dict import find_weights, load_state_dict, read_state_dict
from pipelines.fingerprint import file_sha256

if TYPE_CHECKING:
    import torch

# The classes of CelebAMask-HQ, in the order of the network's outputs.
CLASSES = (
    "background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip
# The classes that a cue without background keeps (AG-FAS, DFG with a dagger).
FACE_CLASSES = (
    "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "nose", "mouth", "upper lip", "lower lip",
)  # fmt: skip
_SIZE = 512
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pictures in one forward pass: the logits of 19 classes at 512 x 512 in float32 take 20 MB each.
_AT_ONCE = 8


class Parser(Protocol):
    """Makes face masks."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the masks, in JSON's types."""

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, H, W) uint8, 1 face, 0 background."""


class FaceParser:
    """BiSeNet as a `Parser`.

    Args:
        weights: facexlib's parsing_bisenet.pth, or a folder with only this weight file. Nothing is downloaded.

    Raises:
        AgfasError: no weight file, several, or not a state dict of BiSeNet with 19 classes.
    """

    def __init__(self, weights: Path) -> None:
        from facexlib.parsing.bisenet import BiSeNet

        path = find_weights(weights, "weights of BiSeNet (facexlib's parsing_bisenet.pth)")
        net = BiSeNet(num_class=len(CLASSES))
        load_state_dict(net, read_state_dict(path, "weights of BiSeNet"), path)
        self.net = net.eval().requires_grad_(False)
        self._sha256 = file_sha256(path)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the masks, in JSON's types."""
        return {"parser": "bisenet", "weights": self._sha256, "size": _SIZE, "classes": list(FACE_CLASSES)}

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, H, W) uint8, 1 face, 0 background.

        The network runs at 512 x 512, its training size. A pixel is face if at least half of its area is.

        Raises:
            ValueError: another shape or type.
        """
        import torch

        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise ValueError(f"pictures must be (B, H, W, 3) uint8, not {pictures.shape} {pictures.dtype}.")
        with torch.inference_mode():
            parts = [self._masks(part) for part in torch.from_numpy(pictures).split(_AT_ONCE) if len(part)]
        return np.concatenate(parts) if parts else np.zeros(pictures.shape[:3], np.uint8)

    def _masks(self, pictures: torch.Tensor) -> np.ndarray:
        import torch
        from torch.nn import functional as F

        size = pictures.shape[1:3]
        classes = self.net(_prepare(pictures))[0].argmax(dim=1)  # (B, 512, 512)
        wanted = torch.tensor([CLASSES.index(name) for name in FACE_CLASSES])
        face = torch.isin(classes, wanted).float()[:, None]
        share = F.interpolate(face, size=tuple(size), mode="area")[:, 0]
        return (share >= 0.5).to(torch.uint8).numpy()


def _prepare(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, 512, 512) float32, normalised by ImageNet's mean and deviation."""
    import torch
    from torch.nn import functional as F

    values = pictures.permute(0, 3, 1, 2).float() / 255
    values = F.interpolate(values, size=(_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
    return (values - mean) / deviation

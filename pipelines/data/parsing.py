"""Which pixels of a crop are the face, by facexlib's BiSeNet (Yu et al., ECCV 2018), trained on CelebAMask-HQ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.state_dict import find_weights, load_state_dict, read_state_dict
from pipelines.fingerprint import file_sha256

if TYPE_CHECKING:
    import torch

# The classes of CelebAMask-HQ, in the order of the net's outputs.
CLASSES = (
    "background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip
# What a cue without background keeps (methods of AG-FAS, DFG with a dagger): no hair, hat, neck, cloth or jewellery.
FACE_CLASSES = (
    "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "nose", "mouth", "upper lip", "lower lip",
)  # fmt: skip
_SIZE = 512
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of 512 x 512 pixels at once: 19 classes in float32 take 20 MB a picture.
_AT_ONCE = 8


class FaceParser:
    """Crops of faces to masks of the face.

    Args:
        weights: facexlib's parsing_bisenet.pth, or a folder with nothing else of that kind. Nothing is downloaded.
        device: torch's name of where it runs.

    Raises:
        AgfasError: no file, several, or one that is no state dict of BiSeNet with 19 classes.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        from facexlib.parsing.bisenet import BiSeNet

        path = find_weights(weights, "weights of BiSeNet (facexlib's parsing_bisenet.pth)")
        net = BiSeNet(num_class=len(CLASSES))
        load_state_dict(net, read_state_dict(path, "weights of BiSeNet"), path)
        self.net = net.eval().requires_grad_(False).to(device)
        self.device = device
        self._sha256 = file_sha256(path)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the masks, in JSON's types."""
        return {"parser": "bisenet", "weights": self._sha256, "size": _SIZE, "classes": list(FACE_CLASSES)}

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (B, H, W, 3) uint8 RGB to masks (B, H, W) uint8, 1 where the face is and 0 elsewhere.

        Each picture is brought to 512 x 512, at which the net was trained, and normalised as on ImageNet. A pixel of
        the picture is of the face where at least half of its share of the net's 512 x 512 pixels is.

        Raises:
            ValueError: another shape or type.
        """
        import torch

        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise ValueError(f"pictures (B, H, W, 3) in uint8 are expected; got {pictures.shape} {pictures.dtype}.")
        with torch.inference_mode():
            parts = [self._masks(part) for part in torch.from_numpy(pictures).split(_AT_ONCE) if len(part)]
        return np.concatenate(parts) if parts else np.zeros(pictures.shape[:3], np.uint8)

    def _masks(self, pictures: torch.Tensor) -> np.ndarray:
        import torch
        from torch.nn import functional as F

        size = pictures.shape[1:3]
        classes = self.net(_prepare(pictures.to(self.device)))[0].argmax(dim=1)  # (B, 512, 512)
        wanted = torch.tensor([CLASSES.index(name) for name in FACE_CLASSES], device=self.device)
        face = torch.isin(classes, wanted).float()[:, None]
        share = F.interpolate(face, size=tuple(size), mode="area")[:, 0]
        return (share >= 0.5).to(torch.uint8).cpu().numpy()


def _prepare(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, 512, 512) float32 as the net expects it."""
    import torch
    from torch.nn import functional as F

    values = pictures.permute(0, 3, 1, 2).float() / 255
    values = F.interpolate(values, size=(_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (torch.tensor(v, device=values.device).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
    return (values - mean) / deviation

"""A finished run with untrained networks, and a face detector that finds what the test painted."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output_folder import make_experiment, make_output, save_detector, write_faces
from PIL import Image

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.data.detection import DetectedFace
from pipelines.data.faces import open_faces
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_json
from pipelines.fingerprint import folder_sha256

SIZE = 32
SWEEP = {
    "variants": [
        {"label": "image_only", "set": {"detector": {"name": "image_only", "preset": "tiny"}}},
        {"label": "zero", "set": {"cue.source": "zero"}},
        {"label": "dfg", "set": {"cue.source": "dfg"}},
        {"label": "shuffled", "set": {"cue.source": "shuffled"}},
        {"label": "autoencoder", "set": {"cue.source": "autoencoder", "cue.form": "residual"}},
        {"label": "fast", "set": {"cue.dtype": "bfloat16", "cue.channels_last": True, "cue.scheduler": "unipc"}},
        {"label": "masked", "set": {"cue.mask": "face"}},
        {"label": "late", "set": {"seed": 5}},
    ]
}


@lru_cache(maxsize=1)
def shared_run(place: Path) -> Path:
    """The output folder of `make_run`, made once for all modules of a test session; nobody may change it."""
    make_run(place / "verdict" / "out")
    return place / "verdict" / "out"


def make_run(root: Path) -> list[Planned]:
    """An output folder with untrained detectors and an untrained generator, `late` being half done."""
    write_faces(root.parent / "faces", size=SIZE)
    experiment = make_experiment(
        root,
        data={"name": "dataset", "path": str(root.parent / "faces"), "size": SIZE},
        detector={"name": "oanet", "preset": "tiny"},
        cue={"timestep": 161, "num_inference_steps": 25, "form": "two_part", "samples": 2},
        sweep=SWEEP,
    )
    planned = make_output(root, experiment, unfinished=("late",))
    for number, item in enumerate(planned[:-1]):
        save_detector(item, number)
    _save_generator(planned[2])
    return planned


def write_face(root: Path, row: int = 3) -> Path:
    """A picture file of a face of the run's dataset."""
    path = root.parent / f"face {row}.png"
    Image.fromarray(np.asarray(open_faces(root.parent / "faces", SIZE).images[row])).save(path)
    return path


def _save_generator(item: Planned) -> None:
    folder = Workspace(item.experiment).generator()
    autoencoder = PatchAutoencoder(4, 8)
    autoencoder.fit(torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    unet = build_unet("tiny", in_channels=8, sample_size=SIZE // 4, cross_attention_dim=128)
    identity = IdentityEncoder.from_preset("tiny")
    pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(), identity)
    pipeline.save_pretrained(folder / "pipeline")
    write_json(folder / "done.json", {"weights_sha256": folder_sha256(folder / "pipeline"), "live_faces": 21})


class PaintedFaces:
    """Finds squares painted in pure red, by the contract of `FaceDetector`; no network, no weights."""

    name = "painted"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name, "threshold": self.threshold, "size": (1, 2)}

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        red = (picture[..., 0] > 240) & (picture[..., 1] < 15) & (picture[..., 2] < 15)
        # The smallest first: who wants the largest must look.
        return sorted((_face(*box) for box in _boxes(red)), key=lambda face: face.area)


class LeftHalf:
    """A face parser to which the left half of every crop is the face."""

    def __init__(self, sha256: str = "0") -> None:
        self.sha256 = sha256

    def fingerprint(self) -> dict[str, Any]:
        return {"parser": "left half", "weights": self.sha256}

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        masks = np.zeros(pictures.shape[:3], np.uint8)
        masks[..., : pictures.shape[2] // 2] = 1
        return masks


def paint(width: int, height: int, faces: list[tuple[int, int, int]], seed: int = 0) -> np.ndarray:
    """A noisy grey photo with red frames (left, top, side) that `PaintedFaces` finds."""
    photo = np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)
    photo[..., 1] = photo[..., 0]
    for left, top, side in faces:
        photo[top : top + 2, left : left + side] = (255, 0, 0)
        photo[top : top + side, left : left + 2] = (255, 0, 0)
    return photo


def _boxes(red: np.ndarray) -> list[tuple[int, int, int]]:
    """Corners (left, top) with the length of the red line that runs down from them."""
    boxes = []
    for top, left in np.argwhere(red):
        starts = not red[top - 1, left] if top else True
        before = red[top, left - 1] if left else False
        if starts and not before and left + 1 < red.shape[1] and red[top : top + 4, left].all():
            down = red[top:, left]
            side = len(down) if down.all() else int(np.argmin(down))
            boxes.append((int(left), int(top), side))
    return boxes


def _face(left: int, top: int, side: int) -> DetectedFace:
    shares = np.array([(0.35, 0.28), (0.66, 0.28), (0.5, 0.5), (0.38, 0.72), (0.62, 0.72)], dtype=np.float32)
    landmarks = shares * side + np.array([left, top], dtype=np.float32)
    return DetectedFace(np.array([left, top, side, side], dtype=np.float32), landmarks, 0.9)

"""Untrained models to export, without a run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from oanet.detectors import Detector, build_detector
from oanet.names import CUE_CHANNELS
from pipelines.cues.settings import CueSettings
from pipelines.export.parity import Faces
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.crops import load_parts
from pipelines.verdict.scorer import Maker, Scorer
from pipelines.verdict.settings import About, FaceSettings, ModelSettings, ThresholdSettings

SIZE = 32
ABOUT = About(
    dataset="a test", dataset_fingerprint="0123456789abcdef", drawn=True, train_domains=["webcam"], counts=[],
    objective="erm", seed=0, steps=1, parameters=1, generator=None, measured=None, parts=[], versions={},
)  # fmt: skip


def untrained(
    detector: Detector | str = "resnet18",
    cue: CueSettings | None = None,
    maker: Maker | None = None,
    yunet: Path | None = None,
    threshold: float = 0.5,
    **face: Any,
) -> FaceAntiSpoofing:
    """A model of a seeded detector at its tiny preset, which judges crops of 32 pixels cut at 48."""
    if isinstance(detector, str):
        detector = spread(
            build_detector(detector, preset="tiny", **({"cue_channels": CUE_CHANNELS[cue.form]} if cue else {}))
        )
    loaded = load_parts(None if yunet is None else "yunet", yunet, None)
    settings = ModelSettings(
        label="untrained",
        fold="all",
        detector=detector.name,
        sees=detector.sees,
        face=FaceSettings(**{"size": SIZE, "crop_size": 48, "template": "agfas", "template_known": True, **face}),
        cue=cue,
        threshold=ThresholdSettings(value=threshold, rule="dev_eer", selection="last", step=1, origin="of a test"),
        face_detector=loaded.detector_part,
    )
    return FaceAntiSpoofing(settings, Scorer(detector.eval(), cue, maker, "0"), lambda: ABOUT, loaded)


def spread(detector: Detector) -> Detector:
    """Running statistics that are drawn too, and deeper maps: scores of a new network hardly differ."""
    torch.random.default_generator.manual_seed(1)
    for name, buffer in detector.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.3, 1.5)
    if isinstance(depth := getattr(detector, "depth", None), torch.nn.Conv2d):
        depth.weight.data.abs_().mul_(20)
    return detector.eval()


@lru_cache(maxsize=1)
def generator() -> DeFakePipeline:
    """An untrained generator of faces of 32 pixels."""
    autoencoder = PatchAutoencoder(4, 8)
    autoencoder.fit(torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    unet = build_unet("tiny", in_channels=8, sample_size=SIZE // 4, cross_attention_dim=128)
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), IdentityEncoder.from_preset("tiny"))


def some_faces(size: int, number: int = 5) -> Faces:
    """Smooth seeded pictures, which cost no drawing."""
    random = np.random.default_rng(size)
    blocks = random.integers(0, 256, (number, -(-size // 4), -(-size // 4), 3), dtype=np.uint8)
    crops = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :size, :size]
    return Faces(crops, crops[::-1].copy(), "of a test")

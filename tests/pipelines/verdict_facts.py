"""A model's settings and facts, written by hand, for what is said of a model in words."""

from __future__ import annotations

from pipelines.experiment.config import CueSettings
from pipelines.verdict.settings import (
    About,
    Count,
    FaceSettings,
    GeneratorFacts,
    LoadedPart,
    Measured,
    ModelSettings,
    Part,
    ThresholdSettings,
)

SETTINGS = ModelSettings(
    label="ours",
    fold="to_phone",
    detector="oanet",
    face=FaceSettings(size=32, crop_size=48, template="arcface", template_known=False),
    cue=CueSettings(timestep=161, num_inference_steps=25, samples=2),
    threshold=ThresholdSettings(
        value=0.5, rule="source_dev_eer", selection="last", step=400, origin="EER of 9 held-out source videos (kiosk)"
    ),
    face_detector=LoadedPart(name="yunet", fingerprint={}, licence="MIT"),
)
MEASURED = Measured(
    domains=["phone"],
    live_videos=8,
    attack_videos=31,
    hter=0.11,
    far=0.12,
    bpcer=0.13,
    acer=0.14,
    auc=0.95,
    apcer_per_type={"print": 0.2, "mask": 0.3},
    videos_per_type={"print": 20, "mask": 11},
    intervals={
        **{"hter": (0.05, 0.2), "far": (0.06, 0.21), "bpcer": (0.07, 0.22), "acer": (0.08, 0.23), "auc": (0.9, 0.99)},
        "apcer mask": (0.1, 0.4567),
    },
    replicates=1000,
)
ABOUT = About(
    dataset="the faces of a test",
    dataset_fingerprint="0123",
    drawn=False,
    train_domains=["kiosk", "webcam"],
    counts=[
        Count(domain="kiosk", kind="live", split="train", faces=1200, videos=12, subjects=3),
        Count(domain="webcam", kind="print", split="train", faces=34, videos=5, subjects=4),
        Count(domain="webcam", kind="live", split="dev", faces=7, videos=6, subjects=2),
    ],
    objective="SA-FAS",
    seed=3,
    steps=500,
    parameters=1234567,
    generator=GeneratorFacts(domains=["corpus"], live_faces=2100, steps=90, preset="tiny"),
    measured=MEASURED,
    parts=[Part(what="this program", source="AG-FAS", licence="Apache-2.0")],
    versions={"torch": "2.0", "python": "3.11"},
)

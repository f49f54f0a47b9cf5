"""Settings of experiments that are over in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment

SMALL_LIMITED: dict[str, Any] = {
    "data": {
        "name": "synthetic", "size": 32, "domains": ["webcam", "phone", "tablet"], "subjects": 5, "live_videos": 1,
        "attack_videos": 1, "frames": 1, "corpus_subjects": 5, "corpus_images": 2,
    },
    "protocol": {"name": "limited", "train": ["phone", "webcam"], "test": ["tablet"]},
    "train.steps": 4,
    "train.warmup": 0,
    "train.per_cell": 2,
    "evaluate.replicates": 100,
}  # fmt: skip
"""What makes a configuration small: two source domains of faces of 32 pixels, and one target."""

_LOOP = {"steps": 2, "batch_size": 4, "log_every": 1}


def chain_settings(root: Path) -> dict[str, Any]:
    """Every stage, at the least size that does something.

    The cue's encoder has eight channels: with four, oneDNN 3.12 (torch 2.14) writes beyond its buffer in the backward
    pass of a 1 x 1 convolution of stride 2 in channels_last where torch has one thread, and the process is aborted.
    """
    return {
        "name": "tiny",
        "output": str(root),
        "data": {
            "name": "synthetic", "size": 32, "domains": ["webcam", "phone"], "subjects": 5, "live_videos": 1,
            "attack_videos": 1, "frames": 1, "corpus_subjects": 5, "corpus_images": 3,
        },
        "identity": {"name": "trained", "loop": _LOOP},
        "generator": {
            "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 8},
            "unet": {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "attention_head_dim": 4},
            "loop": {**_LOOP, "ema_decay": 0.9},
        },
        "cue": {"timestep": 41, "batch_size": 8, "shard_size": 16, "form": "two_part"},
        "detector": {
            "name": "oanet", "preset": "tiny", "image_size": 32,
            "backbone_options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
            "cue_options": {"layers": [1, 1], "channels": [8, 8], "stem_type": "deep", "stem_width": 4},
        },
        "train": {"steps": 2, "warmup": 1, "per_cell": 2, "evaluations": 2, "log_every": 1},
        "evaluate": {"replicates": 100},
    }  # fmt: skip


def one_of(name: str, **more: Any) -> Experiment:
    """An experiment whose cues a generator of that name makes."""
    return build_experiment({"generator": {"name": name}, "cue": {"source": name}, **more}, "the test")

"""Small jobs of every kind, each reading what those before it made: from pictures to a saved model and its answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SIDE = 32
_PEOPLE = 8
_LOOP = {"steps": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 1, "warmup": 1}
_DOMAINS = ["photos"]
# The cue's encoder has eight channels, because oneDNN's backward pass is wrong for four on one thread.
EXPERIMENT: dict[str, Any] = {
    "name": "torture",
    "output": "run",
    "data": {"name": "dataset", "path": "faces", "size": SIDE},
    "identity": {"name": "trained", "domains": _DOMAINS, "loop": {**_LOOP, "optimizer": "sgd"}},
    "generator": {
        "domains": _DOMAINS,
        "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 8},
        "unet": {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "attention_head_dim": 4},
        "loop": {**_LOOP, "ema_decay": 0.9},
    },
    "cue": {"timestep": 41, "batch_size": 8, "shard_size": 16, "form": "two_part"},
    "detector": {
        "name": "oanet", "preset": "tiny", "image_size": SIDE,
        "backbone_options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        "cue_options": {"layers": [1, 1], "channels": [8, 8], "stem_type": "deep", "stem_width": 4},
    },
    "train": {
        "steps": 2, "warmup": 1, "per_cell": 2, "evaluations": 2, "log_every": 1, "checkpoint_every": 1,
        "optimizer": "adam",
    },
    "evaluate": {"replicates": 100},
    "protocol": {"name": "within"},
}  # fmt: skip
_FILE = "experiment.yaml"


@dataclass(frozen=True)
class Job:
    """A command that makes something.

    Attributes:
        name: of the kind.
        arguments: of `agfas`; a name with a star is that of the one file or folder that it fits.
    """

    name: str
    arguments: tuple[str, ...]

    def command(self, folder: Path) -> list[str]:
        """The arguments in a folder."""
        return [str(next(iter(folder.glob(a))).relative_to(folder)) if "*" in a else a for a in self.arguments]


_CROPS = ("--aligned", "--size", str(SIDE), "--workers", "1")
JOBS = (
    Job("prepare", ("prepare", "pictures", "--out", "faces", "--domain", *_DOMAINS, *_CROPS)),
    Job("train-dfg", ("train-dfg", _FILE)),
    Job("cues", ("cues", _FILE)),
    Job("train", ("train", _FILE)),
    Job("evaluate", ("evaluate", _FILE)),
    Job("report", ("report", "run")),
    Job("save-model", ("save-model", "run", "--out", "model")),
    Job("detect", ("detect", "pictures/attack/person0", "--model", "model", "--aligned", "--csv", "answers.csv")),
    Job("export-cues", ("export-cues", "run/cues/*", "parcel")),
    Job("import-cues", ("import-cues", "parcel", "imported")),
)  # fmt: skip


def draw_pictures(folder: Path) -> None:
    """Write the pictures of some people and the experiment's file."""
    draws = np.random.default_rng(0)
    for person in range(_PEOPLE):
        for kind, count in (("bonafide", 3), ("attack", 2)):
            place = folder / "pictures" / kind / f"person{person}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    (folder / _FILE).write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")

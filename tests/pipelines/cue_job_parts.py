"""A tiny generator, a source without a model, and faces, for the tests of the cue job."""

from __future__ import annotations

import numpy as np
import torch

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import CueJob
from pipelines.pixels import to_unit_range

SIZE, COUNT = 16, 11


KEYS = [f"cam{i % 2}/s{i // 4}/v{i // 2}/{i:03d}" for i in range(COUNT)]


WEIGHTS, AUTOENCODER = "weights", "autoencoder"


def some_images(count=COUNT, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


FACES = ArrayFaces(KEYS, some_images())


def tiny_pipeline(autoencoder=None):
    if autoencoder is None:
        autoencoder = PatchAutoencoder(patch_size=4, latent_channels=8)
        autoencoder.fit(to_unit_range(some_images(32, seed=1)))
    identity = IdentityEncoder.from_preset(
        "tiny", layers=(1, 1, 1, 1), widths=(4, 4, 4, 8), input_size=16, embedding_dim=None
    )
    unet = build_unet(
        "tiny",
        in_channels=8,
        sample_size=4,
        cross_attention_dim=8,
        block_out_channels=(8, 8, 8),
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), identity)


class Blur:
    """A source without a model: values move half-way to their mean, and by a shift that the key decides."""

    timestep = 3

    def __init__(self, strength=0.5):
        self.strength = strength
        self.calls = []

    def fingerprint(self):
        return {"name": "blur", "strength": self.strength}

    def __call__(self, image, keys):
        self.calls.append((tuple(image.shape), list(keys)))
        shift = torch.tensor([int(key[-3:]) / 500 for key in keys])[:, None, None, None]
        return image + self.strength * (image.mean((1, 2, 3), keepdim=True) - image) + shift


def make(root, source, faces=FACES, **options):
    running = {name: options.pop(name) for name in ("rank", "world_size") if name in options}
    settings = {"dataset_fingerprint": "faces", "batch_size": 2, "shard_size": 4, **options}
    return CueJob.open(faces, source, root, **settings).run(show_progress=False, **running)


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}

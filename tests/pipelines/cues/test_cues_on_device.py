"""Cues on a GPU, by its look-alike: from the first U-Net call of a batch to the last, nothing is waited for."""

from __future__ import annotations

import torch
from cue_job_parts import AUTOENCODER, KEYS, WEIGHTS, some_images, tiny_pipeline
from lookalike import waits_between_calls

from dfg.baselines import build_baseline
from pipelines.cues.settings import AncestralSettings, RestorationSettings
from pipelines.cues.sources import BaselineSweep, DfgSweep
from pipelines.pixels import to_unit_range


def test_a_batch_at_several_t_with_several_samples(lookalike):
    image, keys = to_unit_range(some_images(2)), KEYS[:2]
    settings = RestorationSettings(samples=2, calls=2, scheduler="unipc")
    expected = DfgSweep(tiny_pipeline(), (0, 201, 801), WEIGHTS, AUTOENCODER, settings).restore(image, keys, (201,))
    sweep = DfgSweep(tiny_pipeline().to("cuda"), (0, 201, 801), WEIGHTS, AUTOENCODER, settings)
    assert sweep.prepares_ahead
    sweep.restore(image, keys, (0,))  # looks up once whether the autoencoder is fitted
    restored = {}

    def restore() -> None:
        restored.update(sweep.restore(image, keys, sweep.timesteps))

    assert waits_between_calls(lookalike, sweep.pipeline.unet, restore) == []
    torch.testing.assert_close(restored[201].cpu(), expected[201], atol=1e-4, rtol=1e-4)


def test_a_batch_of_a_baseline_with_several_samples(lookalike):
    model = build_baseline("anoddpm", "tiny", 16).to("cuda").eval()
    sweep = BaselineSweep(model, WEIGHTS, (50, 100), AncestralSettings(samples=2, calls=2))
    image = to_unit_range(some_images(2))
    assert waits_between_calls(lookalike, model.unet, lambda: sweep.restore(image, KEYS[:2], (50, 100))) == []

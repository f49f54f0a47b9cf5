import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from dfg.objective import DenoisingObjective
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet


def _count(preset: str, **arguments) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_unet(preset, **arguments).parameters())


def test_sd15_is_stable_diffusions():
    with torch.device("meta"):
        ours, reference = build_unet("sd15", in_channels=4, sample_size=32), UNet2DConditionModel()
    assert sum(p.numel() for p in ours.parameters()) == 859_520_964
    # diffusers' own defaults are Stable Diffusion 1.x, but for the width of its text tokens.
    shapes = {n: tuple(p.shape) for n, p in ours.state_dict().items()}
    default = {n: tuple(p.shape) for n, p in reference.state_dict().items()}
    assert shapes.keys() == default.keys()
    assert shapes["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"] == (1280, 768)
    assert ours.config["attention_head_dim"] == 8
    assert ours.config["block_out_channels"] == (320, 640, 1280, 1280)


def test_compact_has_its_published_size():
    assert _count("compact", in_channels=4, sample_size=32) == 111_677_316


def test_tiny_stays_tiny():
    assert _count("tiny", in_channels=48, sample_size=16) < 6_000_000


def test_construction_is_seeded_and_overridable():
    first, again, other = (build_unet("tiny", in_channels=16, sample_size=16, seed=s).conv_in.weight for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    wide = build_unet("tiny", in_channels=16, sample_size=16, cross_attention_dim=512, layers_per_block=2)
    assert wide.config["cross_attention_dim"] == 512
    assert wide.config["layers_per_block"] == 2
    assert wide.config["sample_size"] == 16


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="tiny, compact, sd15"):
        build_unet("small", in_channels=4, sample_size=32)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(3, 48, 8, 8, generator=generator),
        "tokens": torch.randn(3, 49, 40, generator=generator),
        "noise": torch.randn(3, 48, 8, 8, generator=generator),
        "timesteps": torch.tensor([0, 500, 999]),
    }


def test_loss_is_the_formula(unet, batch):
    scheduler = sd_scheduler()
    loss = DenoisingObjective(unet, scheduler)(batch)["loss"]
    total = 0.0
    for i, t in enumerate(batch["timesteps"].tolist()):
        abar = scheduler.alphas_cumprod[t].item()
        noisy = abar**0.5 * batch["latents"][i] + (1 - abar) ** 0.5 * batch["noise"][i]
        predicted = unet(noisy[None], t, encoder_hidden_states=batch["tokens"][i : i + 1]).sample[0]
        total += ((predicted - batch["noise"][i]) ** 2).mean().item() / 3
    assert abs(loss.item() - total) < 1e-5


def test_noise_and_timesteps_come_from_the_generator(unet, batch):
    given = {"latents": batch["latents"], "tokens": batch["tokens"]}
    losses = [
        DenoisingObjective(unet, sd_scheduler(), torch.Generator().manual_seed(s))(given)["loss"].item()
        for s in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_timesteps_are_drawn_uniformly(unet, batch):
    objective = DenoisingObjective(unet, sd_scheduler(), torch.Generator().manual_seed(0))
    drawn = objective._draw_timesteps(batch["latents"].repeat(4000, 1, 1, 1)[:, :1, :1, :1])
    assert (drawn.min(), drawn.max()) == (0, 999)
    assert abs(drawn.float().mean() - 499.5) < 8


def test_training_lowers_the_loss_and_reaches_the_tokens(unet, batch):
    objective = DenoisingObjective(unet, sd_scheduler())
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    first = objective(batch)["loss"].item()
    for _ in range(20):
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()
    assert objective(batch)["loss"].item() < 0.8 * first
    keys = [p for n, p in unet.named_parameters() if "attn2.to_k" in n]
    assert keys
    assert all(p.grad.abs().max() > 0 for p in keys)


def test_the_schedule_is_not_saved_with_the_weights(unet):
    assert all(name.startswith("unet.") for name in DenoisingObjective(unet, sd_scheduler()).state_dict())


def test_other_predictions_are_refused(unet):
    scheduler = sd_scheduler()
    scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ValueError, match="'sample'"):
        DenoisingObjective(unet, scheduler)

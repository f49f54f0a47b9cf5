"""Each baseline's own arithmetic, by hand and against slow or independent computations."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from dfg.baselines import build_baseline
from dfg.baselines.anoddpm import AnoDdpmObjective, ancestral_mean, ancestral_steps, linear_alphas_cumprod
from dfg.baselines.deep_svdd import DeepSvddObjective, away_from_zero
from dfg.baselines.memae import MemAEObjective, Memory, entropy
from dfg.noise import generator_for_key

# MemAE


def memory_of(items: list[list[float]], shrink: float) -> Memory:
    memory = Memory(len(items), len(items[0]), shrink)
    memory.items.data = torch.tensor(items)
    return memory


def test_addressing_by_hand():
    # Dot products ln 1, ln 2, ln 5 give softmax weights 1/8, 2/8, 5/8; above 1/4 only the last is left.
    items = [[math.log(1.0)], [math.log(2.0)], [math.log(5.0)]]
    query = torch.ones(1, 1)
    torch.testing.assert_close(memory_of(items, 0.0).address(query), torch.tensor([[1 / 8, 2 / 8, 5 / 8]]))
    # lambda = 1/5 leaves 2/8 and 5/8, which share 1 as 2 to 5.
    torch.testing.assert_close(memory_of(items, 0.2).address(query), torch.tensor([[0, 2 / 7, 5 / 7]]))
    torch.testing.assert_close(memory_of(items, 0.3).address(query), torch.tensor([[0.0, 0, 1]]))
    torch.testing.assert_close(memory_of(items, 0.7).address(query), torch.zeros(1, 3))


def test_addressing_is_by_the_plain_dot_product():
    # The second slot points elsewhere but is long: a cosine would choose the first.
    memory = memory_of([[1.0, 0.0], [10.0, 10.0]], 0.1)
    weights = memory.address(torch.tensor([[1.0, 0.0]]))
    assert weights.argmax() == 1


def slow_memory(code: torch.Tensor, items: torch.Tensor, shrink: float) -> torch.Tensor:
    """Position by position and slot by slot, in Python's own floats."""
    rebuilt = torch.zeros_like(code)
    for face in range(code.shape[0]):
        for row in range(code.shape[2]):
            for column in range(code.shape[3]):
                query = code[face, :, row, column].tolist()
                powers = [math.exp(sum(q * m for q, m in zip(query, slot, strict=True))) for slot in items.tolist()]
                weights = [power / sum(powers) for power in powers]
                kept = [w if w > shrink else 0.0 for w in weights]
                total = sum(kept)
                for slot, weight in zip(items.tolist(), kept, strict=True):
                    for channel, value in enumerate(slot):
                        rebuilt[face, channel, row, column] += value * (weight / total if total else 0.0)
    return rebuilt


def test_memory_equals_the_slow_one():
    torch.manual_seed(0)
    memory = Memory(7, 5, 0.14)
    code = torch.randn(2, 5, 3, 4) * 2
    rebuilt, weights = memory(code)
    torch.testing.assert_close(rebuilt, slow_memory(code, memory.items, 0.14), atol=1e-5, rtol=1e-4)
    sums = weights.sum(1)
    assert ((sums - 1).abs() < 1e-5).logical_or(sums == 0).all()
    assert (weights == 0).any()


def test_first_slots_lie_within_one_over_the_root_of_their_width():
    torch.manual_seed(0)
    items = Memory(500, 16, 0.0).items
    assert items.abs().max() <= 0.25
    assert items.abs().max() > 0.24


def test_entropy_by_hand():
    weights = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert entropy(weights).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_memae_loss_is_error_and_weighted_entropy(faces):
    model = build_baseline("memae", "tiny", 32, channels=(4, 8), slots=9, shrink=0.1).eval()
    parts = MemAEObjective(model, entropy_weight=0.5)({"image": faces})
    restored, weights = model(faces)
    error = (restored - faces).square().mean()
    torch.testing.assert_close(parts["loss"], error + 0.5 * entropy(weights))
    assert (parts["reconstruction"], parts["entropy"]) == (error, entropy(weights))
    assert parts["unanswered"] == (weights.sum(1) == 0).float().mean()


def test_memory_can_only_give_mixtures_of_its_slots(faces):
    memory = build_baseline("memae", "tiny", 32, channels=(4, 8), slots=9, shrink=0.05).memory
    rebuilt, _ = memory(torch.randn(2, 8, 3, 3) * 30)
    low, high = memory.items.amin(0).view(1, -1, 1, 1), memory.items.amax(0).view(1, -1, 1, 1)
    assert (rebuilt >= torch.minimum(low, torch.zeros(())) - 1e-6).all()
    assert (rebuilt <= torch.maximum(high, torch.zeros(())) + 1e-6).all()


# Deep SVDD


@pytest.fixture
def svdd():
    return build_baseline("deep_svdd", "tiny", 32, channels=(4, 8, 8), bottleneck=6)


def test_nothing_in_the_encoder_can_be_constant(svdd):
    names = {name for name, _ in svdd.named_parameters() if name.startswith(("encoder", "narrow"))}
    assert names
    assert not any("bias" in name for name in names)
    # Convolutions and the narrow layer alone: no scale or shift of a normalisation.
    assert len(names) == 3 + 1
    norms = [layer for layer in svdd.encoder if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {layer.eps for layer in norms} == {1e-4}


def test_a_coordinate_near_zero_is_pushed_away():
    given = torch.tensor([0.0, 0.05, -0.05, 0.1, -0.1, 0.4, -3.0])
    torch.testing.assert_close(away_from_zero(given), torch.tensor([0.1, 0.1, -0.1, 0.1, -0.1, 0.4, -3.0]))


def test_the_centre_is_the_mean_embedding_whatever_the_batches(svdd, faces):
    svdd.train()
    svdd.fix_center([faces[:3], faces[3:]])
    assert svdd.training
    svdd.eval()
    with torch.no_grad():
        mean = torch.stack([svdd.embed(face[None])[0] for face in faces]).mean(0)
    torch.testing.assert_close(svdd.center, away_from_zero(mean), atol=1e-5, rtol=1e-5)
    assert svdd.center.any()
    with pytest.raises(ValueError, match="none"):
        svdd.fix_center([])


def test_the_distance_counts_once_the_centre_is_fixed(svdd, faces):
    svdd.eval()
    objective = DeepSvddObjective(svdd, compactness_weight=0.3)
    before = objective({"image": faces})
    assert before["compactness"] == 0
    torch.testing.assert_close(before["loss"], before["reconstruction"])
    svdd.fix_center([faces])
    after = objective({"image": faces})
    restored, embedding = svdd(faces)
    distance = (embedding - svdd.center).square().mean()
    torch.testing.assert_close(after["loss"], (restored - faces).square().mean() + 0.3 * distance)
    assert after["compactness"] > 0


def test_the_distance_draws_embeddings_together(faces):
    spreads = []
    for weight in (0.0, 10.0):
        model = build_baseline("deep_svdd", "tiny", 32, channels=(4, 8, 8), bottleneck=6).eval()
        model.fix_center([faces])
        objective, optimizer = DeepSvddObjective(model, weight), torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(25):
            optimizer.zero_grad()
            objective({"image": faces})["loss"].backward()
            optimizer.step()
        spreads.append((model.embed(faces) - model.center).square().mean().item())
    assert spreads[1] < 0.2 * spreads[0]


# AnoDDPM


def ddpm() -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", variance_type="fixed_small"
    )


def test_the_schedule_is_ddpms():
    ours = linear_alphas_cumprod()
    torch.testing.assert_close(ours[1:].float(), ddpm().alphas_cumprod, atol=1e-6, rtol=1e-5)
    assert ours[0] == 1
    assert float(ours[200]) == pytest.approx(0.659, abs=0.003)
    assert float(ours[200]) ** 0.5 == pytest.approx(0.81, abs=0.005)


def test_as_many_steps_down_as_up():
    assert ancestral_steps(200) == list(range(200, 0, -1))
    assert ancestral_steps(200, 50) == list(range(200, 0, -4))
    for timestep, calls in ((0, None), (1001, None), (20, 21), (20, 0)):
        with pytest.raises(ValueError, match=r"timestep=|calls="):
            ancestral_steps(timestep, calls)


@pytest.fixture
def denoiser():
    return build_baseline("anoddpm", "tiny", 32, channels=(4, 8), norm_num_groups=4).eval()


def test_the_way_down_is_diffusers_ddpm(denoiser, faces):
    """The same face by the independent scheduler, which draws from the same stream in the same order."""
    scheduler, stream = ddpm(), generator_for_key("face", 3)
    face = faces[:1]
    noise = torch.randn(face.shape, generator=stream)
    x = scheduler.add_noise(face, noise, torch.tensor([6]))
    with torch.no_grad():
        for index in range(6, -1, -1):
            x = scheduler.step(denoiser(x, torch.tensor([index])), index, x, generator=stream).prev_sample
    ours = denoiser.reconstruct(face, ["face"], timestep=7, seed=3)
    torch.testing.assert_close(ours, x.clamp(-1, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("calls", [None, 5])
def test_who_knows_the_face_restores_it(denoiser, faces, keys, monkeypatch, calls):
    left = linear_alphas_cumprod().float()

    def exact(noisy, index):
        abar = left[index + 1].view(-1, 1, 1, 1)
        return (noisy - abar.sqrt() * faces) / (1 - abar).sqrt()

    monkeypatch.setattr(denoiser, "forward", exact)
    restored = denoiser.reconstruct(faces, keys, timestep=60, calls=calls)
    torch.testing.assert_close(restored, faces, atol=2e-3, rtol=0)


def test_steps_that_are_skipped_have_the_posterior_of_a_long_one():
    """q(x_s | x_t, x_0) by Bayes' rule on one value: the product of q(x_t | x_s) and q(x_s | x_0)."""
    left = linear_alphas_cumprod()
    now, following, x, clean = float(left[80]), float(left[50]), 0.4, 0.7
    alpha = now / following
    precision = alpha / (1 - alpha) + 1 / (1 - following)
    mean = (alpha**0.5 * x / (1 - alpha) + following**0.5 * clean / (1 - following)) / precision
    epsilon = torch.tensor([(x - now**0.5 * clean) / (1 - now) ** 0.5])
    found, deviation = ancestral_mean(torch.tensor([x]), epsilon, now, following)
    assert found.item() == pytest.approx(mean, abs=1e-6)
    assert deviation == pytest.approx(precision**-0.5, abs=1e-9)


def test_noise_is_named_by_key_and_seed(denoiser, faces):
    one = faces[:1].expand(2, -1, -1, -1)
    same = denoiser.reconstruct(one, ["a", "a"], timestep=9)
    torch.testing.assert_close(same[0], same[1])  # not to the last bit: some CPUs round the rows of a batch apart
    other = denoiser.reconstruct(one, ["a", "b"], timestep=9)
    assert (other[0] - other[1]).abs().mean() > 0.01
    assert (denoiser.reconstruct(one, ["a", "a"], timestep=9, seed=1) - same).abs().mean() > 0.01
    with pytest.raises(ValueError, match="2 faces need as many keys"):
        denoiser.reconstruct(one, ["a"], timestep=9)


def test_the_objective_asks_for_the_noise_that_was_put_in(denoiser, faces, monkeypatch):
    noise, index = torch.randn(faces.shape), torch.tensor([0, 199, 500, 999])
    seen = {}

    def spy(noisy, timesteps):
        seen.update(noisy=noisy, timesteps=timesteps)
        return torch.zeros_like(noisy)

    monkeypatch.setattr(denoiser, "forward", spy)
    loss = AnoDdpmObjective(denoiser)({"image": faces, "noise": noise, "timesteps": index})["loss"]
    torch.testing.assert_close(loss, noise.square().mean())
    torch.testing.assert_close(seen["noisy"], ddpm().add_noise(faces, noise, index), atol=1e-5, rtol=1e-4)
    assert torch.equal(seen["timesteps"], index)


def test_attention_is_at_16_and_8_with_two_heads():
    from dfg.baselines.anoddpm import AnoDdpm

    with torch.device("meta"):
        unet = AnoDdpm().unet
    kinds = unet.config["down_block_types"]
    assert [256 // 2**level for level, kind in enumerate(kinds) if kind.startswith("Attn")] == [16, 8]
    assert {block.attentions[0].heads for block in unet.down_blocks[-2:]} == {2}

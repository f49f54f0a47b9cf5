"""Cached keys and values: bit-equal to projecting them in every call, projected once, never those of another face."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from dfg.attention import CachedCrossAttention, cached_cross_attention, install_cached_attention, use_attention
from dfg.pipeline import DeFakePipeline
from dfg.schedule import ddim_step, sd_scheduler, timesteps_from
from dfg.speed import Speed
from dfg.unet import build_unet


def cross_attentions(unet) -> list[Attention]:
    return [m for m in unet.modules() if isinstance(m, Attention) and m.is_cross_attention]


@pytest.fixture
def projections(pipeline):
    """Rows that went through each cross-attention's key and value projection."""
    counted: dict[str, int] = {}
    handles = []
    for number, layer in enumerate(cross_attentions(pipeline.unet)):
        for name in ("to_k", "to_v"):
            place = f"{number}.{name}"
            counted[place] = 0

            def count(_, arguments, place=place):
                counted[place] += len(arguments[0])

            handles.append(getattr(layer, name).register_forward_pre_hook(count))
    yield counted
    for handle in handles:
        handle.remove()


def test_a_face_is_projected_once_per_layer_for_all_t(pipeline, faces, keys, projections):
    latents, tokens = pipeline.encode(faces), pipeline.identity_tokens(faces)
    noise = pipeline.draw_noise(latents, keys)
    with pipeline.conditioned(tokens) as conditioning:
        for timestep in (201, 401, 601):
            pipeline.restore_latents(latents, conditioning, timestep, 10, noise)
    assert len(projections) == 2 * len(cross_attentions(pipeline.unet)) > 0
    assert set(projections.values()) == {len(faces)}


def test_cached_or_not_the_bits_are_the_same(pipeline, faces, keys):
    latents, tokens = pipeline.encode(faces), pipeline.identity_tokens(faces)
    noise = pipeline.draw_noise(latents, keys)
    with pipeline.conditioned(tokens) as conditioning:
        cached = pipeline.restore_latents(latents, conditioning, 201, 50, noise)
    with torch.no_grad():
        assert torch.equal(cached, by_hand(pipeline, latents, tokens, noise))


def by_hand(pipeline, latents, tokens, noise):
    """DDIM on the grid with the U-Net's own attention, without a cache."""
    steps = timesteps_from(pipeline.scheduler, 201)
    abar = float(pipeline.scheduler.alphas_cumprod[201])
    noisy = abar**0.5 * latents + (1 - abar) ** 0.5 * noise
    assert all(isinstance(layer.processor, AttnProcessor2_0) for layer in cross_attentions(pipeline.unet))
    for t, following in zip(steps, [*steps[1:], None], strict=True):
        epsilon = pipeline.unet(noisy, t, encoder_hidden_states=tokens).sample
        noisy = ddim_step(pipeline.scheduler, noisy, epsilon, t, following)
    return noisy


def test_a_preconditioned_unet_caches_too(autoencoder, encoder, faces, keys):
    options = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}
    unet = build_unet(
        "tiny", in_channels=48, sample_size=8, cross_attention_dim=40, latent_variance=[1.0] * 48, **options
    )
    tokens = torch.randn(4, 49, 40, generator=torch.Generator().manual_seed(0))
    noisy = torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(unet.net.conv_out.weight, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = unet(noisy, 401, tokens).sample
        with cached_cross_attention(unet, tokens):
            assert torch.equal(unet(noisy, 401, tokens).sample, plain)
        assert not torch.equal(unet(noisy, 401, tokens * 2).sample, plain)


def test_other_tokens_are_refused_while_some_are_cached(pipeline, faces):
    tokens = pipeline.identity_tokens(faces)
    noisy = torch.zeros(4, 48, 8, 8)
    with pipeline.conditioned(tokens), pytest.raises(ValueError, match="other tokens"):
        pipeline.unet(noisy, 1, encoder_hidden_states=tokens.clone())
    # Afterwards the U-Net is as it was, also after an error.
    assert all(isinstance(layer.processor, AttnProcessor2_0) for layer in cross_attentions(pipeline.unet))
    pipeline.unet(noisy, 1, encoder_hidden_states=tokens.clone())


def test_installed_processors_stay_and_their_cache_is_cleared(pipeline, faces, keys):
    grid = {"timestep": 201, "num_inference_steps": 10}
    wanted = pipeline(faces, keys=keys, **grid).image
    install_cached_attention(pipeline.unet)
    assert torch.equal(pipeline(faces, keys=keys, **grid).image, wanted)
    processors = [layer.processor for layer in cross_attentions(pipeline.unet)]
    assert all(isinstance(processor, CachedCrossAttention) and processor.key is None for processor in processors)


def test_eager_attention_is_the_same_attention(pipeline, faces, keys):
    wanted = pipeline(faces, timestep=201, keys=keys).image
    use_attention(pipeline.unet, "eager")
    layers = [module for module in pipeline.unet.modules() if isinstance(module, Attention)]
    assert all(isinstance(layer.processor, AttnProcessor) for layer in layers)
    torch.testing.assert_close(pipeline(faces, timestep=201, keys=keys).image, wanted, atol=1e-4, rtol=1e-4)


def test_eager_attention_cached_or_not_the_bits_are_the_same(pipeline, faces, projections):
    use_attention(pipeline.unet, "eager")
    tokens = pipeline.identity_tokens(faces)
    noisy = torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = pipeline.unet(noisy, 401, encoder_hidden_states=tokens).sample
        before = dict(projections)
        with pipeline.conditioned(tokens) as conditioning:
            cached = pipeline.predict_noise(noisy, 401, conditioning)
    assert torch.equal(cached, plain)
    assert {place: count - before[place] for place, count in projections.items()} == dict.fromkeys(before, len(faces))


def test_guidance_is_its_formula(pipeline, faces, keys):
    noisy = torch.randn(4, 48, 8, 8, generator=torch.Generator().manual_seed(1))
    tokens = pipeline.identity_tokens(faces)
    noise = {}
    for scale in (0.0, 1.0, 3.0):
        with pipeline.conditioned(tokens, scale) as conditioning:
            noise[scale] = pipeline.predict_noise(noisy, 401, conditioning)
    with torch.no_grad():
        none = pipeline.unet(noisy, 401, encoder_hidden_states=torch.zeros_like(tokens)).sample
    torch.testing.assert_close(noise[0.0], none, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(noise[3.0], none + 3 * (noise[1.0] - none), atol=1e-5, rtol=1e-4)
    assert (noise[3.0] - noise[1.0]).abs().max() > 1e-4


def test_guidance_reaches_the_face_and_is_off_at_one(pipeline, faces, keys):
    plain, off, on = (
        pipeline(faces, timestep=201, num_inference_steps=10, keys=keys, **options).image
        for options in ({}, {"guidance_scale": 1.0}, {"guidance_scale": 4.0})
    )
    assert torch.equal(plain, off)
    assert not torch.equal(plain, on)
    with pytest.raises(ValueError, match="0 or more"):
        pipeline(faces, keys=keys, guidance_scale=-1.0)


def test_bfloat16_stays_near_even_where_the_linear_part_is_by_hand(autoencoder, encoder, faces, keys):
    """The schedule in bfloat16 would be off by 0.4 %; it stays float32."""
    options = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}
    unet = build_unet(
        "tiny", in_channels=48, sample_size=8, cross_attention_dim=40, latent_variance=[1.0] * 48, **options
    )
    pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder)
    grid = {"timestep": 401, "num_inference_steps": 10}
    exact = pipeline(faces, keys=keys, **grid).latents
    unet.to(torch.bfloat16)
    # The network's own part is zero before training, so that all that can differ is what was done by hand.
    torch.testing.assert_close(pipeline(faces, keys=keys, **grid).latents, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what to do without CUDA")
def test_xformers_without_cuda_is_refused(unet):
    with pytest.raises(ValueError, match=r"CUDA .* attention: sdpa"):
        use_attention(unet, "xformers")


def test_an_unknown_kernel_is_refused(unet):
    use_attention(unet, "sdpa")
    with pytest.raises(ValueError, match="sdpa, eager, xformers"):
        use_attention(unet, "flash")


@pytest.mark.slow
def test_a_compiled_unet_is_traced_once_for_all_faces_t_and_steps(pipeline, faces, keys, monkeypatch):
    """With dynamo's plain backend: the same bits, one graph, and no second one for other faces' keys and values."""
    plain = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, dynamic, options: plain(self, backend="eager", dynamic=dynamic)
    )
    wanted = [pipeline(faces, timestep=t, num_inference_steps=10, keys=keys).image for t in (201, 301)]
    Speed(compile=True).apply(pipeline)
    torch._dynamo.utils.counters.clear()
    found = [pipeline(faces, timestep=t, num_inference_steps=10, keys=keys).image for t in (201, 301)]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    pipeline(-faces, timestep=201, num_inference_steps=10, keys=keys)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_unet_does_not_freeze_a_face(pipeline, faces, keys):
    """With the real compiler and frozen weights: the cached keys and values are not frozen."""
    others = faces.flip(0).contiguous()
    wanted = [pipeline(some, timestep=101, keys=keys).image for some in (faces, others)]
    Speed(compile=True, channels_last=True).apply(pipeline)
    found = [pipeline(some, timestep=101, keys=keys).image for some in (faces, others)]
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="float32, bfloat16"):
        Speed(dtype="float16")
    with pytest.raises(ValueError, match="autoencoder_dtype='half' must be one of float32, bfloat16"):
        Speed(autoencoder_dtype="half")


def attention(**options) -> Attention:
    return Attention(query_dim=32, cross_attention_dim=6, heads=2, dim_head=4, **options)


@pytest.mark.parametrize("eager", [False, True])
def test_a_layer_without_a_cache_is_diffusers(eager):
    ours, theirs = CachedCrossAttention(eager), AttnProcessor() if eager else AttnProcessor2_0()
    layer, hidden, tokens = attention(rescale_output_factor=2.0), torch.randn(3, 5, 32), torch.randn(3, 7, 6)
    assert torch.equal(ours(layer, hidden, tokens), theirs(layer, hidden, tokens))
    own = Attention(query_dim=32, heads=2, dim_head=4)
    assert torch.equal(ours(own, hidden), theirs(own, hidden))
    with pytest.raises(ValueError, match="attention_mask is not supported"):
        ours(layer, hidden, tokens, torch.ones(3, 7))


def test_an_installed_layer_works_without_a_cache(unet):
    noisy, tokens = torch.randn(1, 48, 8, 8), torch.randn(1, 49, 40)
    expected = unet(noisy, 1, tokens).sample
    install_cached_attention(unet)
    assert torch.equal(unet(noisy, 1, tokens).sample, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"residual_connection": True}, {"norm_num_groups": 2}, {"spatial_norm_dim": 4}, {"added_kv_proj_dim": 8},
        {"cross_attention_norm": "layer_norm"}, {"qk_norm": "layer_norm"},
    ],
)  # fmt: skip
def test_a_layer_that_does_more_keeps_its_processor(options):
    layers = torch.nn.ModuleList([attention(), attention(**options), Attention(query_dim=32, heads=2, dim_head=4)])
    install_cached_attention(layers)
    assert [isinstance(layer.processor, CachedCrossAttention) for layer in layers] == [True, False, False]


def test_xformers_is_switched_on_where_it_can_be(monkeypatch):
    class Switch:
        on = package = False

        def enable_xformers_memory_efficient_attention(self):
            if not self.package:
                raise ModuleNotFoundError
            self.on = True

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    switch = Switch()
    with pytest.raises(ValueError, match=r"needs the package: pip install \"agfas\[xformers\]\""):
        use_attention(switch, "xformers")
    switch.package = True
    use_attention(switch, "xformers")
    assert switch.on

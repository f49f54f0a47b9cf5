from types import SimpleNamespace

import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

import dfg.pipeline
from dfg.autoencoder import encode_latents
from dfg.identity import IdentityEncoder
from dfg.noise import generator_for_key, noise_for_keys
from dfg.pipeline import DeFakePipeline, to_pil
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet


@pytest.fixture
def calls(pipeline):
    """The timesteps at which the U-Net was called."""
    seen: list[int] = []
    handle = pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.append(int(arguments[1])))
    yield seen
    handle.remove()


@pytest.mark.slow
def test_801_takes_41_calls(pipeline, faces, keys, calls):
    output = pipeline(faces, keys=keys)
    assert calls == list(range(801, 0, -20))
    assert output.image.shape == faces.shape
    assert output.image.abs().max() <= 1
    assert output.latents.shape == (4, 48, 8, 8)


def test_golden_slice(pipeline, faces, keys):
    image = pipeline(faces, timestep=201, keys=keys).image
    golden = torch.tensor([-0.11878, 0.08560, -0.15780, -0.17476])
    torch.testing.assert_close(image[1, 0, 10, 10:14], golden, atol=2e-3, rtol=0)


def test_a_batch_equals_its_singles(pipeline, faces, keys):
    grid = {"timestep": 401, "num_inference_steps": 10}
    batch = pipeline(faces, keys=keys, **grid).image
    for i in range(4):
        single = pipeline(faces[i : i + 1], keys=keys[i : i + 1], **grid).image
        assert (single - batch[i : i + 1]).abs().max() < 1e-5


def test_again_is_bit_equal_and_seeds_differ(pipeline, faces, keys):
    first, again, other = (
        pipeline(faces, timestep=201, num_inference_steps=10, keys=keys, seed=s).image for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_noise_is_the_autoencoder_alone(pipeline, faces, calls):
    assert (pipeline(faces, timestep=0).image - faces).abs().max() < 1e-5
    assert not calls


def test_true_noise_restores_the_face(pipeline, faces, keys, monkeypatch):
    """A U-Net that knew the noise would give the face back, up to the schedule's last 3 % of noise."""
    noise = noise_for_keys(keys, (48, 8, 8))
    monkeypatch.setattr(pipeline.unet, "forward", lambda *_, **__: type("Output", (), {"sample": noise})())
    latents = pipeline(faces, timestep=601, keys=keys).latents
    clean = encode_latents(pipeline.autoencoder, faces)
    abar = pipeline.scheduler.alphas_cumprod[0]
    torch.testing.assert_close(latents, abar.sqrt() * clean + (1 - abar).sqrt() * noise, atol=1e-3, rtol=0)


def test_the_steps_by_hand_are_the_call(pipeline, faces, keys):
    """Several timesteps can share encode, tokens and noise."""
    latents, tokens = pipeline.encode(faces), pipeline.identity_tokens(faces)
    noise = pipeline.draw_noise(latents, keys)
    for timestep in (201, 401):
        with pipeline.conditioned(tokens) as conditioning:
            restored = pipeline.decode(pipeline.restore_latents(latents, conditioning, timestep, 10, noise))
        assert torch.equal(restored, pipeline(faces, timestep=timestep, num_inference_steps=10, keys=keys).image)


def test_generators_and_keys_are_two_names_of_one_stream(pipeline, faces, keys):
    generators = [generator_for_key(key, 4) for key in keys]
    arguments = {"timestep": 101, "num_inference_steps": 10}
    by_generator = pipeline(faces, generators=generators, **arguments).image
    assert torch.equal(by_generator, pipeline(faces, keys=keys, seed=4, **arguments).image)


def test_progress_counts_the_calls(pipeline, faces, keys):
    seen: list[tuple[int, int]] = []
    arguments = {"timestep": 101, "num_inference_steps": 10, "keys": keys}
    pipeline(faces, **arguments, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_the_identity_matters_and_can_be_left_out(pipeline, faces, keys):
    arguments = {"timestep": 401, "num_inference_steps": 10, "keys": keys}
    with_identity, without = (pipeline(faces, condition=c, **arguments).latents for c in ("identity", "none"))
    assert (with_identity - without).abs().max() > 1e-4
    assert not pipeline.identity_tokens(faces, "none").any()
    tokens = pipeline.identity_tokens(faces)
    assert tokens.shape == pipeline.identity_tokens(faces, "none").shape == (4, 49, 40)
    assert not tokens[..., 32:].any()


def test_save_and_load_is_bit_equal(pipeline, faces, keys, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = DeFakePipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.identity_encoder, IdentityEncoder)
    ours, theirs = (p(faces, timestep=201, num_inference_steps=10, keys=keys) for p in (pipeline, loaded))
    assert torch.equal(ours.image, theirs.image)
    assert torch.equal(ours.latents, theirs.latents)
    assert not list(tmp_path.rglob("*.bin"))


def test_it_works_without_an_identity_encoder(pipeline, faces, keys, tmp_path):
    bare = DeFakePipeline(pipeline.autoencoder, pipeline.unet, pipeline.scheduler)
    bare.save_pretrained(tmp_path)
    loaded = DeFakePipeline.from_pretrained(tmp_path)
    assert loaded.identity_encoder is None
    grid = {"timestep": 201, "num_inference_steps": 10, "condition": "none"}
    assert torch.equal(loaded(faces, keys=keys, **grid).image, pipeline(faces, keys=keys, **grid).image)
    assert loaded.identity_tokens(faces, "none").shape == (4, 49, 40)
    with pytest.raises(ValueError, match="condition='none'"):
        loaded(faces, keys=keys)


def test_a_model_of_the_hub_is_fetched_and_no_code_of_it_is_run(pipeline, tmp_path, monkeypatch):
    pipeline.save_pretrained(tmp_path / "snapshot")
    asked = []

    def download(*given):
        asked.append(given)
        return tmp_path / "snapshot"

    monkeypatch.setattr(dfg.pipeline, "download", download)
    plain = DiffusionPipeline.from_pretrained.__func__

    def opened(cls, place, **options):
        asked.append((place, options))
        return plain(cls, place, **options)

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(opened))
    loaded = DeFakePipeline.from_pretrained("owner/name", revision="v1", use_safetensors=False)
    assert torch.equal(loaded.unet.conv_in.weight, pipeline.unet.conv_in.weight)
    assert asked[:2] == [
        ("owner/name", "DeFakePipeline", {"revision": "v1", "use_safetensors": False}),
        (tmp_path / "snapshot", {"revision": "v1", "use_safetensors": True, "trust_remote_code": False}),
    ]


def test_bfloat16_unets_are_driven_in_float32(pipeline, faces, keys):
    exact = pipeline(faces, timestep=201, keys=keys)
    pipeline.unet.to(torch.bfloat16)
    rounded = pipeline(faces, timestep=201, keys=keys)
    assert rounded.image.dtype == rounded.latents.dtype == torch.float32
    assert 0 < (rounded.latents - exact.latents).abs().mean() < 0.05


def test_pictures_of_pil(pipeline, faces, keys):
    pictures = pipeline(faces, timestep=1, keys=keys, output_type="pil").image
    assert [picture.size for picture in pictures] == [(32, 32)] * 4
    values = torch.tensor([-1.5, -1.0, -0.995, -0.99, 0.0, 0.008, 1.0, 1.5])  # 0.64, 1.275, 127.5, 128.52
    row = to_pil(values.view(1, 1, 1, 8).repeat(1, 3, 2, 1) * torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1))[0]
    assert row.size == (8, 2)
    assert [row.getpixel((x, 1))[0] for x in range(8)] == [0, 0, 1, 1, 128, 129, 255, 255]
    assert [row.getpixel((x, 1))[2] for x in range(8)] == [255, 255, 254, 254, 128, 126, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timestep": 800}, "801 and 781"),
        ({"keys": None}, "keys"),
        ({"keys": ["one"]}, "4 faces need"),
        ({"condition": "face"}, "identity, none"),
        ({"output_type": "np"}, "'pt' or 'pil'"),
        ({"image": torch.zeros(4, 3, 32, 32, dtype=torch.uint8)}, "float"),
        ({"image": torch.full((4, 3, 32, 32), 255.0)}, r"\[-1, 1\]"),
        ({"image": torch.full((4, 3, 32, 32), float("nan"))}, r"\[-1, 1\]"),
        ({"image": torch.zeros(4, 1, 32, 32)}, "B, 3, H, W"),
    ],
)
def test_mistakes_teach(pipeline, faces, keys, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"image": faces, "keys": keys, **arguments})


def test_components_that_do_not_fit(pipeline, autoencoder, unet, encoder):
    with pytest.raises(ValueError, match="in_channels=48"):
        DeFakePipeline(autoencoder, build_unet("tiny", in_channels=4, sample_size=8), sd_scheduler(), encoder)
    for channels in ({"in_channels": 47}, {"out_channels": 47}):
        sizes = {"in_channels": 48, "out_channels": 48, **channels}
        with pytest.raises(ValueError, match="latents have 48 channels"):
            DeFakePipeline(autoencoder, SimpleNamespace(config=sizes), sd_scheduler(), encoder)
    wide = IdentityEncoder.from_preset("tiny")
    with pytest.raises(ValueError, match="identity tokens of 128"):
        DeFakePipeline(autoencoder, unet, sd_scheduler(), wide)
    scheduler = sd_scheduler()
    scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ValueError, match="epsilon"):
        DeFakePipeline(autoencoder, unet, scheduler, encoder)

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

from dfg.autoencoder import calibrate_scale, decode_latents, encode_latents, latent_channels
from dfg.noise import seeded
from dfg.taesd import TaesdAutoencoder, load_taesd


@pytest.fixture
def taesd() -> TaesdAutoencoder:
    with seeded(0):
        return TaesdAutoencoder(latent_channels=8).eval()


def _save(model: TaesdAutoencoder, folder) -> tuple:
    paths = folder / "encoder.pth", folder / "decoder.pth"
    for path, part in zip(paths, (model.encoder, model.decoder), strict=True):
        torch.save({name: tensor.half() for name, tensor in part.state_dict().items()}, path)
    return paths


def test_shapes(taesd, faces):
    latents = encode_latents(taesd, faces)
    assert latents.shape == (4, 8, 4, 4)
    assert decode_latents(taesd, latents).shape == faces.shape
    assert taesd(faces).shape == faces.shape


def test_without_pooled_blocks_it_is_diffusers_autoencoder_tiny(faces):
    with seeded(1):
        ours = TaesdAutoencoder(latent_channels=4, pooled=False).eval()
    reference = AutoencoderTiny(latent_channels=4).eval()
    reference.encoder.layers.load_state_dict(ours.encoder.state_dict())
    # diffusers keeps the clamp outside its list of layers, so its numbers are one lower.
    shifted = {f"{int(n.split('.')[0]) - 1}.{n.split('.', 1)[1]}": t for n, t in ours.decoder.state_dict().items()}
    reference.decoder.layers.load_state_dict(shifted)
    with torch.no_grad():
        torch.testing.assert_close(encode_latents(ours, faces), encode_latents(reference, faces))
        latents = encode_latents(ours, faces) * 5
        torch.testing.assert_close(ours.decode(latents).sample, reference.decode(latents).sample)


@pytest.mark.parametrize("pooled", [True, False])
def test_state_dicts_tell_the_variant(faces, tmp_path, pooled):
    with seeded(2):
        source = TaesdAutoencoder(latent_channels=12, pooled=pooled).eval().half().float()
    loaded = load_taesd(*_save(source, tmp_path))
    assert (loaded.config["latent_channels"], loaded.config["pooled"]) == (12, pooled)
    with torch.no_grad():
        assert torch.equal(loaded(faces), source(faces))


def test_names_of_the_published_files(taesd):
    encoder, decoder = taesd.encoder.state_dict(), taesd.decoder.state_dict()
    assert {
        "0.weight",
        "1.conv.0.weight",
        "2.weight",
        "11.pool.0.weight",
        "13.pool.3.weight",
        "14.bias",
    } <= set(encoder)
    assert {"1.weight", "3.pool.1.bias", "5.pool.3.weight", "7.weight", "18.conv.4.bias", "19.bias"} <= set(decoder)
    assert "0.conv.0.weight" not in decoder
    assert "2.bias" not in encoder


def test_files_of_another_layout(taesd, tmp_path):
    encoder_path, decoder_path = _save(taesd, tmp_path)
    with pytest.raises(ValueError, match="not of the TAESD layout"):
        load_taesd(encoder_path, encoder_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no TAESD encoder"):
        load_taesd(tmp_path / "other.pth", decoder_path)


def test_calibration_survives_saving(taesd, faces, tmp_path):
    taesd.register_to_config(scaling_factor=3.0, shift_factor=2.0)  # of an earlier calibration
    calibrate_scale(taesd, faces)
    with torch.no_grad():
        latents = encode_latents(taesd, faces)
        assert abs(latents.mean()) < 1e-4
        assert abs(latents.std() - 1) < 1e-4
        restored = decode_latents(taesd, latents)
        torch.testing.assert_close(restored, taesd(faces).clamp(-1, 1), atol=1e-4, rtol=0)
        taesd.save_pretrained(tmp_path)
        assert torch.equal(encode_latents(TaesdAutoencoder.from_pretrained(tmp_path), faces), latents)


def test_autoencoder_kl_gives_the_scaled_mode(faces):
    with seeded(3):
        kl = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.18215).eval()
    with torch.no_grad():
        wanted = kl.encode(faces).latent_dist.mean * 0.18215
        torch.testing.assert_close(encode_latents(kl, faces), wanted)
        torch.testing.assert_close(decode_latents(kl, wanted), kl.decode(wanted / 0.18215).sample.clamp(-1, 1))
    assert latent_channels(kl) == 4


@pytest.mark.realdata
def test_taef2_keeps_faces(realdata):
    import numpy as np
    from PIL import Image

    pictures = sorted((realdata / "data" / "live" / "utkface").iterdir())[::500][:8]
    arrays = [np.asarray(Image.open(p).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)) for p in pictures]
    faces = torch.from_numpy(np.stack(arrays)).movedim(-1, 1) / 127.5 - 1
    weights = realdata / "weights"
    model = load_taesd(weights / "taef2_encoder.pth", weights / "taef2_decoder.pth")
    with torch.no_grad():
        error = (model(faces).clamp(-1, 1) - faces).square().mean((1, 2, 3))
    assert (10 * torch.log10(4 / error)).mean() > 34


def test_the_lowest_resolution_has_the_pooled_branch_by_hand(taesd):
    pooled = {"encoder": {"11", "12", "13"}, "decoder": {"3", "4", "5"}}
    for part, blocks in pooled.items():
        assert {name.split(".")[0] for name in getattr(taesd, part).state_dict() if ".pool." in name} == blocks
    block = taesd.encoder[11]
    shapes = {name: tuple(values.shape) for name, values in block.pool.state_dict().items()}
    assert shapes == {
        "0.weight": (256, 64, 1, 1), "1.weight": (256,), "1.bias": (256,), "3.weight": (64, 256, 1, 1)
    }  # fmt: skip
    x = torch.randn(2, 64, 3, 3)
    wide = torch.nn.functional.group_norm(torch.einsum("oc,bchw->bohw", block.pool[0].weight[:, :, 0, 0], x), 4)
    branch = torch.einsum("oc,bchw->bohw", block.pool[3].weight[:, :, 0, 0], wide.relu())
    torch.testing.assert_close(block(x), (block.conv(x + branch) + x + branch).relu(), atol=1e-5, rtol=1e-4)
    latents = torch.randn(1, 8, 2, 2)
    assert torch.equal(taesd.decode(latents, return_dict=False)[0], taesd.decode(latents).sample)
    image = torch.zeros(1, 3, 16, 16)
    assert torch.equal(taesd.encode(image, return_dict=False)[0], taesd.encode(image).latents)

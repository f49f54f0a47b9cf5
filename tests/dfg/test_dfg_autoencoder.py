from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dfg.autoencoder import PatchAutoencoder, check_image, decode_latents, encode_latents, encode_posterior


def test_all_components_lose_nothing(autoencoder, faces):
    assert (autoencoder(faces) - faces).abs().max() < 1e-5


def test_latents_are_principal_components_of_unit_variance(autoencoder, faces):
    latents = encode_latents(autoencoder, faces)
    assert latents.shape == (4, 48, 8, 8)
    flat = latents.movedim(1, -1).flatten(0, -2)
    covariance = torch.cov(flat.T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(48), atol=2e-3, rtol=0)
    assert flat.mean(0).abs().max() < 1e-3


def test_components_equal_a_plain_svd(autoencoder, faces):
    patches = faces.numpy().reshape(4, 3, 8, 4, 8, 4).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 48)
    _, values, vectors = np.linalg.svd(patches - patches.mean(0), full_matrices=False)
    agreement = np.abs((autoencoder.components.numpy() * vectors).sum(1))
    assert agreement[:8].min() > 0.999
    np.testing.assert_allclose(autoencoder.scale.numpy()[:8], values[:8] / len(patches) ** 0.5, rtol=1e-3)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_whitening_keeps_the_overall_deviation_at_one(faces, whitening):
    transform = PatchAutoencoder(4, 48, whitening=whitening)
    transform.fit(faces)
    latents = encode_latents(transform, faces)
    assert abs(latents.square().mean().sqrt() - 1) < 1e-2
    std = latents.movedim(1, 0).flatten(1).std(1)
    ratio = (std[0] / std[20]).item()
    power = torch.linalg.eigvalsh(torch.cov(encode_plain(faces).T, correction=0)).flip(0)
    wanted = (power[0] / power[20]).sqrt().item() ** (1 - whitening)
    assert abs(ratio / wanted - 1) < 0.02


def encode_plain(faces: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pixel_unshuffle(faces, 4).movedim(1, -1).flatten(0, -2)


def test_fewer_components_lose_the_faintest(faces):
    errors = []
    for channels in (4, 16, 32, 48):
        transform = PatchAutoencoder(4, channels)
        transform.fit(faces)
        errors.append((transform(faces) - faces).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    # The error of a principal subspace is the power outside it (Eckart and Young 1936).
    power = torch.linalg.eigvalsh(torch.cov(encode_plain(faces).T, correction=0))
    assert abs(errors[1] * 48 / power[:32].sum().item() - 1) < 1e-3


def test_fitting_is_deterministic_and_blind_to_order(faces):
    first, second = PatchAutoencoder(4, 48), PatchAutoencoder(4, 48)
    first.fit(faces)
    second.fit(faces.flip(0))
    torch.testing.assert_close(first.components, second.components, atol=1e-4, rtol=0)
    largest = first.components.gather(1, first.components.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_constant_pictures_do_not_divide_by_zero():
    transform = PatchAutoencoder(4, 48)
    transform.fit(torch.full((2, 3, 8, 8), 0.25))
    picture = torch.full((1, 3, 8, 8), 0.5)
    assert (transform(picture) - picture).abs().max() < 1e-5
    # The deviation of rounding to 8 bits stands in for none.
    torch.testing.assert_close(transform.scale, torch.full((48,), 2 / 255 / 12**0.5))


def test_faces_are_held_some_at_a_time(autoencoder, faces, monkeypatch):
    monkeypatch.setattr("dfg.autoencoder._CHUNK", 3)
    pieces = PatchAutoencoder(4, 48)
    pieces.fit(faces)
    torch.testing.assert_close(pieces.components, autoencoder.components)
    torch.testing.assert_close(pieces.mean, autoencoder.mean)


@pytest.mark.parametrize(
    ("config", "scale", "shift"),
    [
        ({}, 1.0, 0.0),
        ({"scaling_factor": None, "shift_factor": None}, 1.0, 0.0),
        ({"scaling_factor": 0.5, "shift_factor": 2.0}, 0.5, 2.0),
    ],
)
def test_an_autoencoder_may_have_no_scale_and_no_posterior(faces, config, scale, shift):
    plain = SimpleNamespace(
        config=config,
        dtype=torch.float32,
        encode=lambda x: SimpleNamespace(latents=x),
        decode=lambda z: SimpleNamespace(sample=z),
    )
    latents, deviation = encode_posterior(plain, faces)
    torch.testing.assert_close(latents, (faces - shift) * scale)
    assert torch.equal(deviation, torch.zeros_like(faces))
    torch.testing.assert_close(decode_latents(plain, latents), faces)


def test_pictures_are_batches_of_colours_from_minus_one_to_one():
    for image in (torch.full((1, 3, 2, 2), 1.0009), torch.full((1, 3, 2, 2), -1.0009), torch.zeros(0, 3, 2, 2)):
        check_image(image)
    for shape in ((3, 2, 2), (1, 3, 2), (1, 3, 2, 2, 2)):
        with pytest.raises(ValueError, match="float tensors"):
            check_image(torch.zeros(shape))
    with pytest.raises(ValueError, match="range from"):
        check_image(torch.full((1, 3, 2, 2), -1.0011))


def test_the_posterior_has_no_width(autoencoder, faces):
    posterior = autoencoder.encode(faces).latent_dist
    assert torch.equal(posterior.mode(), posterior.sample(torch.Generator()))
    assert torch.equal(autoencoder.encode(faces, return_dict=False)[0].mode(), posterior.mode())
    assert torch.equal(posterior.std, torch.zeros_like(posterior.mode()))
    latents = posterior.mode()
    assert torch.equal(autoencoder.decode(latents, return_dict=False)[0], autoencoder.decode(latents).sample)


def test_save_and_load(autoencoder, faces, tmp_path):
    autoencoder.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(encode_latents(loaded, faces), encode_latents(autoencoder, faces))
    assert torch.equal(loaded(faces), autoencoder(faces))


def test_decoding_clamps(autoencoder, faces):
    latents = encode_latents(autoencoder, faces) * 50
    assert decode_latents(autoencoder, latents).abs().max() == 1


def test_mistakes(autoencoder, faces):
    with pytest.raises(ValueError, match="between 1 and 48"):
        PatchAutoencoder(4, 49)
    with pytest.raises(ValueError, match="between 1 and 12"):
        PatchAutoencoder(2, 0)
    PatchAutoencoder(2, 1, whitening=0.0)
    for whitening in (-0.1, 1.5):
        with pytest.raises(ValueError, match="whitening"):
            PatchAutoencoder(whitening=whitening)
    with pytest.raises(ValueError, match="not fitted"):
        PatchAutoencoder().encode(faces)
    with pytest.raises(ValueError, match="not fitted"):
        PatchAutoencoder().decode(torch.zeros(1, 16, 8, 8))
    with pytest.raises(ValueError, match="4x4"):
        autoencoder.encode(faces[..., :30])

"""Small autoencoders with a generator's latents: built, fitted into its place, and distilled."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from dfg.autoencoder import PatchAutoencoder, decode_latents, encode_latents
from dfg.taesd import TaesdAutoencoder
from dfg.tiny_autoencoder import TinyAutoencoderObjective, build_tiny, latent_factor, scaling_for, take_place


def kl(levels: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=2,
        layers_per_block=1,
        scaling_factor=0.5,
    )


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_tiny_one_has_the_factor_and_channels_asked_for(factor, faces):
    small = build_tiny(factor, 5, width=4, blocks=1)
    assert latent_factor(small) == factor
    latents = encode_latents(small, faces)
    assert latents.shape == (4, 5, 32 // factor, 32 // factor)
    assert decode_latents(small, latents).shape == faces.shape
    again = build_tiny(factor, 5, width=4, blocks=1)
    assert all(torch.equal(one, other) for one, other in zip(small.parameters(), again.parameters(), strict=True))


def test_no_factor_but_a_power_of_two():
    with pytest.raises(ValueError, match="no factor 3"):
        build_tiny(3, 4)


def test_the_factor_is_that_of_the_latents(faces):
    for model in (kl(1), kl(3), TaesdAutoencoder(4), PatchAutoencoder(2, 4), PatchAutoencoder(3, 4)):
        if isinstance(model, PatchAutoencoder):
            model.fit(torch.rand(8, 3, 24, 24) * 2 - 1)
        assert latent_factor(model) == 24 // encode_latents(model, faces[..., :24, :24]).shape[-1]
    other = torch.nn.Linear(1, 1)
    other.config = {}
    with pytest.raises(ValueError, match="Linear is no autoencoder"):
        latent_factor(other)


def test_it_takes_the_place_of_the_own_one_if_the_latents_are_of_one_kind(pipeline, faces, keys):
    before = pipeline(faces, 201, 10, keys=keys).image
    for wrong, words in ((build_tiny(8, 48, 4, 0), "the factor 8 and 48"), (build_tiny(4, 47, 4, 0), "4 and 47")):
        with pytest.raises(ValueError, match=f"{words} channels, and the generator's have the factor 4 and 48"):
            take_place(pipeline, wrong)
    assert torch.equal(pipeline(faces, 201, 10, keys=keys).image, before)
    small = build_tiny(4, 48, 8, 0)
    take_place(pipeline, small)
    assert pipeline.autoencoder is small
    assert not torch.equal(pipeline(faces, 201, 10, keys=keys).image, before)


def test_a_saved_pipeline_keeps_what_took_the_place(pipeline, faces, keys, tmp_path):
    take_place(pipeline, build_tiny(4, 48, 8, 0, scaling_factor=2.0))
    pipeline.save_pretrained(tmp_path)
    opened = type(pipeline).from_pretrained(tmp_path)
    assert isinstance(opened.autoencoder, AutoencoderTiny)
    assert torch.equal(opened(faces, 201, 10, keys=keys).image, pipeline(faces, 201, 10, keys=keys).image)


def test_scaled_latents_are_what_the_unet_sees(autoencoder, faces):
    largest = float(encode_latents(autoencoder, faces).abs().max())
    scale = scaling_for(autoencoder, faces)
    assert scale == pytest.approx(max(1, largest / 3))
    plain, scaled = (build_tiny(4, 48, 8, 0, scaling_factor=one) for one in (1.0, 2.0))
    torch.testing.assert_close(encode_latents(scaled, faces), 2 * encode_latents(plain, faces))
    latents = torch.randn(2, 48, 8, 8)
    torch.testing.assert_close(decode_latents(scaled, 2 * latents), decode_latents(plain, latents))


def test_distilling_moves_latents_and_pixels_towards_the_own_ones(autoencoder, faces):
    objective = TinyAutoencoderObjective(build_tiny(4, 48, 48, 0, scaling_for(autoencoder, faces)), autoencoder)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 3e-3)
    batch = {"image": faces, "smooth": torch.zeros(4)}
    first = {name: value.item() for name, value in objective(batch).items()}
    assert first["loss"] == pytest.approx(first["latent_loss"] + first["pixel_loss"])
    for _ in range(15):
        objective(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    last = objective(batch)
    assert last["latent_loss"] < 0.8 * first["latent_loss"]
    assert last["pixel_loss"] < 0.5 * first["pixel_loss"]


def test_smoothed_latents_are_those_that_are_decoded(autoencoder, faces, monkeypatch):
    objective = TinyAutoencoderObjective(build_tiny(4, 48, 8, 0), autoencoder)
    seen = []
    decode = objective.student.decode
    monkeypatch.setattr(objective.student, "decode", lambda z: seen.append(z) or decode(z))
    objective({"image": faces, "smooth": torch.tensor([0.0, 1.0, 0.5, 0.0])})
    latents = encode_latents(autoencoder, faces)
    assert torch.equal(seen[0][0], latents[0])
    torch.testing.assert_close(seen[0][1, :, 1, 1], latents[1, :, :3, :3].mean((1, 2)))
    torch.testing.assert_close(seen[0][1, :, 0, 0], latents[1, :, :2, :2].mean((1, 2)))
    torch.testing.assert_close(seen[0][2, :, 1, 1], (latents[2, :, 1, 1] + latents[2, :, :3, :3].mean((1, 2))) / 2)


def test_only_the_student_is_trained_and_kept(autoencoder):
    objective = TinyAutoencoderObjective(build_tiny(4, 48, 4, 0), autoencoder)
    trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert trained == set(objective.state_dict()) == {f"student.{name}" for name in objective.student.state_dict()}
    state = {name: torch.full_like(value, 0.5) for name, value in objective.state_dict().items()}
    kept = autoencoder.components.clone()
    objective.load_state_dict(state)
    assert all(bool((value == 0.5).all()) for value in objective.student.parameters())
    assert torch.equal(autoencoder.components, kept)
    with pytest.raises(RuntimeError, match="Missing key"):
        objective.load_state_dict({})

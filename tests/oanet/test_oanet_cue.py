"""The cue: its forms, its normalisation, its edge cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oanet.cue import form_cue
from oanet.names import CUE_CHANNELS, CUE_FORMS


def pictures(seed: int = 0, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 8, 10, generator=generator) * 2 - 1 for _ in range(count)]


def test_residual_equals_a_numpy_z_score_per_face() -> None:
    image, restored, _ = pictures()
    cue = form_cue(image, restored)
    for face in range(2):
        difference = (image[face] - restored[face]).numpy().astype(np.float64)
        expected = (difference - difference.mean()) / (difference.std(ddof=1) + 1e-8)
        np.testing.assert_allclose(cue[face].numpy(), expected, atol=1e-5)


def test_forms_without_normalisation_are_the_differences() -> None:
    x, r, a = pictures()
    assert torch.equal(form_cue(x, r, a, "residual", "none"), x - r)
    assert torch.equal(form_cue(x, r, a, "compensated", "none"), a - r)
    two_part = form_cue(x, r, a, "two_part", "none")
    assert torch.equal(two_part, torch.cat([x - a, a - r], dim=1))
    torch.testing.assert_close(two_part[:, :3] + two_part[:, 3:], x - r)


def test_two_part_normalises_each_part_by_itself() -> None:
    x, r, a = pictures()
    a = x + 0.001 * a  # a part a thousand times fainter than the other must not vanish
    cue = form_cue(x, r, a, "two_part")
    for part in (cue[:, :3], cue[:, 3:]):
        torch.testing.assert_close(part.std(dim=(1, 2, 3)), torch.ones(2), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.mean(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", CUE_FORMS)
def test_channels_are_those_announced(form: str) -> None:
    x, r, a = pictures()
    assert form_cue(x, r, a, form).shape == (2, CUE_CHANNELS[form], 8, 10)
    assert form_cue(x[0], r[0], a[0], form).shape == (CUE_CHANNELS[form], 8, 10)


def test_normalised_cue_ignores_offset_and_scale_of_the_residual() -> None:
    x, r, _ = pictures()
    cue = form_cue(x, r)
    torch.testing.assert_close(form_cue(x, r + 0.25), cue, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(form_cue(3 * x, 3 * r), cue, rtol=1e-4, atol=1e-5)


def test_a_face_does_not_enter_another_faces_cue() -> None:
    x, r, _ = pictures()
    torch.testing.assert_close(form_cue(x, r)[1], form_cue(x[1:], r[1:])[0])


@pytest.mark.parametrize("offset", [0.0, 0.1, 1 / 3, -1.999])
def test_a_constant_residual_gives_zeros(offset: float) -> None:
    image = torch.full((2, 3, 256, 256), 0.1)
    cue = form_cue(image, image - offset)
    assert torch.equal(cue, torch.zeros_like(cue))


def test_one_changed_pixel_value_is_not_taken_for_a_constant() -> None:
    image = torch.zeros(1, 3, 256, 256)
    image[0, 0, 5, 5] = 1 / 127.5
    cue = form_cue(image, torch.zeros_like(image))
    assert cue.std().item() == pytest.approx(1.0, rel=1e-2)


def test_errors_teach() -> None:
    x, r, _ = pictures()
    with pytest.raises(ValueError, match="did you mean 'residual'"):
        form_cue(x, r, form="residul")
    with pytest.raises(ValueError, match=r"Allowed: none, per_face"):
        form_cue(x, r, normalize="batch")
    with pytest.raises(ValueError, match="needs `autoencoded`"):
        form_cue(x, r, form="two_part")
    with pytest.raises(ValueError, match=r"127\.5"):
        form_cue(x.to(torch.uint8), r)
    with pytest.raises(ValueError, match="one shape"):
        form_cue(x, r[:, :, :4])
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\)"):
        form_cue(x[:, :2], r[:, :2])


def test_a_masked_cue_is_normalised_within_the_mask_and_zero_beside_it() -> None:
    x, r, a = pictures()
    mask = torch.zeros(2, 1, 8, 10)
    mask[0, :, 2:6, 3:9] = 1
    mask[1, :, :4] = 1
    cue = form_cue(x, r, mask=mask)
    for face, kept, residual in zip(cue, mask.bool().expand(2, 3, 8, 10), x - r, strict=True):
        inside = residual[kept].double()
        expected = (inside - inside.mean()) / inside.std()
        torch.testing.assert_close(face[kept].double(), expected, rtol=1e-4, atol=1e-5)
        assert not face[~kept].any()
    plain = form_cue(x, r, a, "two_part", "none", mask)
    torch.testing.assert_close(plain, torch.cat([x - a, a - r], dim=1) * mask)


def test_a_mask_of_ones_changes_nothing_and_an_empty_one_leaves_zeros() -> None:
    x, r, _ = pictures()
    torch.testing.assert_close(form_cue(x, r, mask=torch.ones(2, 1, 8, 10)), form_cue(x, r), rtol=1e-4, atol=1e-5)
    assert not form_cue(x, r, mask=torch.zeros(2, 1, 8, 10)).any()
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 10\)"):
        form_cue(x, r, mask=torch.ones(2, 8, 10))


@pytest.mark.parametrize(("deviation", "scaled"), [(0.9e-6, False), (1.1e-6, True), (2e-6, True)])
def test_faint_differences_are_scaled_down_to_a_millionth(deviation: float, scaled: bool) -> None:
    drawn = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    faint = (drawn - drawn.mean()) / drawn.std() * deviation
    cue = form_cue(faint, torch.zeros_like(faint))
    expected = faint / (deviation + 1e-8) if scaled else torch.zeros_like(faint)
    torch.testing.assert_close(cue, expected, rtol=1e-6, atol=1e-9)


def test_what_has_no_height_is_no_picture() -> None:
    with pytest.raises(ValueError, match=r"`restored` has the shape \(3, 8\); a cue needs"):
        form_cue(torch.zeros(3, 8, 8), torch.zeros(3, 8))

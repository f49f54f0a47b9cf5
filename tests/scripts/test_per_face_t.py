"""A t for each face: the smaller the nearer the face's latents are to those of live faces, whatever its batch."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from dfg.schedule import sd_scheduler
from scripts.per_face_t import MEETING, TIMESTEPS, PerFaceT


def opened() -> PerFaceT:
    """With live latents of mean 0 and variance 1, a limit of 1e-3 nats, and restorations that add t / 1,000."""
    source = PerFaceT.__new__(PerFaceT)
    source.live, source.limit = (torch.zeros(3), torch.ones(3)), 1e-3
    source.alphas = sd_scheduler().alphas_cumprod
    source._sweep = SimpleNamespace(  # type: ignore[assignment]
        pipeline=SimpleNamespace(encode=lambda image: image),
        restore=lambda image, keys, timesteps: {t: image + t / 1000 for t in timesteps},
    )
    return source


def test_t_grows_with_the_distance_from_live_faces():
    source, draws = opened(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    live = (draws - draws.mean((2, 3), keepdim=True)) / draws.std((2, 3), keepdim=True)
    faces = torch.cat([live + shift for shift in (0.0, 0.055, 0.065, 0.08, 0.5, 9.0)])
    chosen = source.choose(faces)
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (TIMESTEPS[0], TIMESTEPS[-1])
    assert len(set(chosen)) > 3
    assert source.choose(faces.flip(0)) == chosen[::-1]
    assert [source.choose(face[None])[0] for face in faces] == chosen
    restored = source(faces, [str(number) for number in range(6)])
    for one, face, t in zip(restored, faces, chosen, strict=True):
        torch.testing.assert_close(one, face + t / 1000)


def test_the_divergence_falls_with_t_and_is_none_for_a_live_face():
    source = opened()
    found = source._divergences(torch.full((1, 3), 0.3), torch.full((1, 3), 0.5))
    assert list(found) == list(TIMESTEPS)
    assert MEETING in found
    values = [float(value) for value in found.values()]
    assert values == sorted(values, reverse=True)
    assert all(float(value) == 0 for value in source._divergences(torch.zeros(1, 3), torch.ones(1, 3)).values())
    kept = float(source.alphas[201])
    variance = 0.5 * kept + 1 - kept
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.3 * kept**0.5, variance**0.5), torch.distributions.Normal(0.0, 1.0)
    )
    assert abs(values[0] - float(expected)) < 1e-6

import hashlib

import pytest
import torch

from dfg.noise import generator_for_key, noise_for_keys, noise_from_generators, seeded

KEYS = ["cam/s1/v1/000", "cam/s1/v1/001", "cam/s2/v1/000"]


def test_a_row_depends_on_its_key_alone():
    together = noise_for_keys(KEYS, (4, 8, 8))
    assert together.shape == (3, 4, 8, 8)
    reversed_rows = noise_for_keys(KEYS[::-1], (4, 8, 8)).flip(0)
    assert torch.equal(together, reversed_rows)
    for i, key in enumerate(KEYS):
        assert torch.equal(noise_for_keys([key], (4, 8, 8))[0], together[i])


def test_the_stream_is_the_documented_one():
    digest = hashlib.sha256(b"5:" + KEYS[0].encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    assert torch.equal(noise_for_keys(KEYS[:1], (2, 3), seed=5)[0], torch.randn(2, 3, generator=generator))


def test_seeds_and_keys_give_independent_noise():
    noise = torch.cat([noise_for_keys(KEYS, (16, 16, 16), seed=s) for s in (0, 1)]).flatten(1)
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 0.08
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03


def test_dtype_converts_the_same_numbers():
    full, half = noise_for_keys(KEYS, (64,)), noise_for_keys(KEYS, (64,), dtype=torch.bfloat16)
    assert torch.equal(full.bfloat16(), half)


def test_the_global_stream_is_left_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    noise_for_keys(KEYS, (4,))
    with seeded(0):
        torch.rand(5)
    assert torch.equal(torch.rand(2), wanted)


def test_the_streams_of_gpus_are_left_alone(monkeypatch):
    asked, plain = [], torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda **options: asked.append(options) or plain(**options))
    with seeded(0):
        pass
    assert asked == [{"devices": []}]


def test_generators_are_used_one_per_row():
    rows = noise_from_generators([generator_for_key(key, 9) for key in KEYS], (3, 5))
    assert torch.equal(rows, noise_for_keys(KEYS, (3, 5), seed=9))


@pytest.mark.parametrize("keys", [[], "cam/s1/v1/000"])
def test_mistaken_keys_are_refused(keys):
    with pytest.raises(ValueError, match="key"):
        noise_for_keys(keys, (4,))

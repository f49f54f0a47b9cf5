"""One random stream per face, keyed by the face.

Which noise a face receives must not depend on its batch, its order, the number of workers, or the device:
otherwise a cue is not a function of its face, and a store cannot be resumed or checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


def generator_for_key(key: str, seed: int = 0) -> torch.Generator:
    """A CPU generator seeded from the SHA-256 of `"{seed}:{key}"`: the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    # 63 bits: torch takes a signed 64-bit seed, and a negative one would be remapped.
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def noise_from_generators(
    generators: Sequence[torch.Generator],
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Standard normal noise (len(generators), *shape), row i drawn from generator i alone.

    Drawn in float32 on each generator's own device and converted afterwards, so that `device` and `dtype`
    do not change which numbers are drawn.

    Raises:
        ValueError: there is no generator.
    """
    if not generators:
        raise ValueError("noise for no faces was asked for: give at least one key or generator.")
    rows = [torch.randn(shape, generator=g, device=g.device) for g in generators]
    return torch.stack([row.to(device=device, dtype=dtype) for row in rows])


def noise_for_keys(
    keys: Sequence[str],
    shape: tuple[int, ...],
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Standard normal noise (len(keys), *shape); row i depends on `keys[i]`, `seed` and `shape` alone.

    Args:
        keys: the records' keys, `domain/subject/video/frame`.
        shape: of one face's latents, (C, h, w).
        seed: makes another noise for every key.

    Raises:
        ValueError: `keys` is empty, or is one string where a sequence of strings is meant.
    """
    if isinstance(keys, str):
        raise ValueError(f"keys must be a sequence of strings, one per face; write keys=[{keys!r}].")
    return noise_from_generators([generator_for_key(key, seed) for key in keys], shape, device, dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise modules from `seed` without touching the global random state.

    torch's layers draw their first weights from the global CPU generator; inside this block it is seeded,
    and afterwards it is as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
